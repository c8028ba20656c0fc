package worker

import (
	"maps"
	"strconv"
	"time"

	"markread/consumer"
	"markread/consumer/event"
	"markread/worker/backlog"
	"markread/worker/console"
	"markread/worker/hold"
)

// snapshot is the engine's state of one moment.
type snapshot struct {
	at            time.Time
	counts        counts
	calls         uint64
	conversations [backlog.Lanes]int
	holds         []hold.Hold
	share, limit  int
	inFlight      int
	cooling       int
	lost          map[string]int64
	generation    *consumer.Generation // nil between generations
	partitions    []partition
}

type partition struct {
	consumer.PartitionState
	lane event.Lane
}

func (p partition) number() string { return strconv.Itoa(p.Partition) }

// age is that of the oldest event that has not reached its end; 0: there is none.
func (p partition) age(now time.Time) time.Duration {
	if p.Oldest == nil {
		return 0
	}
	return max(0, now.Sub(p.Oldest.Time))
}

// waited is how long the partition has waited: the age of its oldest unfinished event or, while it is
// unreadable, the time since the last good fetch, whichever is longer. What can't be read has no
// age of its own, and whether something is there is not known.
func (p partition) waited(now time.Time) time.Duration {
	age := p.age(now)
	if p.Unreadable != nil {
		age = max(age, now.Sub(p.Unreadable.Since))
	}
	return age
}

// lag returns how far the committed offset is behind the end of the log; false: not known. It is
// never 0 where records may be unread: the end is not known, or as old as the last good fetch of an
// unreadable partition, or the group's offset lies beyond it.
func (p partition) lag() (lag int64, known bool) {
	sure := p.Unreadable == nil && p.Committed <= p.HighWatermark
	return p.Lag, p.HighWatermark >= 0 && (sure || p.Lag > 0)
}

// snapshot reads everything at one moment. The caller holds the lock.
func (w *Worker) snapshot() snapshot {
	c, now := w.core, time.Now() // under the lock: time must not go back for the quota
	c.changed(now, c.holds.Expire(now))
	s := snapshot{
		at:         now,
		counts:     c.counts,
		calls:      c.calls,
		holds:      c.holds.Active(),
		share:      c.quota.Share(),
		limit:      c.quota.Limit(now),
		inFlight:   c.quota.InFlight(),
		cooling:    c.quota.Cooling(now),
		lost:       maps.Clone(w.lost),
		generation: w.generation,
	}
	if w.generation == nil {
		return s
	}
	for topic, n := range w.generation.Lost() {
		s.lost[topic] += n
	}
	for lane := range s.conversations {
		s.conversations[lane] = c.backlog.Conversations(lane)
	}
	s.partitions = w.withLanes(w.generation.Partitions())
	return s
}

func (w *Worker) withLanes(states []consumer.PartitionState) []partition {
	partitions := make([]partition, len(states))
	for i, p := range states {
		partitions[i] = partition{PartitionState: p}
		if p.Topic == w.options.Topics.Backfill {
			partitions[i].lane = event.Backfill
		}
	}
	return partitions
}

// State implements console.Source.
func (w *Worker) State() console.State {
	w.mu.Lock()
	s := w.snapshot()
	unfinished := w.core.explain(s.at, s.partitions)
	w.mu.Unlock()

	state := console.State{
		Version:   w.options.Version,
		Commit:    w.options.Commit,
		StartedAt: w.started,
		Ready:     w.Ready(),
		Group:     console.Group{Name: w.options.Group},
		Quota:     console.Quota{Rate: w.options.Rate, InFlight: s.inFlight},
		Lanes:     console.Lanes{Live: s.shownLane(event.Live), Backfill: s.shownLane(event.Backfill)},
		Totals:    s.totals(),
		Held:      shownHolds(s.at, s.holds),
	}
	if w.options.Rate > 0 {
		state.Quota.Share, state.Quota.Limit, state.Quota.Cooling = &s.share, &s.limit, &s.cooling
	}
	if g := s.generation; g != nil {
		state.Group.Member, state.Group.Generation = new(g.Member()), new(g.ID())
		state.Group.Assigned, state.Group.Partitions = len(g.Assigned()), len(g.All())
	}
	if left := w.left.Load(); s.generation == nil && left != 0 {
		state.Group.Outside = time.Unix(0, left)
	}
	for i, p := range s.partitions {
		state.Partitions = append(state.Partitions, p.shown(unfinished[i]))
	}
	return state
}

