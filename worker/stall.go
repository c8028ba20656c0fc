package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"markread/consumer"
	"markread/consumer/event"
	"markread/worker/engine"
)

const (
	stalledAfter  = 5 * time.Minute // so long the same event has kept a partition's offset from being committed: that is worth a line
	stallInterval = 10 * time.Second
)

// stallDetector notices that a partition's offset has not moved on for stuckAfter, because one event does not end.
type stallDetector map[event.TopicPartition]*stall

type stall struct {
	offset int64 // of the oldest event that has not ended
	since  time.Time
	told   bool
}

// check takes in where the partitions are. stuck are those to be told of now, moved those that were told and have gone on.
func (m stallDetector) check(now time.Time, partitions []consumer.PartitionState) (stuck, moved []consumer.PartitionState) {
	for _, p := range partitions {
		w := m[p.TopicPartition]
		if w != nil && p.Oldest != nil && w.offset == p.Oldest.Offset {
			if !w.told && now.Sub(w.since) >= stalledAfter {
				w.told = true
				stuck = append(stuck, p)
			}
			continue
		}
		if w != nil && w.told {
			moved = append(moved, p)
		}
		delete(m, p.TopicPartition)
		if p.Oldest != nil {
			m[p.TopicPartition] = &stall{offset: p.Oldest.Offset, since: now}
		}
	}
	return stuck, moved
}

// watchStalls writes one line about each event that keeps a partition's offset from moving on, and one when it does, until ctx ends.
func (w *Worker) watchStalls(ctx context.Context, g *consumer.Generation) {
	seen := stallDetector{}
	every(ctx, stallInterval, func() {
		stuck, moved := seen.check(time.Now(), g.Partitions())
		for _, p := range moved {
			w.options.Log.Info().Str("topic", p.Topic).Int("partition", p.Partition).Int64("committed", p.Committed).Msg("the partition's offset moves on again")
		}
		if len(stuck) > 0 {
			w.logStalled(stuck)
		}
	})
}

func (w *Worker) logStalled(stuck []consumer.PartitionState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	partitions := w.withLanes(stuck)
	waits, now := w.engine.Explain(unfinished(partitions)), time.Now()
	for _, p := range partitions {
		x := waits[p.Oldest.Ref]
		w.options.Log.Warn().Str("topic", p.Topic).Int("partition", p.Partition).Int64("offset", p.Oldest.Offset).Int64("lag", p.Lag).
			Float64("age_seconds", p.age(now).Seconds()).Int("attempts", x.Attempts).Str("waits_for", x.WaitsFor).Str("reason", w.reason(x)).
			Msgf("the partition's offset has not moved for %v: this event has not ended. What is finished behind it is committed beside the offset", stalledAfter)
	}
}

// reason returns why an event is not finished.
func (w *Worker) reason(x engine.Explanation) string {
	switch x.WaitsFor {
	case "hold":
		var reasons []string
		for _, h := range w.engine.Holds() {
			reasons = append(reasons, string(h.Reason))
		}
		return "calls are held: " + strings.Join(reasons, ", ")
	case "retry":
		return fmt.Sprintf("its calls fail; %d attempts count so far, at --attempts %d it becomes a dead letter", x.Attempts, w.options.Attempts)
	case "dead-letter":
		return "it waits for its letter to be written to the dead-letter topic"
	case "call":
		return "a call for it is out"
	default:
		return "more conversations wait than the quota has let through since it came"
	}
}
