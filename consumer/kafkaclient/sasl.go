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

// Mechanism is how a client authenticates.
type Mechanism = sasl.Mechanism

// SASL returns the mechanism "plain" (without TLS it sends the password as it is), "scram-sha-256"
// or "scram-sha-512". The password is asked for now, to check it, and for each connection: it may
// change. The mechanism prints without it.
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
		return nil, errors.New("the user or the password has a character that may not be in it, " +
			"such as a line break or a tab")
	}
	return m, nil
}

// mechanism makes the library's anew for each connection. It has no field that would print.
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

// authenticate returns how long the broker accepts it, 0: as long as the connection lasts.
func (c *Client) authenticate(ctx context.Context, conn *protocolConn) (lifetime time.Duration, err error) {
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
		if errors.Is(err, io.EOF) { // some brokers refuse without a word
			err = &saslError{code: kafka.SASLAuthenticationFailed}
		}
		if err != nil {
			return 0, err
		}
		r := response.(*saslauthenticate.Response)
		// its text is left out: with the mechanism "plain" the broker has been sent the password,
		// and may say that
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
