// Package broker runs an embedded Kafka broker, for `markread dev` and for tests. It wraps
// github.com/twmb/franz-go/pkg/kfake: one node, in memory or in a data directory.
//
// It is not for production: it replicates nothing, a crash of the machine may lose the last writes,
// and only one process at a time may use a data directory.
//
// Non-obvious:
//   - Naming a topic does not create it, as on a production cluster: otherwise a misspelt name
//     would go unnoticed.
//   - kfake deletes old records only from topics with their own retention setting, so this package
//     sets one.
//   - The broker advertises the address that it listens on; clients must be able to dial it.
package broker

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	defaultPartitions = 12

	// Retention of a topic, in milliseconds. In memory one day: at 20 events a second about 300 MB.
	memoryRetention = "86400000"
	diskRetention   = "604800000"
)

// Options configures the broker.
type Options struct {
	Addr       string   // host:port to listen on; "": 127.0.0.1:0; port 0: any
	DataDir    string   // for topics, records and offsets; "": in memory
	Partitions int      // of each topic that is created; 0: 12
	Topics     []string // created if they don't exist
	Listen     func(network, addr string) (net.Listener, error)
}

// Broker is a running broker.
type Broker struct{ cluster *kfake.Cluster }

// Start starts a broker. If the port is in use, the error says so and wraps syscall.EADDRINUSE.
func Start(options Options) (*Broker, error) {
	options.Addr = cmp.Or(options.Addr, "127.0.0.1:0")
	options.Partitions = cmp.Or(options.Partitions, defaultPartitions)
	if options.Listen == nil {
		options.Listen = net.Listen
	}
	host, portText, err := net.SplitHostPort(options.Addr)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: address %q is not host:port: %w", options.Addr,
			err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %q is not a port number", portText)
	}
	retention := memoryRetention
	opts := []kfake.Opt{
		kfake.Ports(int(port)),
		kfake.ClusterID("markread"),
		kfake.DefaultNumPartitions(options.Partitions),
		// kfake would listen on 127.0.0.1 only
		kfake.ListenFn(func(network, addr string) (net.Listener, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			listener, err := options.Listen(network, net.JoinHostPort(host, port))
			if err != nil {
				return nil, err
			}
			return advertise(listener, host), nil
		}),
	}
	if options.DataDir != "" {
		retention = diskRetention
		opts = append(opts, kfake.DataDir(options.DataDir))
	}
	cluster, err := kfake.NewCluster(opts...)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("embedded broker: port %d is in use by another program: %w", port,
			err)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	for _, topic := range options.Topics {
		if cluster.TopicInfo(topic) != nil {
			continue // from the data directory
		}
		if err := cluster.CreateTopic(topic, int32(options.Partitions),
			map[string]string{"retention.ms": retention}); err != nil {
			cluster.Close()
			return nil, fmt.Errorf("embedded broker: topic %q: %w", topic, err)
		}
	}
	return &Broker{cluster}, nil
}

// Addr returns the host:port that clients use.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Cluster returns the underlying kfake cluster, for tests that inject failures.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close stops the broker. With a data directory everything is on disk when it returns.
func (b *Broker) Close() { b.cluster.Close() }

// advertise makes a listener on all addresses report localhost, which clients can dial.
func advertise(l net.Listener, host string) net.Listener {
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return l
	}
	return localhostListener{l}
}

// localhostListener is a listener that reports localhost as its address.
type localhostListener struct{ net.Listener }

func (l localhostListener) Addr() net.Addr  { return l }
func (l localhostListener) Network() string { return "tcp" }

func (l localhostListener) String() string {
	_, port, _ := net.SplitHostPort(l.Listener.Addr().String())
	return net.JoinHostPort("localhost", port)
}
