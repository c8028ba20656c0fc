package kafkaclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
)

// anyBroker stands for whichever broker of the options responds first.
type anyBroker struct{}

func (anyBroker) Network() string { return "any" }
func (anyBroker) String() string  { return "broker" }

// dial opens the transport's connections. It logs failures: the transport hides most of them, or
// reports "unexpected EOF".
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	connect := func(ctx context.Context, broker string) (net.Conn, error) {
		conn, err := c.connect(ctx, broker)
		var unreachable *UnreachableError
		hasRemedy := errors.As(err, &unreachable)
		// for a broker of the options, another one is tried instead
		if err == nil || hasRemedy && !c.configured(broker) {
			c.setReachable(broker, unreachable)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			line, reason := c.WarnRepeated("connect "+broker).Str("broker", broker), err
			if hasRemedy {
				line, reason = line.Str("do", unreachable.Remedy), unreachable.Err
			}
			line.Err(reason).Msg("can't connect to a Kafka broker")
		}
		return conn, err
	}
	if network == (anyBroker{}).Network() {
		return c.race(ctx, connect)
	}
	return connect(ctx, addr)
}

// headStart is how long a broker may take to respond before the next one is tried in parallel.
const headStart = 250 * time.Millisecond

// race connects to the brokers of the options, in random order, and returns the first connection
// that succeeds. Each broker has a head start on the next one: a frozen broker costs little time,
// and usually only one is contacted. If all fail, the error is a *RefusedError if there is one,
// else all errors joined. kafka-go would try one broker after the other, and the first one that
// hangs would use up the time of all.
func (c *Client) race(ctx context.Context,
	connect func(ctx context.Context, broker string) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if late := <-results; late.err == nil {
				late.conn.Close()
			}
		}
	}()
	brokers := slices.Clone(c.Options.Brokers)
	rand.Shuffle(len(brokers), func(i, j int) { brokers[i], brokers[j] = brokers[j], brokers[i] })
	var failures []error
	for next := time.After(0); len(brokers) > 0 || running > 0; {
		select {
		case <-next:
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, nil
			}
			failures = append(failures, r.err)
		}
		if len(brokers) > 0 {
			broker := brokers[0]
			brokers = brokers[1:]
			running++
			go func() {
				conn, err := connect(ctx, broker)
				results <- result{conn, err}
			}()
			next = time.After(headStart)
		}
	}
	if i := slices.IndexFunc(failures, IsRefused); i >= 0 {
		return nil, failures[i]
	}
	return nil, errors.Join(failures...)
}

// connect opens a connection and checks that it speaks Kafka; it uses TLS and SASL as the options
// say. The error may be a *RefusedError or an *UnreachableError.
//
// It replaces kafka-go's own code, which reads certificates and the password only once, waits for
// SASL without a limit, and does not report why a broker refused it.
func (c *Client) connect(ctx context.Context, broker string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	raw, err := c.Options.Dial(ctx, "tcp", broker)
	var conn net.Conn
	if err == nil {
		if conn, err = c.handshake(ctx, raw, broker); err == nil {
			return conn, nil
		}
		raw.Close()
		err = c.explainConnectError(broker, err)
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, context.Canceled // the caller has stopped waiting: not a failure of the broker
	}
	return nil, c.addAddressRemedy(broker, err)
}

// handshake sets up TLS and SASL on a new connection. ctx must have a deadline.
func (c *Client) handshake(ctx context.Context, raw net.Conn, addr string) (net.Conn, error) {
	deadline, _ := ctx.Deadline()
	stop, err := applyDeadline(ctx, raw, deadline)
	defer stop()
	if err != nil {
		return nil, err
	}
	conn := &brokerConn{Conn: raw}
	if c.Options.TLS != nil {
		secure, err := c.startTLS(raw, addr)
		if err != nil {
			return nil, err
		}
		conn.Conn = secure
	}
	requests := c.newProtocolConn(conn.Conn)
	if c.Options.SASL != nil {
		lifetime, err := c.authenticate(ctx, requests)
		if err != nil {
			return nil, err
		}
		if lifetime > 0 {
			conn.expires = time.Now().Add(lifetime * 9 / 10)
		}
	} else if _, err := requests.roundTrip(0, &apiversions.Request{}); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return conn, raw.SetDeadline(time.Time{})
}

