package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
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
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, listenError("--console-addr", o.Addr, err)
	}
	o.Group.Monitor = overview.NewMonitor("group", o.Group.Name)
	o.Group.Token = o.Token
	c := &groupConsole{group: group.New(o.Group), log: o.Log}
	c.server, err = console.New(consoleServer(o, c.group, listener))
	return c, err
}

// consoleServer returns the options of a group console's server.
func consoleServer(o ConsoleOptions, _ *group.Group, listener net.Listener) console.Options {
	return console.Options{Addr: o.Addr, Token: o.Token.Reveal(), Source: noWorker{},
		Gatherer: prometheus.NewRegistry(), Log: o.Log,
		Listen: func(string, string) (net.Listener, error) { return listener, nil }}
}

// noWorker is the source of a console that is not a worker's: always ready, and never held.
type noWorker struct{}

func (noWorker) State() console.State { return console.State{} }
func (noWorker) Held() []console.Hold { return nil }
func (noWorker) Healthy() error       { return nil }
func (noWorker) Ready() bool          { return true }

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
