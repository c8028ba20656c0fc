package consumer

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// CheckWrite makes sure that the topics exist and that this user may write to them, so that work that needs it is not begun in vain. It writes
// nothing. It tries for 8 s; a topic that does not exist is a *MissingTopicError. Brokers that do not tell, because they are too old, are no error:
// then the first write will.
func (c *Client) CheckWrite(ctx context.Context, topics ...string) error {
	ctx, cancel := looking(ctx)
	defer cancel()
	var cluster *metadata.Response
	err := c.persist(ctx, "asking what this user may do", func() error {
		s, err := c.anySession(ctx)
		if err != nil {
			return err
		}
		defer s.conn.Close()
		answer, err := s.ask(ctx, &metadata.Request{TopicNames: topics, IncludeTopicAuthorizedOperations: true})
		if err == nil {
			cluster = answer.(*metadata.Response)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range topics {
		v := topicView(name, cluster)
		switch {
		case v.Missing:
			return &MissingTopicError{[]string{name}}
		case v.Err == nil && v.May.Known() && !v.May.Has(MayWrite):
			v.Err = kafka.TopicAuthorizationFailed
		}
		if v.Err != nil {
			return denied(fmt.Errorf("topic %q: %w", name, v.Err), "Write of the topic")
		}
	}
	return nil
}
