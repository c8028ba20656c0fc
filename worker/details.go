package worker

import (
	"context"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/console"
	"markread/worker/console/overview"
	"markread/worker/engine"
	"markread/worker/hold"
)

// oldAfter is the age from which a partition's oldest unfinished event is described in Details. It
// is less than the age from which the console says that the event blocks its partition.
const oldAfter = 15 * time.Second

// maxMessage bounds the bytes of a failure's message.
const maxMessage = 300

// noBrokerAfter is how long a process may wait for the first response of a broker.
const noBrokerAfter = 10 * time.Second

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

	d := overview.Details{
		// There was no attempt to join: that waits for a broker.
		NoBroker: w.lastAlive.Load() == 0 && now.Sub(w.started) > noBrokerAfter,
	}
	if left := w.outsideSince.Load(); outside && left != 0 {
		d.Outside = time.Unix(0, left)
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
				Offset: p.Oldest.Offset, Attempts: x.Attempts, AttemptsOf: w.options.Attempts,
				WaitsFor: x.WaitsFor, Code: x.Code, Message: oneLine(x.Message, maxMessage),
				RetryAt: ifSet(x.RetryAt), Report: x.Report, Peer: x.Peer,
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

// Conversation implements console.Inspector. The partition is where the recommended key puts the
// conversation's live events.
func (w *Worker) Conversation(_ context.Context, report, peer string) (console.Conversation,
	error) {
	w.mu.Lock()
	known := w.engine.Conversation(time.Now(), report, peer)
	g := w.generation
	w.mu.Unlock()
	c := console.Conversation{}
	if v := known.Waiting; v != nil {
		c.Waiting = &console.WaitingConversation{Lane: v.Lane.String(), Events: v.Events,
			ReadTime: v.ReadTime, InFlight: v.InFlight, Attempts: v.Attempts,
			RetryAt: ifSet(v.RetryAt), Since: ifSet(v.Since),
			Code: v.Failed.Code, Message: oneLine(v.Failed.Message, maxMessage)}
	}
	if a := known.Applied; a != nil {
		c.Applied = &console.AppliedConversation{ReadTime: a.ReadTime, At: a.At.UTC()}
	}
	if g == nil {
		c.Note = "this worker is in no generation of the group, so it has no partitions"
		return c, nil
	}
	topic, partitions := w.options.Topics.Live, 0
	for _, tp := range g.All() {
		if tp.Topic == topic {
			partitions++
		}
	}
	if partitions > 0 {
		number := kafkaclient.PartitionOf(event.Key(report, peer), partitions)
		c.Partition = &console.ConversationPartition{Topic: topic, Partition: number}
		c.Here = slices.Contains(g.Assigned(),
			event.TopicPartition{Topic: topic, Partition: number})
	}
	if c.Here {
		c.Owner = g.Member()
	}
	return c, nil
}

func ifSet(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

// Rejected implements console.Inspector.
func (w *Worker) Rejected() []console.RejectedEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []console.RejectedEvent
	for _, r := range w.engine.Rejected() {
		class := event.ClassRejected
		if r.Code == "" {
			class = event.ClassInvalid
		}
		list = append(list, console.RejectedEvent{At: r.At.UTC(), Lane: r.Lane.String(),
			Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Class: class, Code: r.Code,
			Message: r.Message, Report: r.Report, Peer: r.Peer})
	}
	return list
}
