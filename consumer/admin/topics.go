package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

const (
	createdPartitions = 12
	createTimeout     = 30 * time.Second
	recheckAfter      = time.Second
)

// CheckTopics checks that the topics exist and that the dead-letter topic is not compacted. With
// create, it creates missing topics with 12 partitions and the brokers' default replication; a new
// dead-letter topic keeps its records forever, and accepts any record of the others.
//
// It waits for unreachable brokers until ctx ends. Other errors are a *MissingTopicError, a
// *RefusedError, a compacted dead-letter topic, or an error of the brokers.
func CheckTopics(ctx context.Context, c *kafkaclient.Client, topics event.Topics,
	create bool) error {
	c.UseTopics(topics.All()...)
	if err := c.WaitForBroker(ctx); err != nil {
		return err
	}
	found, err := describeExisting(ctx, c, topics, !create)
	if err != nil {
		return err
	}
	missing := namesOfMissing(found)
	if len(missing) > 0 && !create {
		return &kafkaclient.MissingTopicError{Topics: missing}
	}
	for _, name := range missing {
		// its size limit depends on the other topics, which may be new
		if name == topics.DeadLetter {
			if found, err = describeExisting(ctx, c, topics, false); err != nil {
				return err
			}
		}
		if err := createTopic(ctx, c, newTopic(name, topics, found)); err != nil {
			return err
		}
	}
	return checkCleanupPolicy(c, topics.DeadLetter, found)
}

// MissingTopics returns the names of the topics that don't exist, within 8 s.
func MissingTopics(ctx context.Context, c *kafkaclient.Client, topics event.Topics) ([]string,
	error) {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	c.UseTopics(topics.All()...)
	found, err := describeExisting(ctx, c, topics, true)
	return namesOfMissing(found), err
}

// CheckCleanupPolicy checks, within 8 s, that a dead-letter topic is not compacted: compaction
// keeps one record per key, and so loses dead letters. If this user is not allowed to read the
// settings, it logs a warning.
func CheckCleanupPolicy(ctx context.Context, c *kafkaclient.Client, topic string) error {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	found, err := describeExisting(ctx, c, event.Topics{DeadLetter: topic}, false)
	if err != nil {
		return err
	}
	return checkCleanupPolicy(c, topic, found)
}

// describeExisting describes the topics, and retries transient failures until ctx ends. With
// recheck, it describes missing topics twice: brokers learn of a new topic one after the other.
func describeExisting(ctx context.Context, c *kafkaclient.Client, topics event.Topics,
	recheck bool) (found []DescribedTopic, err error) {
	describe := func() error {
		return c.Retry(ctx, "describing the topics", func() error {
			found, err = describeTopics(ctx, c, topics, false)
			// the cleanup policy must be known, and this failure may be temporary
			for _, t := range found {
				if t.Name == topics.DeadLetter && t.SettingsErr != nil &&
					kafkaclient.Retriable(t.SettingsErr) {
					err = cmp.Or(err, t.SettingsErr)
				}
			}
			return err
		})
	}
	err = describe()
	if err == nil && recheck && len(namesOfMissing(found)) > 0 &&
		kafkaclient.Sleep(ctx, recheckAfter) {
		c.RefreshMetadata()
		err = describe()
	}
	if err != nil {
		return nil, err
	}
	for _, t := range found {
		if t.Err != nil {
			return nil, kafkaclient.WithPermissionHint(fmt.Errorf("topic %q: %w", t.Name, t.Err),
				topics.Flag(t.Name))
		}
	}
	return found, nil
}

func namesOfMissing(found []DescribedTopic) (names []string) {
	for _, t := range found {
		if t.Missing {
			names = append(names, t.Name)
		}
	}
	return names
}

