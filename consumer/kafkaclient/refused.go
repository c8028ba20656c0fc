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

// RefusedError reports that this client and a broker don't accept each other until somebody changes
// a setting of one of the two.
type RefusedError struct {
	Broker string // host:port
	Remedy string // what to check, with the flag of markread
	Err    error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("kafka broker %s: %v; %s", e.Broker, e.Err, e.Remedy)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// UnreachableError reports that a broker's address is probably wrong, at least on this machine: its
// name can't be resolved, or the cluster's configuration has it, and not Options.Brokers.
type UnreachableError RefusedError

func (e *UnreachableError) Error() string { return (*RefusedError)(e).Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

const (
	advertised = "from the broker's advertised.listeners, not from --brokers"
	inDocker   = "; in Docker the usual cause is a listener advertised as kafka:9092 or " +
		"localhost:9092"
)

// addAddressRemedy adds where a broker's address comes from if that may have caused the failure.
func (c *Client) addAddressRemedy(broker string, err error) error {
	var dnsErr *net.DNSError
	remedy := ""
	switch unknownName := errors.As(err, &dnsErr); {
	case IsRefused(err):
		return err
	case unknownName && c.configured(broker):
		remedy = "correct the name in --brokers, or this machine's name resolution (DNS)"
	case unknownName:
		remedy = "the name is " + advertised + ": make it resolvable from here, or change " +
			"advertised.listeners" + inDocker
	case c.configured(broker):
		return err // the caller reports that it is one of --brokers
	default:
		remedy = "the address is " + advertised + ": start that broker if it is down, else make " +
			"the address reachable from here, or change advertised.listeners" + inDocker
	}
	return &UnreachableError{Broker: broker, Remedy: remedy, Err: err}
}

// configured reports whether the options name the broker. Host names are case-insensitive.
func (c *Client) configured(broker string) bool {
	return slices.ContainsFunc(c.Options.Brokers, func(b string) bool {
		return strings.EqualFold(b, broker)
	})
}

// IsRefused reports whether err is a *RefusedError.
func IsRefused(err error) bool {
	var r *RefusedError
	return errors.As(err, &r)
}

// saslError is a broker's refusal of a SASL request.
type saslError struct {
	code    kafka.Error
	offered []string // the mechanisms that the broker supports, if it listed them
}

func (e *saslError) Error() string { return e.code.Title() }
func (e *saslError) Unwrap() error { return e.code }

// notKafkaError reports a server that is not a Kafka broker. It is the start of the response.
type notKafkaError string

func (e notKafkaError) Error() string {
	switch {
	case e.isTLS():
		return "it responds with a TLS alert"
	case e == "HTTP":
		return "it is an HTTP server, not a Kafka broker"
	}
	return fmt.Sprintf("it is not a Kafka broker: its response begins with %q", string(e))
}

// isTLS reports whether the response is a TLS alert, as TLS servers send to clients without TLS.
func (e notKafkaError) isTLS() bool { return strings.HasPrefix(string(e), "\x15\x03") }

// explainConnectError returns a *RefusedError if an operator has to fix err. It rewords others.
func (c *Client) explainConnectError(broker string, err error) error {
	remedy := ""
	var notKafka notKafkaError
	var sasl *saslError
	var record tls.RecordHeaderError
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &notKafka) && notKafka.isTLS():
		remedy = addTLS
	case errors.As(err, &notKafka):
		remedy = otherPort
	case errors.As(err, &sasl):
		remedy = sasl.remedy()
	case errors.As(err, &untrusted):
		remedy = certificateRemedy(untrusted.Err)
	case errors.As(err, &record):
		remedy = notTLS
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it closed the connection without a response: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it accepts connections, but sends no response within %v: %w",
			RequestTimeout, err)
	case isAlert(err):
		remedy = "the broker requires a certificate that it trusts: check --tls-cert and --tls-key"
	}
	return c.newRefusedError(broker, remedy, err)
}

const (
	otherPort = "check the port in --brokers"

	addTLS = "this port speaks TLS: add --tls"
	notTLS = "this port does not speak TLS: omit --tls, or use another port in --brokers"
)

// isAlert reports whether the peer refused a TLS connection with an alert.
func isAlert(err error) bool {
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error"
}

func (e *saslError) remedy() string {
	switch e.code {
	case kafka.SASLAuthenticationFailed:
		return "check --sasl-user and MARKREAD_SASL_PASSWORD"
	case kafka.UnsupportedSASLMechanism:
		return "set --sasl to one of the mechanisms of this port: " + mechanisms(e.offered)
	case kafka.IllegalSASLState:
		return "this port does not accept SASL: omit --sasl, or use another port in --brokers"
	}
	return "check --sasl"
}

// mechanisms lists a broker's mechanisms as values of our flag.
func mechanisms(offered []string) string {
	if len(offered) == 0 {
		return "none"
	}
	return strings.ToLower(strings.Join(offered, ", "))
}

// certificateRemedy returns what to do about an untrusted broker's certificate.
func certificateRemedy(err error) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return "name the broker in --brokers, and in its advertised.listeners, as its " +
			"certificate does"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the broker's certificate, or correct this machine's clock (--tls)"
	}
	return "--tls-ca must name a file with the authority that signed the broker's certificate"
}

// WithPermissionHint adds to an authorization failure which flag names the resource, and where the
// required permissions are listed. It returns other errors as they are.
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
