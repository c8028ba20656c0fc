package consumer

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// CheckWrite makes sure that the topics exist and that this user may write to them, so that work that needs it is not begun in vain. It writes
// nothing. It tries for 8 s; a topic that does not exist is a *MissingTopicError. Brokers that do not tell, because they are too old, are no error:
// then the first write will.
func (c *Client) CheckWrite(ctx context.Context, topics ...string) error {
	ctx, cancel := looking(ctx)
	defer cancel()
	var views []TopicView
	err := c.persist(ctx, "asking what this user may do", func() error {
		s, err := c.anySession(ctx)
		if err != nil {
			return err
		}
		defer s.conn.Close()
		views, _, err = s.describe(ctx, topics)
		return err
	})
	if err != nil {
		return err
	}
	for _, v := range views {
		switch {
		case v.Missing:
			return &MissingTopicError{[]string{v.Name}}
		case v.Err == nil && v.May.Known() && !v.May.Has(MayWrite):
			v.Err = kafka.TopicAuthorizationFailed
		}
		if v.Err != nil {
			return denied(fmt.Errorf("topic %q: %w", v.Name, v.Err), "Write of the topic")
		}
	}
	return nil
}
