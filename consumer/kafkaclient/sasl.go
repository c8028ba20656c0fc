package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Mechanism is a SASL mechanism that a client authenticates with.
type Mechanism = sasl.Mechanism

// SASL returns the mechanism "plain" (which without TLS sends the password in plain text),
// "scram-sha-256" or "scram-sha-512". It calls password immediately, to validate it, and for each
// connection, because it may change. Printing the mechanism does not show the password.
func SASL(name, user string, password func() (string, error)) (sasl.Mechanism, error) {
	m := mechanism{
		name: strings.ToUpper(name),
		inner: func() (sasl.Mechanism, error) {
			secret, err := password()
			if err != nil {
				return nil, err
			}
			return newMechanism(name, user, secret)
		},
	}
	if _, err := m.inner(); err != nil {
		return nil, err
	}
	return m, nil
}

func newMechanism(name, user, password string) (m sasl.Mechanism, err error) {
	switch name {
	case "plain":
		return plain.Mechanism{Username: user, Password: password}, nil
	case "scram-sha-256":
		m, err = scram.Mechanism(scram.SHA256, user, password)
	case "scram-sha-512":
		m, err = scram.Mechanism(scram.SHA512, user, password)
	default:
		return nil, fmt.Errorf("no SASL mechanism %q", name)
	}
	if err != nil {
		// The library's error quotes the password.
		return nil, errors.New("the SASL user or password contains a character that is not " +
			"allowed, such as a line break or a tab")
	}
	return m, nil
}

// mechanism creates the library's mechanism for each connection. It has no field whose printing
// would show the password.
type mechanism struct {
	name  string
	inner func() (sasl.Mechanism, error)
}

func (m mechanism) Name() string { return m.name }

func (m mechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	inner, err := m.inner()
	if err != nil {
		return nil, nil, err
	}
	return inner.Start(ctx)
}

// authenticate performs the SASL handshake. It returns the lifetime of the authentication; 0: until
// the connection is closed.
func (c *Client) authenticate(ctx context.Context, conn *protocolConn) (lifetime time.Duration,
	err error) {
	mechanism := c.Options.SASL
	response, err := conn.roundTrip(1, &saslhandshake.Request{Mechanism: mechanism.Name()})
	if err != nil {
		return 0, err
	}
	if r := response.(*saslhandshake.Response); r.ErrorCode != 0 {
		return 0, &saslError{code: kafka.Error(r.ErrorCode), offered: r.Mechanisms}
	}
	state, message, err := mechanism.Start(ctx)
	if err != nil {
		return 0, err
	}
	for done := false; !done; {
		response, err := conn.roundTrip(1, &saslauthenticate.Request{AuthBytes: message})
		if errors.Is(err, io.EOF) { // some brokers refuse by closing the connection
			err = &saslError{code: kafka.SASLAuthenticationFailed}
		}
		if err != nil {
			return 0, err
		}
		r := response.(*saslauthenticate.Response)
		// The broker's text is omitted: with the mechanism "plain" the broker has received the
		// password, and may quote it.
		if r.ErrorCode != 0 {
			return 0, &saslError{code: kafka.Error(r.ErrorCode)}
		}
		if done, message, err = state.Next(ctx, r.AuthBytes); err != nil {
			return 0, &saslError{code: kafka.SASLAuthenticationFailed}
		}
		lifetime = time.Duration(r.SessionLifetimeMs) * time.Millisecond
	}
	return lifetime, nil
}
