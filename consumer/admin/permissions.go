package admin

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"

	"markread/consumer/kafkaclient"
)

// CheckWrite makes sure that the topics exist and that this user may write to them, so that work that needs it is not begun in vain. It writes
// nothing. It tries for 8 s; a topic that does not exist is a *MissingTopicError. Brokers that do not tell, because they are too old, are no error:
// then the first write will.
func CheckWrite(ctx context.Context, c *kafkaclient.Client, topics ...string) error {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	var views []DescribedTopic
	err := c.Retry(ctx, "asking what this user may do", func() error {
		s, err := c.OpenSession(ctx)
		if err != nil {
			return err
		}
		defer s.Conn.Close()
		views, _, err = describe(ctx, s, topics)
		return err
	})
	if err != nil {
		return err
	}
	for _, v := range views {
		switch {
		case v.Missing:
			return &kafkaclient.MissingTopicError{Topics: []string{v.Name}}
		case v.Err == nil && v.May.Known() && !v.May.Has(kafkaclient.MayWrite):
			v.Err = kafka.TopicAuthorizationFailed
		}
		if v.Err != nil {
			return kafkaclient.WithPermissionHint(fmt.Errorf("topic %q: %w", v.Name, v.Err), "Write of the topic")
		}
	}
	return nil
}
