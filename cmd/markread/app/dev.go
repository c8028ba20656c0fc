package app

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"markread/consumer/admin"
	"markread/consumer/broker"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker"
	"markread/worker/console"
	"markread/worker/console/group"
)

const (
	DevIMTimeout = 5 * time.Second
	// VendorRate is the real API's limit, in calls a second. The local server enforces it whatever
	// --rate is.
	VendorRate = 200
	// The conversation that `markread dev` leaves for its user to try.
	DevReader, DevSender, DevMessages = "alice", "bob", 3
)

var DevTopics = event.Topics{Live: "mark-read", Backfill: "mark-read-backfill",
	DeadLetter: "mark-read-dead-letters"}

// DevOptions configures [Dev]. Port 0 means any free port.
type DevOptions struct {
	KafkaAddr, IMAddr, AdminAddr, ConsoleAddr string
	AdminToken                                imclient.Secret
	DataDir                                   string         // of the broker; "": in memory
	Traffic                                   int            // sample events a second
	Worker                                    worker.Options // without clients, topics and group
	// Started, if non-nil, is called once everything listens, before traffic begins.
	Started func(DevAddrs)
}

// DevAddrs are the addresses at which this machine reaches what [Dev] runs.
type DevAddrs struct{ Kafka, IM, Admin, Console string }

// Dev runs an embedded broker, a local IM server, a worker, its admin server, the group's console
// and sample traffic until ctx ends. It returns nil after a clean shutdown. Its errors name the
// flags of `markread dev`.
func Dev(ctx context.Context, c DevOptions) error {
	log := c.Worker.Log
	if c.DataDir != "" {
		release, err := OpenDataDir(c.DataDir)
		if err != nil {
			return err
		}
		defer release()
	}
	kafkaServer, err := broker.Start(broker.Options{Addr: c.KafkaAddr, DataDir: c.DataDir,
		Topics: []string{DevTopics.Live, DevTopics.Backfill}})
	if err != nil {
		return brokerStartError(c, err)
	}
	defer kafkaServer.Close()

	key := imclient.NewSecret(LocalKey)
	imServer, err := ServeSandbox("--im-addr", c.IMAddr,
		sandbox.New(sandbox.Options{AppID: LocalAppID, Admin: LocalAdmin, Key: key,
			Rate: VendorRate, OpenAccounts: true}), log)
	if err != nil {
		return err
	}
	// The servers outlive ctx: the worker needs them to stop cleanly.
	servers, stopServers := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stopServers()
	background.Go(func() { _ = imServer.Run(servers) })

	newIM := func(conns int) (*imclient.Client, error) {
		return imclient.New(imclient.Options{
			BaseURL: "http://" + console.DialAddr(imServer.Addr), AppID: LocalAppID,
			Admin: LocalAdmin, Key: imclient.Key(key), Timeout: DevIMTimeout, MaxConns: conns,
		})
	}
	im, err := newIM(c.Worker.MaxInFlight)
	if err != nil {
		return err
	}
	defer im.Close()
	trafficIM, err := newIM(1)
	if err != nil {
		return err
	}
	defer trafficIM.Close()
	kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{kafkaServer.Addr()},
		Log: log})
	if err != nil {
		return err
	}
	defer kafka.Close()

	o := Options{Worker: c.Worker, AdminAddr: c.AdminAddr, AdminToken: c.AdminToken}
	o.Worker.Kafka, o.Worker.IM, o.Worker.Topics, o.Worker.Group = kafka, im, DevTopics, "markread"
	s, err := open(o)
	if err != nil {
		return err
	}
	board, err := openConsole(ConsoleOptions{Addr: c.ConsoleAddr, Token: c.AdminToken,
		AllowReplay: true, Flags: []string{"--brokers", kafkaServer.Addr()},
		Version: c.Worker.Version, Log: log,
		Group: group.Options{Kafka: kafka, Name: o.Worker.Group, Topics: DevTopics,
			MaxReplays: c.Worker.MaxReplays,
			Peers:      []string{console.DialAddr(s.admin.Addr())}}})
	if err != nil {
		return err
	}
	// It outlives the worker, too, and stops before its Kafka client is closed.
	var consoles sync.WaitGroup
	defer consoles.Wait()
	consoleCtx, stopConsole := context.WithCancel(servers)
	defer stopConsole()
	return s.run(ctx, func(ctx context.Context) error {
		if err := admin.CheckTopics(ctx, kafka, DevTopics, true); err != nil {
			return err
		}
		t := &traffic{im: trafficIM, events: kafka.Publisher(DevTopics.Live), perSecond: c.Traffic,
			log: log}
		for range DevMessages {
			if err := t.send(ctx, message{from: DevSender, to: DevReader}); err != nil {
				return err
			}
		}
		consoles.Go(func() {
			if err := board.run(consoleCtx); err != nil {
				log.Error().Err(err).Msg("the console has stopped; the worker continues")
			}
		})
		if c.Started != nil {
			c.Started(DevAddrs{Kafka: kafkaServer.Addr(), IM: console.DialAddr(imServer.Addr),
				Admin:   console.DialAddr(s.admin.Addr()),
				Console: console.DialAddr(board.server.Addr())})
		}
		background.Go(func() { t.run(ctx) })
		return nil
	})
}

// brokerStartError adds the flag that an embedded broker's failure to start is about. A failure
// that is not about the address is about the data directory.
func brokerStartError(c DevOptions, err error) error {
	var network *net.OpError
	if c.DataDir == "" || errors.As(err, &network) || errors.Is(err, syscall.EADDRINUSE) {
		return listenError("--kafka-addr", c.KafkaAddr, err)
	}
	return &dataDirError{c.DataDir, err}
}
