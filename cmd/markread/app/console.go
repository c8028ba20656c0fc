package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/rs/zerolog"

	"markread/consumer/deadletter"
	"markread/imclient"
	"markread/worker/console"
	"markread/worker/console/group"
	"markread/worker/console/letters"
	"markread/worker/console/overview"
)

// ConsoleOptions configures the console of a group.
type ConsoleOptions struct {
	Addr        string
	Token       imclient.Secret
	Group       group.Options // without Monitor
	AllowReplay bool
	// Flags and ReplayFlags are in the commands about dead letters that the page shows; the latter
	// only in replays. They contain no secret.
	Flags, ReplayFlags []string
	Settings           func() []console.Setting // the console's own; nil: none are shown
	Version            string
	Log                zerolog.Logger
	Started            func(addr string) // if non-nil, called once it listens
}

// Console runs the console of a group until ctx ends. It needs neither workers nor Kafka to run.
func Console(ctx context.Context, o ConsoleOptions) error {
	c, err := openConsole(o)
	if err != nil {
		return err
	}
	if o.Started != nil {
		o.Started(c.server.Addr())
	}
	return c.run(ctx)
}

// groupConsole is a console that already listens.
type groupConsole struct {
	server  *console.Server
	group   *group.Group
	letters *letters.Letters
	log     zerolog.Logger
}

// openConsole listens on the console's port. The caller must then call run.
func openConsole(o ConsoleOptions) (*groupConsole, error) {
	o.Group.Monitor = overview.NewMonitor("group", o.Group.Name)
	o.Group.Token = o.Token
	c := &groupConsole{log: o.Log}
	kafka, topics := o.Group.Kafka, o.Group.Topics
	c.letters = letters.New(letters.Options{Topic: kafka, Name: topics.DeadLetter,
		Publisher: func(topic string) deadletter.Publisher { return kafka.Publisher(topic) },
		CheckWritable: func(ctx context.Context, writeTo ...string) error {
			return deadletter.CheckWritable(ctx, kafka, topics.DeadLetter, writeTo...)
		},
		MaxReplays: o.Group.MaxReplays, AllowReplay: o.AllowReplay,
		ReplayTo: cmp.Or(topics.Backfill, topics.Live),
		Rate:     func() float64 { return c.group.Rate() },
		Who:      func(r *http.Request) string { return console.Who(o.Token.Reveal(), r) },
		Record:   o.Group.Monitor.Record, Flags: o.Flags, ReplayFlags: o.ReplayFlags, Log: o.Log})
	o.Group.Replay = c.letters.Progress
	o.Group.Letters = func(ctx context.Context, report, peer string) (any, error) {
		return c.letters.Conversation(ctx, report, peer)
	}
	c.group = group.New(o.Group)
	var err error
	c.server, err = console.New(consoleServer(o, c))
	return c, err
}

// consoleServer returns the options of a group console's server.
func consoleServer(o ConsoleOptions, c *groupConsole) console.Options {
	own := func() []console.Setting { return nil }
	if o.Settings != nil {
		own = o.Settings
	}
	return console.Options{Addr: o.Addr, Flag: "--console-addr", Token: o.Token.Reveal(),
		Version: o.Version, Group: o.Group.Name, Workers: c.group,
		Monitor: o.Group.Monitor, Letters: c.letters.Handler(),
		Settings: func() console.Settings { return c.group.Settings(own()) },
		ReadOnly: o.Group.ReadOnly, AllowReplay: o.AllowReplay,
		Gatherer: newRegistry(), Log: o.Log}
}

// run serves the console until ctx ends. It fails only if the listener does.
func (c *groupConsole) run(ctx context.Context) error {
	c.log.Info().Str("addr", c.server.Addr()).Msg("console listens")
	ctx, stop := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	reading.Go(func() { c.group.Run(ctx) })
	reading.Go(func() { _ = c.letters.Run(ctx) }) // it has no error
	if err := c.server.Run(ctx); err != nil {
		return fmt.Errorf("console: %w", errors.Unwrap(err))
	}
	return nil
}
