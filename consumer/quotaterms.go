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

// quotaTerms is what a member goes by when it reckons its share of the quota. The shares add up to
// the rate only when all members go by the same: each publishes its terms when it joins, and the
// leader gives partitions only to those that share its own.
type quotaTerms struct {
	Rate int `json:"rate"` // calls a second, of the whole group
	// how many each topic has that it consumes; 0: the topic is not there
	Partitions map[string]int `json:"partitions"`
}

// currentTerms returns what a member with these options goes by at the moment.
func currentTerms(ctx context.Context, c *kafkaclient.Client, o GroupOptions) (quotaTerms, error) {
	topics := o.Topics.Consumed()
	counts, err := c.PartitionCounts(ctx, topics...)
	if err != nil {
		return quotaTerms{}, err
	}
	for _, topic := range topics {
		counts[topic] += 0 // it is named, also when it is not there
	}
	return quotaTerms{o.Rate, counts}, nil
}

func (o quotaTerms) equal(other quotaTerms) bool {
	return o.Rate == other.Rate && maps.Equal(o.Partitions, other.Partitions)
}

// changedSince reports whether a topic that is there has another number of partitions than before.
func (o quotaTerms) changedSince(before quotaTerms) bool {
	for topic, n := range o.Partitions {
		if n > 0 && n != before.Partitions[topic] {
			return true
		}
	}
	return false
}

// misses reports whether a topic is not there.
func (o quotaTerms) misses() bool {
	return slices.Contains(slices.Collect(maps.Values(o.Partitions)), 0)
}

// all returns the partitions, sorted by topic and number.
func (o quotaTerms) all() []event.TopicPartition {
	var all []event.TopicPartition
	for _, topic := range slices.Sorted(maps.Keys(o.Partitions)) {
		for p := range o.Partitions[topic] {
			all = append(all, event.TopicPartition{Topic: topic, Partition: p})
		}
	}
	return all
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// check returns why no worker can have this quota terms.
func (o quotaTerms) check() error {
	if len(o.Partitions) == 0 || len(o.Partitions) > maxTopics {
		return errNotOurs
	}
	total := 0
	for topic, n := range o.Partitions {
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
	if o.Rate < 0 || o.Rate > maxTermsNumber {
		return fmt.Errorf("it uses a rate of %d", o.Rate)
	}
	return nil
}
