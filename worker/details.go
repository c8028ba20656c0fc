package worker

import (
	"slices"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/console/overview"
	"markread/worker/engine"
	"markread/worker/hold"
)

// oldAfter is the age from which a partition's oldest unfinished event is described in Details.
const oldAfter = 30 * time.Second

// Details returns what the metrics of this worker can't show. It is called every second, and takes
// the lock for about a millisecond at most, whatever waits: see engine.Explain.
func (w *Worker) Details() overview.Details {
	w.mu.Lock()
	now := time.Now()
	w.engine.Expire(now)
	holds := w.engine.Holds()
	var partitions []partition
	waits := map[event.Ref]engine.Explanation{}
	if w.generation != nil {
		partitions = w.withLanes(w.generation.Partitions())
		old := make([]partition, 0, len(partitions))
		for _, p := range partitions {
			if p.age(now) > oldAfter {
				old = append(old, p)
			}
		}
		waits = w.engine.Explain(unfinished(old))
	}
	outside := w.generation == nil
	w.mu.Unlock()

	var d overview.Details
	if left := w.outsideSince.Load(); outside && left != 0 {
		d.Outside = time.Unix(0, left)
	} else if outside {
		d.Outside = w.started
	}
	for _, h := range holds {
		d.Holds = append(d.Holds, toOverviewHold(now, h))
	}
	for _, p := range partitions {
		shown := overview.Partition{
			Topic: p.Topic, Partition: p.Partition, Lane: p.lane.String(),
			OldestSeconds: p.waited(now).Seconds(),
		}
		if p.age(now) > oldAfter {
			x := waits[p.Oldest.Ref]
			shown.Oldest = &overview.Oldest{
				Offset: p.Oldest.Offset, Attempts: x.Attempts, WaitsFor: x.WaitsFor,
			}
		}
		if u := p.Unreadable; u != nil {
			shown.Unreadable = &overview.Unreadable{Since: u.Since, Reason: u.Reason, Do: u.Do,
				Offset: ifKnown(u.Offset, u.Offset >= 0)}
		}
		if shown.Oldest != nil || shown.Unreadable != nil {
			d.Partitions = append(d.Partitions, shown)
		}
	}
	return d
}

func toOverviewHold(now time.Time, h hold.Hold) overview.Hold {
	shown := overview.Hold{
		Reason: string(h.Reason), Lane: "all", Since: h.Since, Detail: h.Detail, Code: h.Code,
		Do: h.Do, By: h.By, Why: h.Why, NextProbeAt: probeAt(now, h),
	}
	if h.Lane != hold.All {
		shown.Lane = event.Lane(h.Lane).String()
	}
	return shown
}

// Conversation is what this worker knows about a conversation.
type Conversation struct {
	engine.Conversation
	// where the recommended key puts its live events; nil: this worker is in no generation
	Partition *event.TopicPartition
	Here      bool // this worker owns the partition
}

// Conversation returns what this worker knows about the conversation of two accounts.
func (w *Worker) Conversation(report, peer string) (c Conversation) {
	w.mu.Lock()
	c.Conversation = w.engine.Conversation(time.Now(), report, peer)
	g := w.generation
	w.mu.Unlock()
	if g == nil {
		return c
	}
	topic, partitions := w.options.Topics.Live, 0
	for _, tp := range g.All() {
		if tp.Topic == topic {
			partitions++
		}
	}
	if partitions == 0 {
		return c
	}
	number := kafkaclient.PartitionOf(event.Key(report, peer), partitions)
	c.Partition = &event.TopicPartition{Topic: topic, Partition: number}
	c.Here = slices.Contains(g.Assigned(), *c.Partition)
	return c
}

// Rejected returns the newest rejected or invalid events, newest first. They contain accounts.
func (w *Worker) Rejected() []engine.Rejected {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.engine.Rejected()
}