// Held implements console.Source.
func (w *Worker) Held() []console.Hold {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.core.changed(now, w.core.holds.Expire(now))
	return shownHolds(now, w.core.holds.Active())
}

// overdue is how long after its time a probe is still out, or about to be: a call takes 11 s at most.
const overdue = time.Minute

func shownHolds(now time.Time, holds []hold.Hold) []console.Hold {
	var list []console.Hold
	for _, h := range holds {
		shown := console.Hold{
			Reason: string(h.Reason), Since: h.Since, Detail: h.Detail, Do: h.Do,
			Meaning: h.Reason.Meaning(), Seen: h.Detail,
		}
		if h.Lane != hold.All {
			shown.Lane = event.Lane(h.Lane).String()
			shown.Detail = "lane " + shown.Lane + ": " + shown.Detail
		}
		if !h.NextProbe.IsZero() && now.Sub(h.NextProbe) < overdue { // else nothing waits to probe with
			shown.NextProbeAt = &h.NextProbe
		}
		list = append(list, shown)
	}
	return list
}

// explain says for the oldest unfinished event of each partition what it waits for; nil where there is none. A number of committed
// records says little when calls finish out of order; this names the one that the commit waits for.
func (c *core) explain(now time.Time, partitions []partition) []*console.Unfinished {
	unfinished := make([]*console.Unfinished, len(partitions))
	var refs []uint64
	for _, p := range partitions {
		if p.Oldest != nil {
			refs = append(refs, uint64(p.Oldest.Ref))
		}
	}
	if len(refs) == 0 {
		return unfinished
	}
	found := c.backlog.Find(refs)
	for i, p := range partitions {
		if p.Oldest == nil {
			continue
		}
		u := &console.Unfinished{Offset: p.Oldest.Offset, AgeSeconds: p.age(now).Seconds()}
		of := found[uint64(p.Oldest.Ref)]
		u.WaitsFor = c.waitsFor(of, int(p.lane))
		if of != nil {
			u.Attempts = int(of.Attempts)
		}
		unfinished[i] = u
	}
	return unfinished
}

// waitsFor says what the events of a conversation of the lane wait for. nil: it was not found, mostly because
// it has become a letter.
func (c *core) waitsFor(of *backlog.Conversation, lane int) string {
	if of != nil {
		lane = of.Lane() // a live event may have lifted it
	}
	switch {
	case of != nil && of.Out():
		return "call"
	case of == nil && len(c.letters.waiting)+c.letters.writing > 0:
		return "dead-letter"
	case c.holds.On(lane):
		return "hold"
	case of != nil && of.Retrying():
		return "retry"
	default:
		return "quota"
	}
}

func (p partition) shown(unfinished *console.Unfinished) console.Partition {
	shown := console.Partition{Topic: p.Topic, Partition: p.Partition, OldestUnfinished: unfinished}
	if p.Committed >= 0 {
		shown.Committed = &p.Committed
	}
	if p.HighWatermark >= 0 {
		shown.HighWatermark = &p.HighWatermark
	}
	if lag, known := p.lag(); known {
		shown.Lag = &lag
	}
	if u := p.Unreadable; u != nil {
		shown.Unreadable = &console.Unreadable{Since: u.Since, Reason: u.Reason, Do: u.Do}
		if u.Offset >= 0 {
			shown.Unreadable.Offset = &u.Offset
		}
	}
	return shown
}

func (s snapshot) shownLane(lane event.Lane) console.Lane {
	l := console.Lane{Conversations: s.conversations[lane], Events: int(s.counts[lane].unsettled())}
	for _, p := range s.partitions {
		if p.lane == lane {
			l.OldestSeconds = max(l.OldestSeconds, p.waited(s.at).Seconds())
		}
	}
	return l
}

func (s snapshot) totals() console.Totals {
	t := console.Totals{Calls: int64(s.calls)}
	for _, n := range s.counts {
		t.Received += int64(n.received)
		t.Returned += int64(n.returned)
		t.Applied += int64(n.ended[applied])
		t.Collapsed += int64(n.ended[collapsed])
		t.Superseded += int64(n.ended[superseded])
		t.DeadLettered += int64(n.ended[deadLettered])
	}
	return t
}
