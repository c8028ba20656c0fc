package kafkaclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"
)

// RefusedError says that this client and a broker don't accept each other until somebody changes a
// setting of one of the two.
type RefusedError struct {
	Broker string // host:port
	Remedy string // what to look at, with the flag of markread
	Err    error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("kafka broker %s: %v; %s", e.Broker, e.Err, e.Remedy)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// UnreachableError says that a broker's address is probably wrong, or wrong here: its name is not
// known, or the cluster's configuration has it, and not Options.Brokers.
type UnreachableError RefusedError

func (e *UnreachableError) Error() string { return (*RefusedError)(e).Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

const (
	advertised = "from the broker's advertised.listeners, not from --brokers"
	inDocker   = "; in Docker the usual cause is a listener advertised as kafka:9092 or " +
		"localhost:9092"
)

// locate says where a broker's address comes from if that may be why it can't be talked to.
func (c *Client) locate(broker string, err error) error {
	var unnamed *net.DNSError
	remedy := ""
	switch unknown := errors.As(err, &unnamed); {
	case IsRefused(err):
		return err
	case unknown && c.given(broker):
		remedy = "correct the name in --brokers, or this machine's name resolution (DNS)"
	case unknown:
		remedy = "the name is " + advertised + ": make it resolvable from here, or change " +
			"advertised.listeners" + inDocker
	case c.given(broker):
		return err // who calls says that it is one of --brokers
	default:
		remedy = "the address is " + advertised + ": start that broker if it is down, else make " +
			"the address reachable from here, or change advertised.listeners" + inDocker
	}
	return &UnreachableError{Broker: broker, Remedy: remedy, Err: err}
}

// given reports whether the options name the broker. Host names have no case.
func (c *Client) given(broker string) bool {
	return slices.ContainsFunc(c.Options.Brokers, func(b string) bool {
		return strings.EqualFold(b, broker)
	})
}

func IsRefused(err error) bool {
	var r *RefusedError
	return errors.As(err, &r)
}

// saslError is a broker's refusal of SASL.
type saslError struct {
	code    kafka.Error
	offered []string // the mechanisms that it has, if it said so
}

func (e *saslError) Error() string { return e.code.Title() }
func (e *saslError) Unwrap() error { return e.code }

// notKafkaError says that something answered that is no Kafka broker: how its answer begins.
type notKafkaError string

func (e notKafkaError) Error() string {
	switch {
	case e.isTLS():
		return "it answers with a TLS alert"
	case e == "HTTP":
		return "it is an HTTP server, no Kafka broker"
	}
	return fmt.Sprintf("it is no Kafka broker: its answer begins with %q", string(e))
}

// isTLS reports whether the answer was a TLS alert: what a TLS server says to a client without.
func (e notKafkaError) isTLS() bool { return strings.HasPrefix(string(e), "\x15\x03") }

// explain makes a *RefusedError of a failure that an operator has to fix, and rewords others.
func (c *Client) explain(broker string, err error) error {
	remedy := ""
	var stranger notKafkaError
	var sasl *saslError
	var record tls.RecordHeaderError
	var distrust *tls.CertificateVerificationError
	switch {
	case errors.As(err, &stranger) && stranger.isTLS():
		remedy = addTLS
	case errors.As(err, &stranger):
		remedy = otherPort
	case errors.As(err, &sasl):
		remedy = sasl.remedy()
	case errors.As(err, &distrust):
		remedy = distrusted(distrust.Err)
	case errors.As(err, &record):
		remedy = notTLS
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it hung up without an answer: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it accepts connections, but does not answer within %v: %w",
			RequestTimeout, err)
	case isAlert(err):
		remedy = "the broker wants a certificate that it trusts: look at --tls-cert and --tls-key"
	}
	return c.diagnosed(broker, remedy, err)
}

const (
	otherPort = "look at the port in --brokers"

	addTLS = "this port speaks TLS: add --tls"
	notTLS = "this port does not speak TLS: leave out --tls, or use another port in --brokers"
)

// isAlert reports whether the other side of a TLS connection refused it.
func isAlert(err error) bool {
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error"
}

func (e *saslError) remedy() string {
	switch e.code {
	case kafka.SASLAuthenticationFailed:
		return "look at --sasl-user and MARKREAD_SASL_PASSWORD"
	case kafka.UnsupportedSASLMechanism:
		return "give --sasl as one of what this port offers: " + mechanisms(e.offered)
	case kafka.IllegalSASLState:
		return "this port takes no SASL: leave out --sasl, or use another port in --brokers"
	}
	return "look at --sasl"
}

// mechanisms lists what a broker offers in the words of our flag.
func mechanisms(offered []string) string {
	if len(offered) == 0 {
		return "none"
	}
	return strings.ToLower(strings.Join(offered, ", "))
}

// distrusted says what to do about a broker's certificate.
func distrusted(err error) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return "name the broker in --brokers, and in its advertised.listeners, as its " +
			"certificate does"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the broker's certificate, or set this machine's clock (--tls)"
	}
	return "--tls-ca must name a file with the authority that signed the broker's certificate"
}

// WithPermissionHint adds to a missing permission which flag named what it is about.
func WithPermissionHint(err error, flag string) error {
	if Denied(err) {
		return fmt.Errorf("%w (%s): deploy/OPERATIONS.md lists the permissions that a worker needs",
			err, flag)
	}
	return err
}

// Denied reports whether this client's user lacks a permission.
func Denied(err error) bool {
	return Is(err, kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed,
		kafka.ClusterAuthorizationFailed)
}