// applyDeadline makes reads and writes fail at the deadline and when ctx ends, until stop is
// called. stop returns false if ctx has ended.
func applyDeadline(ctx context.Context, conn net.Conn, deadline time.Time) (stop func() bool,
	err error) {
	err = conn.SetDeadline(deadline)
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }), err
}

// startTLS performs the TLS handshake with the current settings: their files may have been renewed.
// The deadline of raw bounds it. A context's deadline would hide an untrusted certificate when the
// broker does not accept the alert.
func (c *Client) startTLS(raw net.Conn, addr string) (net.Conn, error) {
	config, err := c.Options.TLS()
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	conn := tls.Client(raw, config)
	return conn, conn.Handshake()
}

// protocolConn sends requests on a connection that kafka-go does not own yet.
type protocolConn struct {
	conn     net.Conn
	reader   *bufio.Reader
	clientID string
	sent     int32
}

func (c *Client) newProtocolConn(conn net.Conn) *protocolConn {
	return &protocolConn{conn: conn, reader: bufio.NewReader(conn), clientID: c.Options.ClientID}
}

// maxResponse bounds a response about a few topics, in bytes. Each partition takes about 60.
const maxResponse = 64 << 20

// roundTrip sends a request and returns its response. A server that is not a Kafka broker usually
// shows in the size field.
func (t *protocolConn) roundTrip(version int16, request protocol.Message) (protocol.Message,
	error) {
	t.sent++
	if err := protocol.WriteRequest(t.conn, version, t.sent, t.clientID, request); err != nil {
		return nil, err
	}
	size, err := t.reader.Peek(4)
	if err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(size) > maxResponse {
		return nil, notKafkaError(size)
	}
	id, response, err := protocol.ReadResponse(t.reader, request.ApiKey(), version)
	if err == nil && id != t.sent {
		err = fmt.Errorf("the response belongs to request %d, not to %d", id, t.sent)
	}
	return response, err
}

// roundTripWithin is roundTrip with a time limit. If ctx ends first, the error is its cause.
func (t *protocolConn) roundTripWithin(ctx context.Context, within time.Duration, version int16,
	request protocol.Message) (response protocol.Message, err error) {
	stop, err := applyDeadline(ctx, t.conn, time.Now().Add(within))
	defer stop()
	if err == nil {
		response, err = t.roundTrip(version, request)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return response, err
}

// idleTimeout limits each read and write for which kafka-go has set no deadline: an abandoned
// request must not keep its connection forever.
const idleTimeout = 30 * time.Second

// errExpired means that a connection's authentication is about to expire. The request was not sent.
var errExpired = errors.New("the connection's authentication expires")

// brokerConn is the connection to a broker that the transport uses.
//
// Brokers whose authentications expire (connections.max.reauth.ms) close the connection at the next
// request. kafka-go can't authenticate again on the same connection (KIP-368), so requests would
// fail repeatedly. Therefore the connection refuses requests shortly before it expires, and the
// router sends them on another one.
type brokerConn struct {
	net.Conn
	expires time.Time // zero: never

	mu          sync.Mutex
	deadlineSet bool // by kafka-go, with SetDeadline, the only method that it uses
}

func (c *brokerConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlineSet = !t.IsZero()
	return c.Conn.SetDeadline(t)
}

func (c *brokerConn) Read(b []byte) (int, error) {
	if err := c.ensureDeadline(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *brokerConn) Write(b []byte) (int, error) {
	if !c.expires.IsZero() && time.Now().After(c.expires) {
		return 0, errExpired
	}
	if err := c.ensureDeadline(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *brokerConn) ensureDeadline() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadlineSet {
		return nil
	}
	return c.Conn.SetDeadline(time.Now().Add(idleTimeout))
}
