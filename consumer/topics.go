package consumer

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
func (c *Client) CheckTopics(ctx context.Context, topics Topics, create bool) error {
	c.use(topics.all()...)
	if err := c.reach(ctx); err != nil {
		return err
	}
	missing, err := c.missing(ctx, topics)
	if err == nil && len(missing) > 0 && !create && pause(ctx, lookAgain) {
		c.refresh()
		missing, err = c.missing(ctx, topics)
	}
	if err != nil {
		return err
	}
	if len(missing) > 0 && !create {
		return &MissingTopicError{missing}
	}
	// The dead-letter topic last: its limit depends on the others'.
	for _, name := range missing {
		var entries []kafka.ConfigEntry
		if name == topics.DeadLetter {
			limit, err := c.maxMessageBytes(ctx, topics.consumed())
			if err != nil {
				return err
			}
			entries = letterSettings(limit)
		}
		if err := c.createTopic(ctx, name, entries); err != nil {
			return err
		}
	}
	return c.checkPolicy(ctx, topics.DeadLetter)
}

// letterSettings are those of a dead-letter topic that is made for records of at most so many bytes.
func letterSettings(largest int) []kafka.ConfigEntry {
	return []kafka.ConfigEntry{
		{ConfigName: CleanupPolicy, ConfigValue: "delete"},
		{ConfigName: RetentionMs, ConfigValue: "-1"},
		{ConfigName: MaxMessageBytes, ConfigValue: strconv.Itoa(min(largest+letterOverhead, math.MaxInt32))},
	}
}

// createTopic creates a topic and waits until it can be used.
func (c *Client) createTopic(ctx context.Context, name string, entries []kafka.ConfigEntry) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	what := "created the topic"
	err := c.persist(ctx, "creating topic "+name, func() error {
		response, err := c.api().CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
			Topic: name, NumPartitions: createdPartitions, ReplicationFactor: -1, ConfigEntries: entries,
		}}})
		if err == nil {
			err = response.Errors[name]
		}
		if errors.Is(err, kafka.TopicAlreadyExists) { // another worker was faster, or our last try was
			what = "the topic has been created meanwhile"
			return nil
		}
		return plainly(err)
	})
	if err != nil {
		return denied(fmt.Errorf("create topic %q: %w", name, err), "--create-topics")
	}
	for wait := newWait(); ; {
		counts, err := c.partitions(ctx, name)
		if err == nil && counts[name] > 0 {
			c.options.Log.Info().Str("topic", name).Int("partitions", counts[name]).Msg(what)
			return nil
		}
		c.refresh()
		if !wait.sleep(ctx) {
			return fmt.Errorf("create topic %q: it does not appear: %w", name, cmp.Or(err, context.Cause(ctx)))
		}
	}
}

// KeepsLetters makes sure that a dead-letter topic does not lose letters to compaction: else it is a *CleanupPolicyError. It tries for 8 s. If
// the settings may not be read, that is one line in the log.
func (c *Client) KeepsLetters(ctx context.Context, topic string) error {
	ctx, cancel := looking(ctx)
	defer cancel()
	c.use(topic)
	return c.checkPolicy(ctx, topic)
}

func (c *Client) checkPolicy(ctx context.Context, topic string) error {
	config, err := c.topicConfig(ctx, topic, "cleanup.policy")
	if err != nil {
		return err
	}
	if policy, ok := config["cleanup.policy"]; ok && strings.Contains(policy, "compact") {
		return &CleanupPolicyError{topic, policy}
	}
	return nil
}

// maxMessageBytes returns the largest batch that any of the topics takes.
func (c *Client) maxMessageBytes(ctx context.Context, topics []string) (int, error) {
	limit := 0
	for _, topic := range topics {
		config, err := c.topicConfig(ctx, topic, "max.message.bytes")
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(config["max.message.bytes"])
		if err != nil {
			n = defaultMessageBytes
		}
		limit = max(limit, n)
	}
	return limit, nil
}

// topicConfig returns settings of a topic. Those that we may not see are absent, and logged: a worker needs
// no right to read them.
func (c *Client) topicConfig(ctx context.Context, topic string, names ...string) (map[string]string, error) {
	config := map[string]string{}
	err := c.persist(ctx, "reading the settings of topic "+topic, func() error {
		response, err := c.api().DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
			Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: names}},
		})
		if err != nil {
			return plainly(err)
		}
		for _, r := range response.Resources {
			switch {
			case errors.Is(r.Error, kafka.TopicAuthorizationFailed), errors.Is(r.Error, kafka.ClusterAuthorizationFailed):
				c.options.Log.Warn().Err(r.Error).Str("topic", topic).Strs("settings", names).
					Msg("may not read the settings of the topic: they are not checked")
			case r.Error != nil:
				return plainly(r.Error)
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
