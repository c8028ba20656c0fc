package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/consumer/batch"
)

// unreadableAfter is how long nothing could be read of a partition until it counts as unreadable.
// A change of leaders takes less.
const unreadableAfter = 5 * time.Second

// failed notes that the partition could not be read just now, and logs once when it becomes
// unreadable.
func (p *partition) failed(err error) {
	if isLayout(err) {
		p.g.client.refresh()
	}
	reason, do := unreadable(err)
	p.mu.Lock()
	before, good, position := p.unreadable, p.good, p.tracker.Position()
	if time.Since(good) >= unreadableAfter {
		p.unreadable = &Unreadable{Since: good, Offset: max(position, -1), Reason: reason, Do: do}
	}
	now := p.unreadable
	p.mu.Unlock()
	if now == nil || before != nil && before.Do == do {
		return
	}
	p.g.client.options.Log.Error().Str("topic", p.Topic).Int("partition", p.Partition).
		Int64("offset", now.Offset).Time("since", good).Str("reason", reason).Str("do", do).Msg("partition can't be read; retrying")
}

// succeeded notes a good fetch, and logs if it ends a time without one.
func (p *partition) succeeded() {
	p.wait = newWait()
	p.mu.Lock()
	before := p.unreadable
	p.good, p.unreadable = time.Now(), nil
	p.mu.Unlock()
	if before != nil {
		p.g.client.options.Log.Info().Str("topic", p.Topic).Int("partition", p.Partition).Int64("offset", p.position()).
			Int64("unreadable_ms", time.Since(before.Since).Milliseconds()).Msg("partition can be read again")
	}
}

// paused notes that no fetch was tried for so long: that says nothing about the partition. What was
// before the pause counts on: while capacity is scarce there is a pause before each fetch.
func (p *partition) paused(pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unreadable == nil {
		p.good = p.good.Add(pause)
	}
}

// unreadable returns why a partition can't be read and what to do, as text for people.
func unreadable(err error) (reason, do string) {
	const runbook = `; see "Partition unreadable" in the runbook`
	switch {
	case errors.Is(err, batch.ErrChecksum), errors.Is(err, batch.ErrTruncated), errors.Is(err, kafka.InvalidMessage):
		do = "restore the partition from a good replica, or move the group past the damaged batch"
	case errors.Is(err, batch.ErrFormat):
		do = "check what wrote the batch; a newer version of markread may know its format"
	case Denied(err):
		do = "grant this worker's user Read and Describe on the topic"
	case errors.Is(err, kafka.OffsetOutOfRange):
		do = "find out whether the topic was recreated or truncated, or the group's offset was set by hand"
	case errors.Is(err, kafka.UnknownTopicOrPartition):
		do = "check that the topic exists and has this partition"
	default: // one remedy for a leader that is dead, frozen or not known: they follow each other
		do = "check that the partition's leader runs and can be reached from here (kafka-topics.sh --describe)"
	}
	return fmt.Sprint(err), do + runbook
}
