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

	"github.com/segmentio/kafka-go"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

const (
	createdPartitions = 12
	createTimeout     = 30 * time.Second
)

// CleanupPolicyError says that the dead-letter topic would lose letters: compaction keeps one record a key.
type CleanupPolicyError struct{ Topic, Policy string }

func (e *CleanupPolicyError) Error() string {
	return fmt.Sprintf("dead-letter topic %q has cleanup.policy=%s, which loses letters: set it to delete", e.Topic, e.Policy)
}

// CheckTopics makes sure that the topics exist and that the dead-letter topic keeps its letters. With create,
// missing topics are created: 12 partitions, the broker's replication; the dead-letter topic keeps its
// records for ever, and takes any record of the others.
//
// Brokers that can't be reached are waited for until ctx ends. Other errors are a *MissingTopicError, a
// *CleanupPolicyError, a *RefusedError, or what the brokers answered.
func CheckTopics(ctx context.Context, c *kafkaclient.Client, topics event.Topics, create bool) error {
	c.UseTopics(topics.All()...)
	if err := c.WaitForBroker(ctx); err != nil {
		return err
	}
	missing, err := c.ListMissing(ctx, topics)
	if err == nil && len(missing) > 0 && !create && kafkaclient.Sleep(ctx, kafkaclient.RecheckAfter) {
		c.RefreshMetadata()
		missing, err = c.ListMissing(ctx, topics)
	}
	if err != nil {
		return err
	}
	if len(missing) > 0 && !create {
		return &kafkaclient.MissingTopicError{Topics: missing}
	}
	// The dead-letter topic last: its limit depends on the others'.
	for _, name := range missing {
		var entries []kafka.ConfigEntry
		if name == topics.DeadLetter {
			limit, err := maxMessageBytes(ctx, c, topics.Consumed())
			if err != nil {
				return err
			}
			entries = letterSettings(limit)
		}
		if err := createTopic(ctx, c, name, entries); err != nil {
			return err
		}
	}
	return checkPolicy(ctx, c, topics.DeadLetter)
}

// letterSettings are those of a dead-letter topic that is made for records of at most so many bytes.
func letterSettings(largest int) []kafka.ConfigEntry {
	return []kafka.ConfigEntry{
		{ConfigName: kafkaclient.CleanupPolicy, ConfigValue: "delete"},
		{ConfigName: kafkaclient.RetentionMs, ConfigValue: "-1"},
		{ConfigName: kafkaclient.MaxMessageBytes, ConfigValue: strconv.Itoa(min(largest+event.LetterOverhead, math.MaxInt32))},
	}
}

// createTopic creates a topic and waits until it can be used.
func createTopic(ctx context.Context, c *kafkaclient.Client, name string, entries []kafka.ConfigEntry) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	what := "created the topic"
	err := c.Retry(ctx, "creating topic "+name, func() error {
		response, err := c.API().CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
			Topic: name, NumPartitions: createdPartitions, ReplicationFactor: -1, ConfigEntries: entries,
		}}})
		if err == nil {
			err = response.Errors[name]
		}
		if errors.Is(err, kafka.TopicAlreadyExists) { // another worker was faster, or our last try was
			what = "the topic has been created meanwhile"
			return nil
		}
		return kafkaclient.Plain(err)
	})
	if err != nil {
		return kafkaclient.WithPermissionHint(fmt.Errorf("create topic %q: %w", name, err), "--create-topics")
	}
	for wait := kafkaclient.NewBackoff(); ; {
		counts, err := c.PartitionCounts(ctx, name)
		if err == nil && counts[name] > 0 {
			c.Options.Log.Info().Str("topic", name).Int("partitions", counts[name]).Msg(what)
			return nil
		}
		c.RefreshMetadata()
		if !wait.Sleep(ctx) {
			return fmt.Errorf("create topic %q: it does not appear: %w", name, cmp.Or(err, context.Cause(ctx)))
		}
	}
}

// KeepsLetters makes sure that a dead-letter topic does not lose letters to compaction: else it is a *CleanupPolicyError. It tries for 8 s. If
// the settings may not be read, that is one line in the log.
func KeepsLetters(ctx context.Context, c *kafkaclient.Client, topic string) error {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	c.UseTopics(topic)
	return checkPolicy(ctx, c, topic)
}

func checkPolicy(ctx context.Context, c *kafkaclient.Client, topic string) error {
	config, err := topicConfig(ctx, c, topic, "cleanup.policy")
	if err != nil {
		return err
	}
	if policy, ok := config["cleanup.policy"]; ok && strings.Contains(policy, "compact") {
		return &CleanupPolicyError{topic, policy}
	}
	return nil
}

// maxMessageBytes returns the largest batch that any of the topics takes.
func maxMessageBytes(ctx context.Context, c *kafkaclient.Client, topics []string) (int, error) {
	limit := 0
	for _, topic := range topics {
		config, err := topicConfig(ctx, c, topic, "max.message.bytes")
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(config["max.message.bytes"])
		if err != nil {
			n = kafkaclient.DefaultMessageBytes
		}
		limit = max(limit, n)
	}
	return limit, nil
}

// topicConfig returns settings of a topic. Those that we may not see are absent, and logged: a worker needs
// no right to read them.
func topicConfig(ctx context.Context, c *kafkaclient.Client, topic string, names ...string) (map[string]string, error) {
	config := map[string]string{}
	err := c.Retry(ctx, "reading the settings of topic "+topic, func() error {
		response, err := c.API().DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
			Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: names}},
		})
		if err != nil {
			return kafkaclient.Plain(err)
		}
		for _, r := range response.Resources {
			switch {
			case errors.Is(r.Error, kafka.TopicAuthorizationFailed), errors.Is(r.Error, kafka.ClusterAuthorizationFailed):
				c.Options.Log.Warn().Err(r.Error).Str("topic", topic).Strs("settings", names).
					Msg("may not read the settings of the topic: they are not checked")
			case r.Error != nil:
				return kafkaclient.Plain(r.Error)
			}
			for _, e := range r.ConfigEntries {
				config[e.ConfigName] = e.ConfigValue
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("settings of topic %q: %w", topic, err)
	}
	return config, nil
}
