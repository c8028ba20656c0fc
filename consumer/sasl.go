package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// SASL returns the mechanism of that name: "plain", "scram-sha-256" or "scram-sha-512". Without TLS the
// first sends the password as it is. What is returned prints without the password.
func SASL(name, user, password string) (sasl.Mechanism, error) {
	var inner sasl.Mechanism
	var err error
	switch name {
	case "plain":
		inner = plain.Mechanism{Username: user, Password: password}
	case "scram-sha-256":
		inner, err = scram.Mechanism(scram.SHA256, user, password)
	case "scram-sha-512":
		inner, err = scram.Mechanism(scram.SHA512, user, password)
	default:
		return nil, fmt.Errorf("no SASL mechanism %q", name)
	}
	if err != nil {
		// The library's error quotes the password.
		return nil, errors.New("the user or the password has a character that may not be in it, such as a line break or a tab")
	}
	return mechanism(func() sasl.Mechanism { return inner }), nil
}

// mechanism hides its fields from everything that prints.
type mechanism func() sasl.Mechanism

func (m mechanism) Name() string { return m().Name() }

func (m mechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	return m().Start(ctx)
}

// bare reduces the error of a refused authentication to its code. The broker may say more, but with the
// mechanism "plain" it has been sent the password, and may say that.
func bare(err error) error {
	for _, code := range refusals {
		if errors.Is(err, code) {
			return code
		}
	}
	return err
}

// refusals are Kafka's codes of a refused authentication.
var refusals = []kafka.Error{kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState}
