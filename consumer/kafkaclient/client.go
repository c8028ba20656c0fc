package kafkaclient

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

	"markread/consumer/event"
	"markread/consumer/logthrottle"
)

const (
	RequestTimeout = 5 * time.Second // of one request to Kafka
	// a moved leader is noticed within this time even without an error
	metadataTTL = 2 * time.Second
)

// Options says how to reach the brokers.
type Options struct {
	// host:port; at least one
	Brokers  []string
	ClientID string // "": markread
	// asked for each connection: files may be renewed; nil: plaintext
	TLS  func() (*tls.Config, error)
	SASL sasl.Mechanism                                                    // nil: none
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a net.Dialer
	Log  zerolog.Logger
}

// Client talks to one Kafka cluster. It is safe for concurrent use.
type Client struct {
	Options  Options
	Throttle logthrottle.Log
	memory   *Memory // of fetches outside a generation

	mu            sync.Mutex
	topics        []string // those that the transport keeps the layout of
	transport     *kafka.Transport
	refreshed     time.Time
	closed        bool
	unreachable   *UnreachableError // the last of dial; nil: that broker has been reached since
	unreachableAt time.Time
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
	if options.Dial == nil {
		options.Dial = (&net.Dialer{Timeout: RequestTimeout}).DialContext
	}
	c := &Client{Options: options, memory: NewMemory(FetchMemory/2, event.LetterOverhead)}
	c.UseTopics()
	return c, nil
}

// WarnRepeated begins a throttled warning. The kinds must be few.
func (c *Client) WarnRepeated(kind string) *zerolog.Event {
	return c.Throttle.Pass(kind, c.Options.Log.Warn())
}

// Close closes the connections, those in use as soon as they are not. A later call connects anew.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.transport.CloseIdleConnections()
}

// UseTopics makes sure that requests about these topics can be routed: a kafka.Transport routes
// only what it keeps the layout of, and without a list asks every two seconds for all topics of the
// cluster. It is made anew when a topic is named for the first time.
func (c *Client) UseTopics(topics ...string) {
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
		DialTimeout:    RequestTimeout,
		MetadataTTL:    metadataTTL,
		MetadataTopics: slices.Clone(c.topics),
		ClientID:       c.Options.ClientID,
	}
}

// router sends each request with the transport of the moment. One that was replaced meanwhile, or
// closed, may have connected anew for this request, and would keep its connections and its
// goroutine for ever.
type router struct{ *Client }

func (r router) RoundTrip(ctx context.Context, addr net.Addr,
	request kafka.Request) (kafka.Response, error) {
	transport, _ := r.transportState()
	defer func() {
		if now, closed := r.transportState(); now != transport || closed {
			transport.CloseIdleConnections()
		}
	}()
	for {
		response, err := transport.RoundTrip(ctx, addr, request)
		if errors.Is(err, context.DeadlineExceeded) {
			// A request may end before the connection that it waits for.
			r.mu.Lock()
			if r.unreachable != nil && time.Since(r.unreachableAt) <= unreachableAge {
				err = fmt.Errorf("%w: %w", err, r.unreachable)
			}
			r.mu.Unlock()
		}
		if !errors.Is(err, errExpired) { // then nothing was sent, and that connection is gone
			return response, err
		}
	}
}

// unreachableAge is how long an address that can't be reached explains requests without an answer.
const unreachableAge = 10 * time.Second

// setReachable remembers that a broker can't be reached, and why, or forgets it: away is nil.
func (c *Client) setReachable(broker string, unreachable *UnreachableError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if unreachable != nil || c.unreachable != nil && c.unreachable.Broker == broker {
		c.unreachable, c.unreachableAt = unreachable, time.Now()
	}
}

func (c *Client) transportState() (transport *kafka.Transport, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transport, c.closed
}

// API returns kafka-go's client. Its timeout must be set: without one it gives the broker 0.5 s for
// a produce.
func (c *Client) api() *kafka.Client {
	return &kafka.Client{Addr: anyBroker{}, Timeout: RequestTimeout, Transport: router{c}}
}

// request sends a request for which kafka-go's client has no call, or one that lacks something.
func request[R kafka.Response](ctx context.Context, c *Client, timeout time.Duration,
	r kafka.Request) (response R, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	received, err := router{c}.RoundTrip(ctx, anyBroker{}, r)
	if err != nil {
		return response, err
	}
	return received.(R), nil
}

// RefreshMetadata drops the layout of the cluster; at most once a second.
func (c *Client) RefreshMetadata() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.refreshed) >= time.Second {
		c.refreshed = now
		c.transport.CloseIdleConnections()
	}
}
