package app

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"markread/imclient"
	"markread/worker/console"
	"markread/worker/console/group"
	"markread/worker/console/overview"
)

// ConsoleOptions configures the console of a group.
type ConsoleOptions struct {
	Addr        string
	Token       imclient.Secret
	Group       group.Options // without Monitor
	AllowReplay bool
	Settings    []console.Setting // the console's own
	Version     string
	Log         zerolog.Logger
	Started     func(addr string) // if non-nil, called once it listens
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
	server *console.Server
	group  *group.Group
	log    zerolog.Logger
}

// openConsole listens on the console's port. The caller must then call run.
func openConsole(o ConsoleOptions) (*groupConsole, error) {
	o.Group.Monitor = overview.NewMonitor("group", o.Group.Name)
	o.Group.Token = o.Token
	g := group.New(o.Group)
	server, err := console.New(consoleServer(o, g))
	return &groupConsole{server: server, group: g, log: o.Log}, err
}

// consoleServer returns the options of a group console's server.
func consoleServer(o ConsoleOptions, g *group.Group) console.Options {
	return console.Options{Addr: o.Addr, Flag: "--console-addr", Token: o.Token.Reveal(),
		Version: o.Version, Group: o.Group.Name, Workers: g, Monitor: o.Group.Monitor,
		Settings: func() console.Settings { return g.Settings(o.Settings) },
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
	if err := c.server.Run(ctx); err != nil {
		return fmt.Errorf("console: %w", errors.Unwrap(err))
	}
	return nil
}
