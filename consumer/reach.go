package consumer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
)

// ErrAuthentication says that client and brokers don't accept each other: wrong user or password, an unknown
// mechanism, a certificate that one side does not trust.
var ErrAuthentication = errors.New("authentication refused")

// reach waits until a broker can be talked to. It gives up when ctx ends, with the last failure, or when
// authentication is refused, with ErrAuthentication.
//
// It exists because the transport tells of a refused authentication only as an "unexpected EOF".
func (c *Client) reach(ctx context.Context) error {
	for wait := newWait(); ; {
		err := c.greet(ctx)
		if err == nil || errors.Is(err, ErrAuthentication) {
			return err
		}
		c.repeats("reach").Err(err).Strs("brokers", c.options.Brokers).Msg("no Kafka broker can be reached; trying on")
		if !wait.sleep(ctx) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// greet connects to the first broker that answers.
func (c *Client) greet(ctx context.Context) error {
	var errs []error
	for _, broker := range c.options.Brokers {
		err := c.greetOne(ctx, broker)
		if err == nil {
			return nil
		}
		if refused(err) {
			return fmt.Errorf("kafka broker %s: %w: %w", broker, ErrAuthentication, err)
		}
		errs = append(errs, fmt.Errorf("kafka broker %s: %w%s", broker, err, c.hint(err)))
	}
	return errors.Join(errs...)
}

func (c *Client) greetOne(ctx context.Context, broker string) error {
	conn, err := c.dialer().DialContext(ctx, "tcp", broker)
	if err != nil {
		return err
	}
	defer conn.Close()
	// One exchange: a broker refuses a client's certificate only after the client's side of the handshake.
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	_, err = conn.ApiVersions()
	return err
}

// refused reports whether trying again can't help until somebody changes a credential.
func refused(err error) bool {
	for _, code := range refusals {
		if errors.Is(err, code) {
			return true
		}
	}
	var distrust *tls.CertificateVerificationError
	var alert *net.OpError
	return errors.As(err, &distrust) || errors.As(err, &alert) && alert.Op == "remote error"
}

// hint asks the operator what is usually wrong.
func (c *Client) hint(err error) string {
	var record tls.RecordHeaderError
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case c.options.TLS == nil && hungUp:
		return " (does this port expect TLS, or SASL?)"
	case c.options.TLS != nil && (hungUp || errors.As(err, &record) || errors.Is(err, context.DeadlineExceeded)):
		return " (does this port speak TLS?)"
	}
	return ""
}

// wait is the pause between two tries of something that the brokers refused or did not answer.
type wait struct{ next time.Duration }

func newWait() wait { return wait{next: 100 * time.Millisecond} }

// sleep waits 0.1 s, 0.2 s … 2 s; false: ctx has ended.
func (w *wait) sleep(ctx context.Context) bool {
	d := w.next
	w.next = min(2*w.next, 2*time.Second)
	return pause(ctx, d)
}

// pause waits for d; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// code returns Kafka's error code as a number, "network" when the error is none of Kafka's.
func code(err error) string {
	var k kafka.Error
	if errors.As(err, &k) {
		return fmt.Sprint(int(k))
	}
	return "network"
}

// isLayout reports whether the error says that our picture of the cluster is old.
func isLayout(err error) bool {
	for _, code := range []kafka.Error{
		kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition,
		kafka.ReplicaNotAvailable, kafka.BrokerNotAvailable, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch,
		kafka.KafkaStorageError,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	var k kafka.Error
	// Not a code of Kafka's: the transport found no leader, or the connection broke: the leader may be gone.
	return !errors.As(err, &k) && !errors.Is(err, context.Canceled)
}
