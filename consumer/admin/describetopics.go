package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// DescribedTopic is one topic as the brokers describe it.
type DescribedTopic struct {
	Name    string
	Missing bool
	// with Missing: why it can't be created; nil: it can, or that was not checked
	Refused     error
	Err         error                   // why nothing is known about it
	Partitions  []kafkaclient.Partition // by number
	May         kafkaclient.Operations  // what the user is allowed to do
	Settings    map[string]string       // nil: unknown
	SettingsErr error                   // why Settings are unknown
}

// DescribeTopics describes the topics within 8 s, in the order of Topics. With create, it checks
// whether CheckTopics could create missing topics. An error means that nothing is known.
func DescribeTopics(ctx context.Context, c *kafkaclient.Client, topics event.Topics,
	create bool) (described []DescribedTopic, err error) {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	err = c.Retry(ctx, "describing the topics", func() error {
		latest, err := describeTopics(ctx, c, topics, create)
		if latest != nil {
			described = latest
		}
		return err
	})
	if described != nil {
		return described, nil
	}
	return nil, err
}

// describeTopics is one attempt of DescribeTopics. The error is why the rest is unknown.
func describeTopics(ctx context.Context, c *kafkaclient.Client, topics event.Topics,
	create bool) ([]DescribedTopic, error) {
	s, err := c.OpenSession(ctx, "")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	cluster, err := s.Describe(ctx, topics.All())
	if err != nil {
		return nil, err
	}
	var found []DescribedTopic
	var existing []string
	for _, name := range topics.All() {
		t := describedTopic(name, cluster)
		if t.Err == nil && !t.Missing {
			existing = append(existing, name)
		}
		found = append(found, t)
	}
	settings, err := s.Settings(ctx, existing, kafkaclient.CleanupPolicy, kafkaclient.RetentionMs,
		kafkaclient.RetentionBytes, kafkaclient.MaxMessageBytes, kafkaclient.MinInSync,
		kafkaclient.TimestampType)
	for i := range found {
		t := &found[i]
		if of := settings[t.Name]; of.Err != nil {
			t.SettingsErr = of.Err
		} else {
			t.Settings = of.Values
		}
		if err != nil && t.Err == nil && !t.Missing {
			t.SettingsErr = err
		}
	}
	if create {
		err = cmp.Or(err, checkCreate(ctx, c, cluster.Controller, topics, found))
	}
	return found, err
}

func describedTopic(name string, cluster kafkaclient.Cluster) DescribedTopic {
	t, ok := cluster.Topics[name]
	if !ok {
		return DescribedTopic{Name: name,
			Err: fmt.Errorf("topic %q: missing in the broker's response", name)}
	}
	found := DescribedTopic{Name: name, May: t.May, Partitions: t.Partitions}
	if found.Missing = errors.Is(t.Err, kafkaclient.UnknownTopicOrPartition); !found.Missing {
		found.Err = t.Err
	}
	return found
}

// checkCreate checks whether the controller would create the missing topics, and sets Refused. It
// returns a failure that may be transient.
func checkCreate(ctx context.Context, c *kafkaclient.Client, controller string, topics event.Topics,
	found []DescribedTopic) error {
	var missing []kafkaclient.NewTopic
	for _, name := range namesOfMissing(found) {
		missing = append(missing, newTopic(name, topics, found))
	}
	if len(missing) == 0 {
		return nil
	}
	refused, err := c.CheckCreate(ctx, controller, missing)
	transient := err // a failure that may not repeat
	for i := range found {
		t := &found[i]
		if !t.Missing {
			continue
		}
		if t.Refused = cmp.Or(err, refused[t.Name]); t.Refused != nil &&
			kafkaclient.Retriable(t.Refused) {
			transient = t.Refused
		}
	}
	return transient
}

// LargestEvent returns the largest max.message.bytes of the event topics; 0: unknown.
func LargestEvent(topics event.Topics, described []DescribedTopic) (largest int) {
	for _, v := range described {
		if n, err := strconv.Atoi(v.Settings[kafkaclient.MaxMessageBytes]); err == nil &&
			v.Name != topics.DeadLetter {
			largest = max(largest, n)
		}
	}
	return largest
}
