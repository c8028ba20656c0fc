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
	// a leader that has moved is detected within this time even without an error
	metadataTTL = 2 * time.Second
)

// Options configures how a Client reaches the brokers.
type Options struct {
	// host:port; at least one
	Brokers  []string
	ClientID string // "": markread
	// called for each connection, because files may be renewed; nil: plaintext
	TLS  func() (*tls.Config, error)
	SASL sasl.Mechanism                                                    // nil: none
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a net.Dialer
	Log  zerolog.Logger
}

// Client talks to one Kafka cluster. It is safe for concurrent use.
type Client struct {
	Options  Options
	Throttle logthrottle.Log
	memory   *Memory // for fetches outside a generation

	mu            sync.Mutex
	topics        []string // whose metadata the transport keeps
	transport     *kafka.Transport
	refreshed     time.Time
	closed        bool
	unreachable   *UnreachableError // the last one of dial; nil: that broker has been reached since
	unreachableAt time.Time
}

// New validates options and returns a client, without connecting.
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

// WarnRepeated begins a warning that is throttled by its kind. Callers use few kinds.
func (c *Client) WarnRepeated(kind string) *zerolog.Event {
	return c.Throttle.Pass(kind, c.Options.Log.Warn())
}

// Close closes idle connections, and busy ones after their requests. A later request reconnects.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.transport.CloseIdleConnections()
}

// UseTopics makes requests about these topics routable. A kafka.Transport routes only requests
// about topics whose metadata it keeps; without a list it requests the metadata of all topics of
// the cluster every two seconds. A topic that is named for the first time replaces the transport.
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

// router sends each request with the current transport. A transport that is replaced or closed
// during a request may have opened a connection for it, and would keep its connections and its
// goroutine forever. So router closes the idle connections of such a transport.
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
			// A request may reach its deadline before the connection that it waits for fails.
			r.mu.Lock()
			if r.unreachable != nil && time.Since(r.unreachableAt) <= unreachableAge {
				err = fmt.Errorf("%w: %w", err, r.unreachable)
			}
			r.mu.Unlock()
		}
		// if expired: nothing was sent, and the connection is closed
		if !errors.Is(err, errExpired) {
			return response, err
		}
	}
}

// unreachableAge is how long an unreachable address explains requests without a response.
const unreachableAge = 10 * time.Second

// setReachable records why a broker is unreachable. A nil error clears the record of that broker.
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

// api returns kafka-go's client. Its timeout must be set: without one, kafka-go allows the broker
// 0.5 s for a produce.
func (c *Client) api() *kafka.Client {
	return &kafka.Client{Addr: anyBroker{}, Timeout: RequestTimeout, Transport: router{c}}
}

// request sends a request for which kafka-go's client has no method, or only an incomplete one.
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

// RefreshMetadata drops the cached metadata of the cluster, at most once a second.
func (c *Client) RefreshMetadata() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.refreshed) >= time.Second {
		c.refreshed = now
		c.transport.CloseIdleConnections()
	}
}
