package consumer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// authorizedVersion is the version of the metadata request that can tell what its sender may do: that of Kafka 2.3.
const authorizedVersion = 8

// writeOperation is the bit of the answer for Write; operationsUnknown is what a broker answers that does not tell.
const (
	writeOperation    = 1 << 4
	operationsUnknown = -1 << 31
)

// CheckWrite makes sure that the topics exist and that this user may write to them, so that work that needs it is not begun in vain. It writes
// nothing. It tries for 8 s; a topic that does not exist is a *MissingTopicError. A broker that does not tell, because it is too old, is no error:
// then the first write will.
func (c *Client) CheckWrite(ctx context.Context, topics ...string) error {
	ctx, cancel := looking(ctx)
	defer cancel()
	var answer *metadata.Response
	err := c.persist(ctx, "asking what this user may do", func() error {
		conn, err := c.race(ctx, c.connect)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
			return err
		}
		if answer, err = c.askAuthorized(conn, topics); err != nil {
			answer = &metadata.Response{} // too old for the question
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range answer.Topics {
		code, operations := kafka.Error(t.ErrorCode), t.TopicAuthorizedOperations
		switch {
		case errors.Is(code, kafka.UnknownTopicOrPartition):
			return &MissingTopicError{[]string{t.Name}}
		case errors.Is(code, kafka.TopicAuthorizationFailed), code == 0 && operations != operationsUnknown && operations&writeOperation == 0:
			return denied(fmt.Errorf("topic %q: %w", t.Name, kafka.TopicAuthorizationFailed), "Write of the topic")
		}
	}
	return nil
}

// askAuthorized does not go through the transport, which answers requests about topics from what it keeps of them.
func (c *Client) askAuthorized(conn net.Conn, topics []string) (*metadata.Response, error) {
	answer, err := c.talk(conn).exchange(authorizedVersion, &metadata.Request{TopicNames: topics, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return nil, err
	}
	return answer.(*metadata.Response), nil
}
