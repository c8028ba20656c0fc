package kafkaclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/consumer/batch"
)

// Unreadable describes a partition that can't be read: its fetches fail, or its next batch is
// damaged. It is retried, and never skipped.
type Unreadable struct {
	Since  time.Time // the last good fetch, or the start of the generation
	Offset int64     // the next offset to read; -1: unknown
	Reason string    // one line: what failed
	Do     string    // one line: the remedy
}

// WhyUnreadable returns why a partition can't be read and what to do, as text for people.
func WhyUnreadable(err error) (reason, do string) {
	const runbook = "; see deploy/RUNBOOK.md#markreadpartitionunreadable"
	switch {
	case errors.Is(err, batch.ErrChecksum), errors.Is(err, batch.ErrTruncated),
		errors.Is(err, kafka.InvalidMessage):
		do = "restore the partition from a good replica, or move the group past the damaged batch"
	case errors.Is(err, batch.ErrFormat):
		do = "check what wrote the batch; a newer version of markread may know its format"
	case Denied(err):
		do = "grant this worker's user Read and Describe on the topic"
	case errors.Is(err, kafka.OffsetOutOfRange):
		do = "find out whether the topic was recreated or truncated, or the group's offset was " +
			"set by hand"
	case errors.Is(err, kafka.UnknownTopicOrPartition):
		do = "check that the topic exists and has this partition"
	default: // one remedy for a leader that is dead, frozen or unknown: these follow each other
		do = "check that the partition's leader runs and can be reached from here " +
			"(kafka-topics.sh --describe)"
	}
	return fmt.Sprint(err), do + runbook
}
