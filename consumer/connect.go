package consumer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"

	"markread/consumer/thin"
)

const (
	requestTimeout = 5 * time.Second // of one request to Kafka
	metadataTTL    = 2 * time.Second // a moved leader is noticed within this time even without an error
	silenceTimeout = 30 * time.Second
)

// Options says how to reach the brokers.
type Options struct {
	Brokers  []string                                                          // host:port; at least one
	ClientID string                                                            // "": markread
	TLS      *tls.Config                                                       // nil: plaintext
	SASL     sasl.Mechanism                                                    // nil: none
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a net.Dialer
	Log      zerolog.Logger
}

// Client talks to one Kafka cluster. It is safe for concurrent use.
type Client struct {
	options Options
	addr    net.Addr
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	thin    thin.Log

	mu        sync.Mutex
	topics    []string // those that the transport keeps the layout of
	transport *kafka.Transport
	refreshed time.Time
	closed    bool
}

// New returns a client. It connects to nothing yet.
func New(options Options) (*Client, error) {
	if len(options.Brokers) == 0 {
		return nil, errors.New("kafka: no brokers given")
	}
	for _, broker := range options.Brokers {
		if host, port, err := net.SplitHostPort(broker); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("kafka: broker %q is not host:port", broker)
		}
	}
	if options.ClientID == "" {
		options.ClientID = "markread"
	}
	dial := options.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: requestTimeout}).DialContext
	}
	c := &Client{options: options, addr: kafka.TCP(options.Brokers...)}
	c.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &deadlineConn{Conn: conn}, nil
	}
	c.use()
	return c, nil
}

// repeats begins a warning of a failure that may repeat many times a second. The kinds must be few.
func (c *Client) repeats(kind string) *zerolog.Event { return c.thin.Pass(kind, c.options.Log.Warn()) }

// Close closes the connections, those in use as soon as they are not. A call after it works, but connects anew.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.transport.CloseIdleConnections()
}

// use makes sure that requests about these topics can be routed.
//
// A kafka.Transport routes only what it keeps the layout of, and without a list of topics it asks every two
// seconds for all topics of the cluster. So it is made anew when a topic is named for the first time.
func (c *Client) use(topics ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := len(c.topics)
	for _, topic := range topics {
		if topic != "" && !slices.Contains(c.topics, topic) {
			c.topics = append(c.topics, topic)
		}
	}
	if c.transport != nil {
		if known == len(c.topics) {
			return
		}
		c.transport.CloseIdleConnections()
	}
	c.transport = &kafka.Transport{
		Dial:           c.dial,
		DialTimeout:    requestTimeout,
		MetadataTTL:    metadataTTL,
		MetadataTopics: slices.Clone(c.topics),
		ClientID:       c.options.ClientID,
		TLS:            c.options.TLS,
		SASL:           c.options.SASL,
	}
}

// router sends each request with the transport of the moment.
//
// A transport that was replaced meanwhile, or closed, has perhaps connected anew for this request, and would
// keep its connections and its goroutine for ever.
type router struct{ *Client }

func (r router) RoundTrip(ctx context.Context, addr net.Addr, request kafka.Request) (kafka.Response, error) {
	transport, _ := r.current()
	defer func() {
		if now, closed := r.current(); now != transport || closed {
			transport.CloseIdleConnections()
		}
	}()
	response, err := transport.RoundTrip(ctx, addr, request)
	return response, bare(err)
}

func (c *Client) current() (transport *kafka.Transport, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transport, c.closed
}

// api returns kafka-go's client. Its timeout must be set: without one it gives the broker 0.5 s for a produce.
func (c *Client) api() *kafka.Client {
	return &kafka.Client{Addr: c.addr, Timeout: requestTimeout, Transport: router{c}}
}

// roundTrip sends a request for which kafka-go's client has no call, or one that lacks something.
func (c *Client) roundTrip(ctx context.Context, timeout time.Duration, request kafka.Request) (kafka.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return router{c}.RoundTrip(ctx, c.addr, request)
}

// refresh has the layout of the cluster read again before the next request; at most once a second.
func (c *Client) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.refreshed) >= time.Second {
		c.refreshed = now
		c.transport.CloseIdleConnections()
	}
}

// dialer makes connections outside of the transport.
func (c *Client) dialer() *kafka.Dialer {
	return &kafka.Dialer{
		ClientID:      c.options.ClientID,
		DialFunc:      c.dial,
		Timeout:       requestTimeout,
		TLS:           c.options.TLS,
		SASLMechanism: c.options.SASL,
	}
}

// deadlineConn limits reads and writes for which the library has set no deadline. kafka-go sets none while
// it authenticates, so that a broker that accepts and stays silent would block a join, and even its Close,
// for ever.
type deadlineConn struct {
	net.Conn
	mu          sync.Mutex
	read, write bool // the library has set a deadline
}

func (d *deadlineConn) SetDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read, d.write = !t.IsZero(), !t.IsZero()
	return d.Conn.SetDeadline(t)
}

func (d *deadlineConn) SetReadDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read = !t.IsZero()
	return d.Conn.SetReadDeadline(t)
}

func (d *deadlineConn) SetWriteDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.write = !t.IsZero()
	return d.Conn.SetWriteDeadline(t)
}

func (d *deadlineConn) Read(b []byte) (int, error) {
	if err := d.limit(&d.read, d.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return d.Conn.Read(b)
}

func (d *deadlineConn) Write(b []byte) (int, error) {
	if err := d.limit(&d.write, d.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return d.Conn.Write(b)
}

func (d *deadlineConn) limit(set *bool, deadline func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if *set {
		return nil
	}
	return deadline(time.Now().Add(silenceTimeout))
}
