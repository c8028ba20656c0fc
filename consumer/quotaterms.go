package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// quotaTerms are the inputs from which a member calculates its share of the quota. The shares add
// up to the rate only when all members use the same terms. So each member publishes its terms when
// it joins, and the leader assigns partitions only to members with the same terms as its own.
type quotaTerms struct {
	Rate int `json:"rate"` // calls a second, of the whole group
	// the partition count of each consumed topic; 0: the topic does not exist
	Partitions map[string]int `json:"partitions"`
}

// currentTerms returns the quota terms of a member with these options, with the current partition
// counts.
func currentTerms(ctx context.Context, c *kafkaclient.Client, o GroupOptions) (quotaTerms, error) {
	topics := o.Topics.Consumed()
	counts, err := c.PartitionCounts(ctx, topics...)
	if err != nil {
		return quotaTerms{}, err
	}
	for _, topic := range topics {
		counts[topic] += 0 // a missing topic is present with 0
	}
	return quotaTerms{o.Rate, counts}, nil
}

func (t quotaTerms) equal(other quotaTerms) bool {
	return t.Rate == other.Rate && maps.Equal(t.Partitions, other.Partitions)
}

// changedSince reports whether the partition count of an existing topic has changed.
func (t quotaTerms) changedSince(before quotaTerms) bool {
	for topic, n := range t.Partitions {
		if n > 0 && n != before.Partitions[topic] {
			return true
		}
	}
	return false
}

// misses reports whether a topic is missing.
func (t quotaTerms) misses() bool {
	return slices.Contains(slices.Collect(maps.Values(t.Partitions)), 0)
}

// all returns the partitions of all topics, sorted by topic and number.
func (t quotaTerms) all() []event.TopicPartition {
	var all []event.TopicPartition
	for _, topic := range slices.Sorted(maps.Keys(t.Partitions)) {
		for p := range t.Partitions[topic] {
			all = append(all, event.TopicPartition{Topic: topic, Partition: p})
		}
	}
	return all
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// check returns why no worker can have published these terms; nil: a worker can.
func (t quotaTerms) check() error {
	if len(t.Partitions) == 0 || len(t.Partitions) > maxTopics {
		return errNotOurs
	}
	total := 0
	for topic, n := range t.Partitions {
		if !topicName.MatchString(topic) {
			return errors.New("it names a topic that can't exist")
		}
		if n < 0 || n > maxTermsNumber {
			return fmt.Errorf("it counts %d partitions of a topic", n)
		}
		total += n
	}
	if total > maxTermsNumber {
		return fmt.Errorf("it counts %d partitions", total)
	}
	if t.Rate < 0 || t.Rate > maxTermsNumber {
		return fmt.Errorf("it uses a rate of %d", t.Rate)
	}
	return nil
}
