// Package broker runs an embedded Kafka broker for `markread dev` and for tests.
package broker

import "net"

// Options says what to run.
type Options struct {
	Addr       string                                           // host:port; port 0: any
	DataDir    string                                           // "": in memory
	Partitions int                                              // of each topic; 0: 12
	Topics     []string                                         // created when they don't exist
	Listen     func(network, addr string) (net.Listener, error) // nil: net.Listen
}

// Broker is a running broker.
type Broker struct{}

// Start starts a broker.
func Start(options Options) (*Broker, error) { return &Broker{}, nil }

// Addr returns the host:port that clients use.
func (b *Broker) Addr() string { return "" }

// Close stops the broker.
func (b *Broker) Close() {}
