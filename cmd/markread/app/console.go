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
	Group       group.Options // without Monitor, and what it needs of dead letters
	MaxReplays  int
	AllowReplay bool
	// Flags are in the commands that the page shows, and ReplayFlags in `replay`, too.
	Flags, ReplayFlags []string
	Settings           func() []console.Setting // the console's own; nil: not known
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
	if o.Token.IsZero() && !imclient.IsLoopback(c.server.Addr()) {
		o.Log.Info().Str("do", "set MARKREAD_ADMIN_TOKEN to let others log in").
			Msg("other machines get only health and metrics")
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
	c := &groupConsole{log: o.Log}
	monitor := overview.NewMonitor("group", o.Group.Name)
	kafka, topics := o.Group.Kafka, o.Group.Topics
	c.letters = letters.New(letters.Options{
		Topic: kafka, Name: topics.DeadLetter,
		Publisher: func(topic string) deadletter.Publisher { return kafka.Publisher(topic) },
		CheckWritable: func(ctx context.Context, to ...string) error {
			return deadletter.CheckWritable(ctx, kafka, topics.DeadLetter, to...)
		},
		MaxReplays: o.MaxReplays, AllowReplay: o.AllowReplay,
		ReplayTo: cmp.Or(topics.Backfill, topics.Live),
		Rate:     func() float64 { return c.group.Rate() },
		Who:      func(r *http.Request) string { return console.Who(o.Token.Reveal(), r) },
		Record:   monitor.Record, Flags: o.Flags, ReplayFlags: o.ReplayFlags, Log: o.Log,
	})
	o.Group.Monitor, o.Group.Token = monitor, o.Token
	o.Group.CountLetters, o.Group.Replay = c.letters.Count, c.letters.Progress
	o.Group.Command = c.letters.Command
	o.Group.Letters = func(ctx context.Context, report, peer string) (any, error) {
		return c.letters.Conversation(ctx, report, peer)
	}
	c.group = group.New(o.Group)
	var err error
	c.server, err = console.New(console.Options{
		Addr: o.Addr, Flag: "--console-addr", Token: o.Token.Reveal(), Version: o.Version,
		Group: o.Group.Name, Workers: c.group, Monitor: monitor, Letters: c.letters.Handler(),
		Settings: func() console.Settings {
			if o.Settings == nil {
				return c.group.Settings(nil)
			}
			return c.group.Settings(o.Settings())
		},
		ReadOnly: o.Group.ReadOnly, AllowReplay: o.AllowReplay,
		Gatherer: newRegistry(), Log: o.Log,
	})
	return c, err
}

// run serves the console until ctx ends. It fails only if the listener does.
func (c *groupConsole) run(ctx context.Context) error {
	c.log.Info().Str("addr", c.server.Addr()).Msg("console listens")
	ctx, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { c.group.Run(ctx) })
	background.Go(func() { _ = c.letters.Run(ctx) }) // it returns nil
	if err := c.server.Run(ctx); err != nil {
		return fmt.Errorf("console: %w", errors.Unwrap(err))
	}
	return nil
}
