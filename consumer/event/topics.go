package event

import (
	"cmp"
	"slices"
)

// Topics names the topics of a worker, or some of them.
type Topics struct {
	Live       string
	Backfill   string // "": no backfill lane
	DeadLetter string
}

func (t Topics) Consumed() []string {
	if t.Backfill == "" {
		return []string{t.Live}
	}
	return []string{t.Live, t.Backfill}
}

// All are those that have a name.
func (t Topics) All() []string {
	return slices.DeleteFunc([]string{t.Live, t.Backfill, t.DeadLetter},
		func(name string) bool { return name == "" })
}

// Flag returns what names the topic on markread's command line.
func (t Topics) Flag(topic string) string {
	switch topic {
	case t.Backfill:
		return "--backfill-topic"
	case t.DeadLetter:
		return "--dead-letter-topic"
	}
	return "--topic"
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int
}

// Compare orders by topic, then by number.
func (a TopicPartition) Compare(b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
