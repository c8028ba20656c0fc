package consumer

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/rs/zerolog"
	"github.com/segmentio/kafka-go/sasl"
)

// Options says how to reach the brokers.
type Options struct {
	Brokers  []string // host:port; at least one
	ClientID string   // "": markread
	TLS      *tls.Config
	SASL     sasl.Mechanism
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a net.Dialer
	Log      zerolog.Logger
}

// Client talks to one Kafka cluster. It is safe for concurrent use.
type Client struct {
	options Options
}

// New returns a client. It connects to nothing yet.
func New(options Options) (*Client, error) { return &Client{options: options}, nil }

// Close closes the idle connections. Calls after it may open new ones.
func (c *Client) Close() {}
