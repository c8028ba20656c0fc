package app_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"markread/cmd/markread/app"
	"markread/consumer/broker"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker/console"
	"markread/worker/console/group"
	"markread/worker/console/overview"
)

// begin runs a part of the product until the test stops it. The returned function does that.
func begin(t *testing.T, run func(ctx context.Context, started func(string)) error) (addr string,
	stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- run(ctx, func(addr string) { started <- addr }) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	select {
	case addr = <-started:
	case err := <-ended:
		stopped = true
		t.Fatal(err)
	}
	return addr, stop
}

// The console finds the workers by their members' addresses, follows one that stops, and outlives
// them all.
func TestConsole(t *testing.T) {
	ignored := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		goleak.VerifyNone(t, ignored)
	})
	b, err := broker.Start(broker.Options{Addr: "127.0.0.1:0", Topics: app.DevTopics.All()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	newKafka := func() *kafkaclient.Client {
		kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{b.Addr()},
			Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		return kafka
	}
	key := imclient.NewSecret(app.LocalKey)
	im, err := app.ServeSandbox("--im-addr", "127.0.0.1:0", sandbox.New(sandbox.Options{
		AppID: app.LocalAppID, Admin: app.LocalAdmin, Key: key, OpenAccounts: true}), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	begin(t, func(ctx context.Context, started func(string)) error {
		started("")
		return im.Run(ctx)
	})
	worker := func() (addr string, stop func()) {
		return begin(t, func(ctx context.Context, started func(string)) error {
			kafka := newKafka()
			defer kafka.Close()
			client, err := imclient.New(imclient.Options{BaseURL: "http://" + im.Addr,
				AppID: app.LocalAppID, Admin: app.LocalAdmin, Key: imclient.Key(key),
				Timeout: 5 * time.Second, MaxConns: 200})
			if err != nil {
				return err
			}
			defer client.Close()
			o := app.Options{Worker: options(zerolog.Nop()), AdminAddr: "127.0.0.1:0",
				Started: started}
			o.Worker.Kafka, o.Worker.IM, o.Worker.Topics = kafka, client, app.DevTopics
			o.Worker.Group = "markread"
			return app.Run(ctx, o)
		})
	}
	first, stopFirst := worker()
	second, stopSecond := worker()
	port := int(netip.MustParseAddrPort(first).Port())

	serve := func(peers ...string) (addr string) {
		addr, _ = begin(t, func(ctx context.Context, started func(string)) error {
			kafka := newKafka()
			defer kafka.Close()
			o := app.ConsoleOptions{Addr: "127.0.0.1:0", MaxReplays: 3, Log: zerolog.Nop(),
				Started: started, Settings: func() []console.Setting { return nil },
				Group: group.Options{Kafka: kafka, Name: "markread", Topics: app.DevTopics,
					Peers: peers, PeerPort: port}}
			return app.Console(ctx, o)
		})
		return addr
	}
	listed, found := serve(first, second), serve()

	wait := func(what, addr string, holds func(overview.Overview) bool) {
		t.Helper()
		var last overview.Overview
		limit := time.After(30 * time.Second)
		for {
			response, err := http.Get("http://" + addr + "/api/overview")
			if err != nil {
				t.Fatal(err)
			}
			err = json.NewDecoder(response.Body).Decode(&last)
			response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if holds(last) {
				return
			}
			select {
			case <-limit:
				t.Fatalf("%s: %+v", what, last)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	states := func(o overview.Overview) string {
		var all []string
		for _, w := range o.Workers {
			member := "-"
			if w.Member != "" {
				member = "member"
			}
			all = append(all, w.Address+" "+w.State+" "+member)
		}
		return strings.Join(all, ", ")
	}
	wait("both workers, as listed", listed, func(o overview.Overview) bool {
		return o.Scope == "group" && states(o) == first+" ready member, "+second+" ready member" &&
			len(o.Errors) == 0
	})
	// Both members have one address, at which the first worker responds.
	wait("a worker by its member's address, and a member without", found,
		func(o overview.Overview) bool {
			return len(o.Workers) == 2 && strings.Contains(states(o), first+" ready member") &&
				strings.Contains(states(o), " silent member")
		})
	stopSecond()
	wait("the listed worker is silent", listed, func(o overview.Overview) bool {
		return states(o) == first+" ready member, "+second+" silent -"
	})
	wait("the other member is gone", found, func(o overview.Overview) bool {
		return states(o) == first+" ready member"
	})
	stopFirst()
	wait("no worker is left", found, func(o overview.Overview) bool {
		return len(o.Workers) == 0 && o.Sentence.Key == "none"
	})
}

func TestConsolePortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	err = app.Console(t.Context(), app.ConsoleOptions{Addr: l.Addr().String(),
		Group: group.Options{Kafka: kafka}})
	if err == nil || !strings.Contains(err.Error(), "--console-addr "+l.Addr().String()) {
		t.Error(err)
	}
}
