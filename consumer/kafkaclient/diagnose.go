package kafkaclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
)

const diagnoseTimeout = time.Second // of each connection that diagnoses a failure

// WaitForBroker retries until a broker responds. It fails when ctx ends, or with a *RefusedError.
func (c *Client) WaitForBroker(ctx context.Context) error {
	for wait := NewBackoff(); ; {
		err := c.ping(ctx)
		if err == nil || IsRefused(err) {
			return err
		}
		c.WarnRepeated("wait for broker").Err(err).Strs("brokers", c.Options.Brokers).
			Msg("no broker in --brokers is reachable; retrying")
		if !wait.Sleep(ctx) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// ping returns nil if a broker responds. Otherwise the error is a *RefusedError if there is one,
// else all errors joined.
func (c *Client) ping(ctx context.Context) error {
	conn, err := c.race(ctx, func(ctx context.Context, broker string) (net.Conn, error) {
		conn, err := c.connectDiagnosed(ctx, broker)
		var unreachable *UnreachableError
		// these errors name the broker
		if err != nil && !IsRefused(err) && !errors.As(err, &unreachable) {
			err = fmt.Errorf("kafka broker %s: %w", broker, err)
		}
		return conn, err
	})
	if err != nil {
		return err
	}
	return conn.Close()
}

// connectDiagnosed is connect and a first request. If one of them fails, it diagnoses the cause.
func (c *Client) connectDiagnosed(ctx context.Context, broker string) (net.Conn, error) {
	conn, err := c.connect(ctx, broker)
	if err != nil {
		if IsRefused(err) || ctx.Err() != nil || NeverConnected(err) {
			return nil, err
		}
		return nil, c.diagnose(ctx, broker, err)
	}
	if err = c.requestMetadata(ctx, conn, RequestTimeout); err == nil {
		return conn, nil
	}
	conn.Close()
	if c.Options.SASL == nil && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = c.newRefusedError(broker, c.diagnoseSASL(ctx, broker), err)
	}
	return nil, err
}

// NeverConnected reports whether no connection was established: there is no server to diagnose.
func NeverConnected(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed) && failed.Op == "dial"
}

// requestMetadata sends a request to which a broker responds only after authentication.
func (c *Client) requestMetadata(ctx context.Context, conn net.Conn, within time.Duration) error {
	_, err := c.newProtocolConn(conn).
		roundTripWithin(ctx, within, 1, &metadata.Request{TopicNames: []string{}})
	return err
}

// newRefusedError wraps err in a *RefusedError with the remedy. Without a remedy it returns err.
func (c *Client) newRefusedError(broker, remedy string, err error) error {
	if remedy == "" {
		return err
	}
	if unreachable, ok := errors.AsType[*UnreachableError](err); ok {
		err = unreachable.Err
	}
	if !c.configured(broker) {
		remedy += " (the address is " + advertised + ")"
	}
	return &RefusedError{Broker: broker, Remedy: remedy, Err: err}
}

// diagnose determines why a broker closed the connection or sent no response: only one side uses
// TLS, or the server is an HTTP server. It returns a *RefusedError with that cause, else err.
func (c *Client) diagnose(ctx context.Context, broker string, err error) error {
	var plaintext, tlsHandshake, http error
	var all sync.WaitGroup
	all.Go(func() {
		plaintext = c.onNewConn(ctx, broker, func(ctx context.Context, conn net.Conn) error {
			_, err := c.newProtocolConn(conn).roundTrip(0, &apiversions.Request{})
			return err
		})
	})
	all.Go(func() {
		tlsHandshake = c.onNewConn(ctx, broker, func(ctx context.Context, conn net.Conn) error {
			// The certificate is not verified: nothing is sent on this connection.
			return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
		})
	})
	all.Go(func() { http = c.onNewConn(ctx, broker, checkHTTP) })
	all.Wait()
	switch withTLS := c.Options.TLS != nil; {
	case withTLS && plaintext == nil:
		return c.newRefusedError(broker, notTLS, err)
	case !withTLS && plaintext != nil && (tlsHandshake == nil || isAlert(tlsHandshake)):
		return c.newRefusedError(broker, addTLS, err)
	case plaintext != nil && http == nil:
		return c.newRefusedError(broker, otherPort, notKafkaError("HTTP"))
	}
	return err
}

// checkHTTP returns nil if the server speaks HTTP.
func checkHTTP(_ context.Context, conn net.Conn) error {
	start := make([]byte, len("HTTP/"))
	_, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	if err == nil {
		_, err = io.ReadFull(conn, start)
	}
	if err == nil && string(start) != "HTTP/" {
		err = errors.New("not HTTP")
	}
	return err
}

// diagnoseSASL checks whether a broker closed the connection for lack of authentication: it closes
// a second one too, and offers SASL. It returns the remedy; "" means another cause.
func (c *Client) diagnoseSASL(ctx context.Context, broker string) (remedy string) {
	conn, err := c.connect(ctx, broker)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if c.requestMetadata(ctx, conn, diagnoseTimeout) == nil {
		return ""
	}
	var offered []string
	err = c.onNewConn(ctx, broker, func(ctx context.Context, conn net.Conn) (err error) {
		if c.Options.TLS != nil {
			if conn, err = c.startTLS(conn, broker); err != nil {
				return err
			}
		}
		response, err := c.newProtocolConn(conn).roundTrip(1, &saslhandshake.Request{})
		if err == nil {
			offered = response.(*saslhandshake.Response).Mechanisms
		}
		return err
	})
	if err != nil || len(offered) == 0 {
		return ""
	}
	return "this port requires SASL: add --sasl with one of " + mechanisms(offered)
}

// onNewConn calls f with a new connection on which nothing has been sent.
func (c *Client) onNewConn(ctx context.Context, broker string,
	f func(context.Context, net.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	conn, err := c.Options.Dial(ctx, "tcp", broker)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	stop, err := applyDeadline(ctx, conn, deadline)
	defer stop()
	if err != nil {
		return err
	}
	return f(ctx, conn)
}
