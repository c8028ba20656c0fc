package worker

import (
	"maps"
	"strconv"
	"time"

	"markread/consumer"
	"markread/consumer/event"
	"markread/worker/console"
	"markread/worker/engine"
	"markread/worker/hold"
)

// snapshot is the worker's state at one moment.
type snapshot struct {
	engine.State
	at         time.Time
	holds      []hold.Hold
	lost       map[string]int64
	retention  map[string]time.Duration
	generation *consumer.Generation // nil between generations
	groupSize  int                  // partitions of the group's last generation
	memberID   string               // in that generation; "": none yet
	partitions []partition
	full       [2]bool // by lane: fetching is paused, because memory is full
}

type partition struct {
	consumer.PartitionState
	lane event.Lane
}

func (p partition) number() string { return strconv.Itoa(p.Partition) }

// age is the age of the oldest unfinished event; 0 if there is none.
func (p partition) age(now time.Time) time.Duration {
	if p.Oldest == nil {
		return 0
	}
	return max(0, now.Sub(p.Oldest.Time))
}

// waited is how long the partition has waited: the age of its oldest unfinished event or, while it
// is unreadable, the time since the last good fetch, whichever is longer. The age of unreadable
// records is unknown, and so is whether there are any.
func (p partition) waited(now time.Time) time.Duration {
	age := p.age(now)
	if p.Unreadable != nil {
		age = max(age, now.Sub(p.Unreadable.Since))
	}
	return age
}

// lag returns how far the committed offset is behind the end of the log, and false if that is
// unknown. The lag is never 0 where records may be unread: where the end is unknown, or where it
// dates from the last good fetch of an unreadable partition, or where the group's offset is beyond
// it.
func (p partition) lag() (lag int64, known bool) {
	sure := p.Unreadable == nil && p.Committed <= p.HighWatermark
	return p.Lag, p.HighWatermark >= 0 && (sure || p.Lag > 0)
}

// snapshot reads the whole state at one moment. The caller holds the lock.
func (w *Worker) snapshot() snapshot {
	now := time.Now() // under the lock: the quota requires that time does not go back
	w.engine.Expire(now)
	s := snapshot{
		State:      w.engine.State(now),
		at:         now,
		holds:      w.engine.Holds(),
		lost:       maps.Clone(w.lost),
		retention:  w.retention,
		generation: w.generation,
		groupSize:  w.groupSize,
		memberID:   w.memberID,
	}
	if w.generation == nil {
		return s
	}
	for topic, n := range w.generation.Lost() {
		s.lost[topic] += n
	}
	s.partitions = w.withLanes(w.generation.Partitions())
	for lane := range s.full {
		s.full[lane] = !w.engine.HasCapacity(event.Lane(lane))
	}
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
	waits := w.engine.Explain(unfinished(s.partitions))
	w.mu.Unlock()

	state := console.State{
		Version:   w.options.Version,
		Commit:    w.options.Commit,
		StartedAt: w.started,
		Ready:     w.Ready(),
		Group:     console.Group{Name: w.options.Group},
		Quota:     console.Quota{Rate: w.options.Rate, InFlight: s.InFlight},
		Lanes:     console.Lanes{Live: s.lane(event.Live), Backfill: s.lane(event.Backfill)},
		Totals:    s.totals(),
		Held:      toConsoleHolds(s.at, s.holds),
	}
	if w.options.Rate > 0 {
		state.Quota.Share, state.Quota.Limit, state.Quota.Cooling = &s.Share, &s.Limit, &s.Cooling
	}
	if g := s.generation; g != nil {
		state.Group.Member, state.Group.Generation = new(g.Member()), new(g.ID())
		state.Group.Assigned, state.Group.Partitions = len(g.Assigned()), len(g.All())
	}
	for _, p := range s.partitions {
		state.Partitions = append(state.Partitions, p.toConsole(s.at, waits))
	}
	return state
}

// Held implements console.Source.
func (w *Worker) Held() []console.Hold {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.engine.Expire(now)
	return toConsoleHolds(now, w.engine.Holds())
}

// overdue is how long after its time a probe may still wait for a permit, which other calls hold
// for at most 12 s.
const overdue = time.Minute

func toConsoleHolds(now time.Time, holds []hold.Hold) []console.Hold {
	var list []console.Hold
	for _, h := range holds {
		shown := console.Hold{
			Reason: string(h.Reason), Since: h.Since, Detail: h.Detail, Do: h.Do,
		}
		if h.Lane != hold.All {
			shown.Detail = "lane " + event.Lane(h.Lane).String() + ": " + shown.Detail
		}
		shown.NextProbeAt = probeAt(now, h)
		list = append(list, shown)
	}
	return list
}

// probeAt returns when the hold's next probe is made; nil: it has none, or it is overdue, which
// means that no conversation waits to be probed.
func probeAt(now time.Time, h hold.Hold) *time.Time {
	if h.NextProbe.IsZero() || now.Sub(h.NextProbe) >= overdue {
		return nil
	}
	return &h.NextProbe
}

// unfinished returns the oldest unfinished event of each partition, with its lane. Calls finish out
// of order, so these events say more than the offsets behind them.
func unfinished(partitions []partition) map[event.Ref]event.Lane {
	lanes := map[event.Ref]event.Lane{}
	for _, p := range partitions {
		if p.Oldest != nil {
			lanes[p.Oldest.Ref] = p.lane
		}
	}
	return lanes
}

// toConsole returns the partition as the console shows it; waits explains its oldest unfinished
// event.
func (p partition) toConsole(now time.Time,
	waits map[event.Ref]engine.Explanation) console.Partition {
	shown := console.Partition{
		Topic:         p.Topic,
		Partition:     p.Partition,
		Committed:     ifKnown(p.Committed, p.Committed >= 0),
		HighWatermark: ifKnown(p.HighWatermark, p.HighWatermark >= 0),
		Lag:           ifKnown(p.lag()),
	}
	if o := p.Oldest; o != nil {
		x := waits[o.Ref]
		shown.OldestUnfinished = &console.Unfinished{
			Offset: o.Offset, AgeSeconds: p.age(now).Seconds(),
			Attempts: x.Attempts, WaitsFor: x.WaitsFor,
		}
	}
	if u := p.Unreadable; u != nil {
		shown.Unreadable = &console.Unreadable{
			Since: u.Since, Offset: ifKnown(u.Offset, u.Offset >= 0), Reason: u.Reason,
		}
	}
	return shown
}

func ifKnown(n int64, known bool) *int64 {
	if !known {
		return nil
	}
	return &n
}

func (s snapshot) lane(lane event.Lane) console.Lane {
	l := console.Lane{Conversations: s.Conversations[lane], Events: int(s.Counts[lane].Unsettled())}
	for _, p := range s.partitions {
		if p.lane == lane {
			l.OldestSeconds = max(l.OldestSeconds, p.waited(s.at).Seconds())
		}
	}
	return l
}

func (s snapshot) totals() console.Totals {
	t := console.Totals{Calls: int64(s.Calls)}
	for _, n := range s.Counts {
		t.Received += int64(n.Received)
		t.Returned += int64(n.Returned)
		t.Applied += int64(n.Finished[engine.Applied])
		t.Collapsed += int64(n.Finished[engine.Collapsed])
		t.Superseded += int64(n.Finished[engine.Superseded])
		t.DeadLettered += int64(n.Finished[engine.DeadLettered])
	}
	return t
}
