package worker

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"markread/consumer"
	"markread/consumer/event"
	"markread/worker/engine"
)

const (
	// stalledAfter is how long one event must keep a partition's offset from moving before it is
	// logged.
	stalledAfter  = 5 * time.Minute
	stallInterval = 10 * time.Second
)

// stallDetector detects when one event keeps a partition's offset from moving for stalledAfter.
type stallDetector map[event.TopicPartition]*stall

type stall struct {
	offset int64 // of the oldest unfinished event
	since  time.Time
	logged bool
}

// check returns the partitions that have newly stalled, and the stalled ones that have moved again.
func (d stallDetector) check(now time.Time, partitions []partition) (stalled, moved []partition) {
	for _, p := range partitions {
		s := d[p.TopicPartition]
		if s != nil && p.Oldest != nil && s.offset == p.Oldest.Offset {
			if !s.logged && now.Sub(s.since) >= stalledAfter {
				s.logged = true
				stalled = append(stalled, p)
			}
			continue
		}
		if s != nil && s.logged {
			moved = append(moved, p)
		}
		delete(d, p.TopicPartition)
		if p.Oldest != nil {
			d[p.TopicPartition] = &stall{offset: p.Oldest.Offset, since: now}
		}
	}
	return stalled, moved
}

// watchStalls logs until ctx ends which event stalls a partition, and when the partition moves
// again.
func (w *Worker) watchStalls(ctx context.Context, g *consumer.Generation) {
	detector := stallDetector{}
	every(ctx, stallInterval, func() {
		now := time.Now()
		stalled, moved := detector.check(now, w.withLanes(g.Partitions()))
		for _, p := range moved {
			w.options.Log.Info().Str("topic", p.Topic).Int("partition", p.Partition).
				Int64("committed", p.Committed).Msg("the partition's offset moves again")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		events := unfinished(stalled)
		waits, records := w.engine.Explain(events), w.engine.Records(maps.Keys(events))
		for _, p := range stalled {
			x := waits[p.Oldest.Ref]
			r := event.Record{Topic: p.Topic, Partition: p.Partition, Offset: p.Oldest.Offset}
			if kept := records[p.Oldest.Ref]; kept.Topic == r.Topic &&
				kept.Partition == r.Partition && kept.Offset == r.Offset {
				r = kept // else it collapsed into this one, and its trace is no longer known
			}
			withRecord(w.options.Log.Warn(), r).Int64("lag", p.Lag).
				Float64("age_seconds", p.age(now).Seconds()).Int("attempts", x.Attempts).
				Str("waits_for", x.WaitsFor).Str("reason", w.reason(x)).
				Msgf("the partition's offset has not moved for %v: this event is unfinished; "+
					"events finished behind it are recorded in the commit metadata", stalledAfter)
		}
	})
}

// reason explains why an event is not finished. The caller holds the lock.
func (w *Worker) reason(x engine.Explanation) string {
	switch x.WaitsFor {
	case "hold":
		var reasons []string
		for _, h := range w.engine.Holds() {
			reasons = append(reasons, string(h.Reason))
		}
		return "calls are held: " + strings.Join(reasons, ", ")
	case "retry":
		return fmt.Sprintf("its calls fail; %d attempts count so far, at --attempts %d it becomes "+
			"a dead letter; throttled calls, and calls during a hold, don't count", x.Attempts,
			w.options.Attempts)
	case "dead-letter":
		return "its dead letter waits to be written to the dead-letter topic"
	case "call":
		return "a call for it is in flight"
	default:
		return "more conversations wait than the quota has let through since it arrived"
	}
}