// newTopic returns a topic as CheckTopics creates it. A dead-letter topic accepts the largest
// record of the topics that were found, plus the dead letter's headers.
func newTopic(name string, topics event.Topics, found []DescribedTopic) kafkaclient.NewTopic {
	t := kafkaclient.NewTopic{Name: name, Partitions: createdPartitions}
	if name == topics.DeadLetter {
		largest := cmp.Or(LargestEvent(topics, found), kafkaclient.DefaultMessageBytes)
		t.Settings = map[string]string{
			kafkaclient.CleanupPolicy: "delete",
			kafkaclient.RetentionMs:   "-1",
			kafkaclient.MaxMessageBytes: strconv.Itoa(min(largest+event.LetterOverhead,
				math.MaxInt32)),
		}
	}
	return t
}

// createTopic creates a topic and waits until the brokers list it.
func createTopic(ctx context.Context, c *kafkaclient.Client, t kafkaclient.NewTopic) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	what := "topic created"
	err := c.Retry(ctx, "creating topic "+t.Name, func() error {
		err := c.CreateTopic(ctx, t)
		// by another worker, or by our previous attempt
		if errors.Is(err, kafkaclient.TopicAlreadyExists) {
			what = "topic already created meanwhile"
			return nil
		}
		return err
	})
	if err != nil {
		return kafkaclient.WithPermissionHint(fmt.Errorf("create topic %q: %w", t.Name, err),
			"--create-topics")
	}
	for wait := kafkaclient.NewBackoff(); ; {
		n, err := c.PartitionCount(ctx, t.Name)
		if err == nil {
			c.Options.Log.Info().Str("topic", t.Name).Int("partitions", n).Msg(what)
			return nil
		}
		c.RefreshMetadata()
		if !wait.Sleep(ctx) {
			return fmt.Errorf("create topic %q: it was created, but the brokers don't list it: %w", t.Name,
				cmp.Or(err, context.Cause(ctx)))
		}
	}
}

// checkCleanupPolicy returns an error if the dead-letter topic is compacted. If the user may not
// read the topic's settings, it logs a warning: a worker does not need that permission.
func checkCleanupPolicy(c *kafkaclient.Client, topic string, found []DescribedTopic) error {
	for _, t := range found {
		switch policy := t.Settings[kafkaclient.CleanupPolicy]; {
		case t.Name != topic:
		case t.SettingsErr != nil && kafkaclient.Denied(t.SettingsErr):
			c.Options.Log.Warn().Err(t.SettingsErr).Str("topic", topic).
				Strs("settings", []string{kafkaclient.CleanupPolicy}).
				Msg("no permission to read the settings of the topic; not checked")
		case t.SettingsErr != nil:
			return fmt.Errorf("settings of topic %q: %w", topic, t.SettingsErr)
		case strings.Contains(policy, "compact"):
			return fmt.Errorf("dead-letter topic %q has cleanup.policy=%s, which loses dead "+
				"letters: set it to delete", topic, policy)
		}
	}
	return nil
}

// CheckWrite checks, within 8 s, that the topics exist and that this user is allowed to write to
// them, so that work that can't succeed is not started. A missing topic is a *MissingTopicError.
// With brokers that are too old to report permissions, the first write shows a missing one.
func CheckWrite(ctx context.Context, c *kafkaclient.Client, topics ...string) error {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	var cluster kafkaclient.Cluster
	err := c.Retry(ctx, "reading the permissions of this user", func() error {
		s, err := c.OpenSession(ctx, "")
		if err == nil {
			defer s.Close()
			cluster, err = s.Describe(ctx, topics)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range topics {
		t := describedTopic(name, cluster)
		switch {
		case t.Missing:
			return &kafkaclient.MissingTopicError{Topics: []string{name}}
		case t.Err == nil && t.May.Known() && !t.May.Has(kafkaclient.MayWrite):
			t.Err = kafkaclient.TopicAuthorizationFailed
		}
		if t.Err != nil {
			return kafkaclient.WithPermissionHint(fmt.Errorf("topic %q: %w", name, t.Err),
				"Write of the topic")
		}
	}
	return nil
}
