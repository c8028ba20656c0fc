package broker_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/consumer/broker"
)

func start(t *testing.T, options broker.Options) *broker.Broker {
	t.Helper()
	b, err := broker.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestTopicsAreNotCreatedByNaming(t *testing.T) {
	b := start(t, broker.Options{Topics: []string{"mark-read"}})
	if host, port, err := net.SplitHostPort(b.Addr()); err != nil || host != "127.0.0.1" ||
		port == "0" {
		t.Errorf("address %q", b.Addr())
	}
	if n := len(b.Cluster().PartitionInfos("mark-read")); n != 12 {
		t.Errorf("%d partitions, want 12", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := client(t, b.Addr(), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "mark-raed", Value: []byte("x")}).
		FirstErr(); err == nil {
		t.Error("a topic was created by naming it")
	}
}

func TestPortInUse(t *testing.T) {
	b := start(t, broker.Options{})
	_, err := broker.Start(broker.Options{Addr: b.Addr()})
	_, port, _ := net.SplitHostPort(b.Addr())
	if !errors.Is(err, syscall.EADDRINUSE) ||
		!strings.Contains(err.Error(), "port "+port+" is in use") {
		t.Errorf("got %v", err)
	}
}

func TestWrongAddress(t *testing.T) {
	for _, addr := range []string{"9092", "127.0.0.1:http", "127.0.0.1:70000"} {
		if b, err := broker.Start(broker.Options{Addr: addr}); err == nil {
			b.Close()
			t.Errorf("%q was accepted", addr)
		}
	}
}

func TestAllAddressesAreAdvertisedAsLocalhost(t *testing.T) {
	b := start(t, broker.Options{Addr: "0.0.0.0:0"})
	if host, _, _ := net.SplitHostPort(b.Addr()); host != "localhost" {
		t.Errorf("address %q", b.Addr())
	}
}

// Records survive a restart, and so does a topic that is not in the list.
func TestDataDirectory(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for run := range 3 {
		b, err := broker.Start(broker.Options{DataDir: dir,
			Topics: []string{"a", "b"}[:1+min(run, 1)], Partitions: 1})
		if err != nil {
			t.Fatal(err)
		}
		c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.DefaultProduceTopic("a"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got := b.Cluster().PartitionInfo("a", 0).HighWatermark; got != int64(run+1) {
			t.Errorf("run %d: %d records, want %d", run, got, run+1)
		}
		if b.Cluster().PartitionInfo("b", 0) == nil != (run == 0) {
			t.Errorf("run %d: topic b", run)
		}
		b.Close()
	}
}
