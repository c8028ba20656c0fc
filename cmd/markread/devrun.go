package main

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
)

const (
	devIMTimeout = 5 * time.Second
	// vendorRate is what the real API allows; the local server is as strict, whatever --rate says.
	vendorRate = 200
	// The conversation that is left to the person at the keyboard.
	devReader, devSender, devMessages = "alice", "bob", 3
)

var devTopics = event.Topics{Live: "mark-read", Backfill: "mark-read-backfill", DeadLetter: "mark-read-dead-letters"}

// devOptions is everything on one machine. Port 0 is any that is free.
type devOptions struct {
	KafkaAddr, IMAddr, AdminAddr string
	AdminToken                   imclient.Secret
	DataDir                      string         // of the broker; "": in memory
	Traffic                      int            // sample events a second
	Worker                       worker.Options // without clients, topics and group
	// Started, if non-nil, is called once all of it listens, and before there is traffic.
	Started func(kafkaAddr, imAddr, adminAddr string)
}

// runDev runs an embedded broker, a local IM server, a worker, its admin server and sample traffic until ctx ends. It returns nil after a clean
// stop. Its errors name the flags of `markread dev`.
func runDev(ctx context.Context, c devOptions) error {
	log := c.Worker.Log
	if c.DataDir != "" {
		release, err := openDataDir(c.DataDir)
		if err != nil {
			return err
		}
		defer release()
	}
	kafkaServer, err := broker.Start(broker.Options{Addr: c.KafkaAddr, DataDir: c.DataDir, Topics: []string{devTopics.Live, devTopics.Backfill}})
	if err != nil {
		return brokerFailed(c, err)
	}
	defer kafkaServer.Close()

	key := imclient.NewSecret(localKey)
	imServer, err := serveSandbox("--im-addr", c.IMAddr,
		sandbox.New(sandbox.Options{AppID: localAppID, Admin: localAdmin, Key: key, Rate: vendorRate, OpenAccounts: true}), log)
	if err != nil {
		return err
	}
	// The servers outlive ctx: the worker needs them to stop cleanly.
	servers, stopServers := context.WithCancel(context.WithoutCancel(ctx))
	var others sync.WaitGroup
	defer others.Wait()
	defer stopServers()
	others.Go(func() { _ = imServer.run(servers) })

	newIM := func(conns int) (*imclient.Client, error) {
		return imclient.New(imclient.Options{
			BaseURL: "http://" + reachable(imServer.Addr), AppID: localAppID, Admin: localAdmin, Key: imclient.Key(key), Timeout: devIMTimeout, MaxConns: conns,
		})
	}
	im, err := newIM(c.Worker.MaxInFlight)
	if err != nil {
		return err
	}
	defer im.Close()
	chat, err := newIM(1)
	if err != nil {
		return err
	}
	defer chat.Close()
	kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{kafkaServer.Addr()}, Log: log})
	if err != nil {
		return err
	}
	defer kafka.Close()

	o := runOptions{Worker: c.Worker, AdminAddr: c.AdminAddr, AdminToken: c.AdminToken}
	o.Worker.Kafka, o.Worker.IM, o.Worker.Topics, o.Worker.Group = kafka, im, devTopics, "markread"
	s, err := open(o)
	if err != nil {
		return err
	}
	return s.run(ctx, func(ctx context.Context) error {
		if err := admin.CheckTopics(ctx, kafka, devTopics, true); err != nil {
			return err
		}
		t := &traffic{chat: chat, events: kafka.Publisher(devTopics.Live), perSecond: c.Traffic, log: log}
		for range devMessages {
			if err := t.send(ctx, message{from: devSender, to: devReader}); err != nil {
				return err
			}
		}
		if c.Started != nil {
			c.Started(kafkaServer.Addr(), reachable(imServer.Addr), reachable(s.admin.Addr()))
		}
		others.Go(func() { t.run(ctx) })
		return nil
	})
}

// brokerFailed names the flag that an embedded broker's failure to start is about: what is not about the address is about the data.
func brokerFailed(c devOptions, err error) error {
	var network *net.OpError
	if c.DataDir == "" || errors.As(err, &network) || errors.Is(err, syscall.EADDRINUSE) {
		return takenPort("--kafka-addr", c.KafkaAddr, err)
	}
	return &dataDirError{c.DataDir, err}
}
