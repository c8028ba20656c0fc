//go:build exam && unix

package kit

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// WorkerGroup runs the workers of one consumer group under more load than their rate allows, while
// a test starts, stops, kills and freezes them. Each worker signs with an account of its own, so
// that the recorder can distinguish them.
type WorkerGroup struct {
	k            *Kafka
	IM           *Recorder
	Rate         int            // --rate of the workers
	maxPerSecond int            // upper limit of calls in any second
	starts       map[string]int // how many times each name was started
	All          []*Member      // every member ever started
	Backlog      []Event
	Traffic      *Traffic
	offsets      *CommitWatcher
	leftAtEnd    int64 // lag when the load ended
}

// Member is one process of a worker group.
type Member struct {
	*Worker
	Account string
}

// NewWorkerGroup returns a worker group without load.
func NewWorkerGroup(k *Kafka, im *Recorder, rate int) *WorkerGroup {
	return &WorkerGroup{k: k, IM: im, Rate: rate, maxPerSecond: rate, starts: map[string]int{}}
}

// StartLoadedGroup writes before events and then one more for each call.
func StartLoadedGroup(t *testing.T, k *Kafka, im *Recorder, rate, before int) *WorkerGroup {
	t.Helper()
	c := NewWorkerGroup(k, im, rate)
	c.Backlog = OneEventEach(Conversations("backlog", before))
	ProduceEvents(t, k, k.Live, c.Backlog)
	c.offsets = WatchCommits(t, k)
	c.Traffic = StartTrafficBehindCalls(t, k, k.Live, "flow", rate*11/10, im)
	return c
}

// Start starts a worker. Starting a name again gives a new process with another account.
func (c *WorkerGroup) Start(t *testing.T, name string, extra ...string) *Member {
	t.Helper()
	c.starts[name]++
	account := fmt.Sprintf("%s-%d", name, c.starts[name])
	flags := append([]string{"--rate", fmt.Sprint(c.Rate), "--im-admin", account}, extra...)
	m := &Member{StartWorker(t, c.k, c.IM.URL, flags...), account}
	c.All = append(c.All, m)
	return m
}

// Running returns the members whose process has not ended.
func (c *WorkerGroup) Running() []*Member {
	return slices.DeleteFunc(slices.Clone(c.All), func(m *Member) bool { return m.Ended() })
}

// WaitShared waits until all running members have a share, the shares add up to the rate, and each
// member calls. It returns how long that took.
func (c *WorkerGroup) WaitShared(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	var shown []string
	defer func() {
		if t.Failed() {
			t.Logf("last shares: %v", shown)
		}
	}()
	running := c.Running()
	Wait(t, "all workers have a share, and the shares add up to the rate", within, func() bool {
		sum, ok := 0, true
		shown = nil
		for _, m := range running {
			state := m.State()
			if state == nil || state.Group.Generation == nil {
				shown, ok = append(shown, m.Account+": none"), false
				continue
			}
			sum, ok = sum+state.Quota.Share, ok && state.Quota.Share > 0
			shown = append(shown, fmt.Sprintf("%s: %d, %d of %d partitions", m.Account,
				state.Quota.Share, state.Group.Assigned, state.Group.Partitions))
		}
		return ok && sum == c.Rate
	})
	for _, m := range running {
		before := c.IM.CountBy(t, m.Account)
		Wait(t, m.Account+" calls", 10*time.Second,
			func() bool { return c.IM.CountBy(t, m.Account) >= before+3 })
	}
	return time.Since(began).Round(100 * time.Millisecond)
}

// WaitOwnsAll waits until the member has all partitions, and returns how long that took.
func (m *Member) WaitOwnsAll(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	Wait(t, m.Account+" has all partitions", within, func() bool {
		state := m.State()
		return state != nil && state.Group.Assigned > 0 &&
			state.Group.Assigned == state.Group.Partitions
	})
	return time.Since(began).Round(100 * time.Millisecond)
}

// Joins returns the times at which the member joined a generation, from its log.
func (m *Member) Joins() []time.Time {
	var out []time.Time
	for _, entry := range Entries[struct {
		Time    time.Time
		Message string
	}](&m.Stderr) {
		if entry.Message == "joined the group" {
			out = append(out, entry.Time)
		}
	}
	return out
}

// joinedAfter returns when the member first joined a generation after the time; zero if it did not.
func (m *Member) joinedAfter(after time.Time) time.Time {
	joins := m.Joins()
	i := slices.IndexFunc(joins, func(at time.Time) bool { return at.After(after) })
	if i < 0 {
		return time.Time{}
	}
	return joins[i]
}

// countCalls counts the member's calls in [from, to).
func (m *Member) countCalls(arrivals []Arrival, from, to time.Time) int {
	n := 0
	for _, a := range Between(arrivals, from, to) {
		if a.Admin == m.Account {
			n++
		}
	}
	return n
}

// Freeze is a frozen member, and the member that takes over its partitions.
type Freeze struct {
	Member, Other *Member
	began         time.Time
	Took          time.Duration // until Other had all partitions
	thawed        time.Time
}

// FreezeAll sends SIGSTOP to the members, waits for each until its Other has taken over and
// duration has passed since the SIGSTOP, sends SIGCONT, and waits until they have joined the group
// again.
func FreezeAll(t *testing.T, duration time.Duration, freezes ...*Freeze) {
	t.Helper()
	for _, f := range freezes {
		<-time.After(rand.N(100 * time.Millisecond)) // a random point between two commits
		f.began = time.Now()
		f.Member.Signal(t, syscall.SIGSTOP)
	}
	for _, f := range freezes {
		f.Other.WaitOwnsAll(t, 40*time.Second)
		f.Took = time.Since(f.began).Round(100 * time.Millisecond)
	}
	for _, f := range freezes {
		<-time.After(time.Until(f.began.Add(duration)))
		f.thawed = time.Now()
		f.Member.Signal(t, syscall.SIGCONT)
	}
	for _, f := range freezes {
		Wait(t, f.Member.Account+" is a member again", 30*time.Second,
			func() bool { return !f.Member.joinedAfter(f.thawed).IsZero() })
	}
}

// LateCalls counts the calls of the member after SIGCONT and before it joined the group again.
// Meanwhile the other member had its partitions and permits.
func (f *Freeze) LateCalls(arrivals []Arrival) int {
	return f.Member.countCalls(arrivals, f.thawed, f.Member.joinedAfter(f.thawed))
}

// CommitFailures returns the member's refused commits by Kafka error code, from its metrics.
func (m *Member) CommitFailures(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for series, n := range Scrape(t, m.Admin) {
		if code, ok := strings.CutPrefix(series, `markread_commit_failures_total{code="`); ok &&
			n > 0 {
			out[strings.TrimSuffix(code, `"}`)] += int(n)
		}
	}
	return out
}

// EndLoad ends the load.
func (c *WorkerGroup) EndLoad(t *testing.T) {
	t.Helper()
	c.leftAtEnd = c.k.Lag(t, c.k.Live)
	c.Traffic.End()
}

// End waits until all events of the load are committed, stops the running members, and checks that
// no event was lost, no committed offset decreased, and no member called too fast or within a
// second after joining. It returns the calls, and how many repeated a call that had been answered.
func (c *WorkerGroup) End(t *testing.T) (arrivals []Arrival, repeated int) {
	t.Helper()
	events := append(c.Traffic.End(), c.Backlog...)
	c.k.WaitCommitted(t, 2*time.Minute, c.k.Live, c.k.Backfill)
	for _, m := range c.Running() {
		m.Stop(t, syscall.SIGTERM, StopLimit)
	}
	c.offsets.Stop()
	arrivals = c.IM.Arrivals(t)
	most := MeasureCalls(arrivals).MostIn1s
	Check(t, c.leftAtEnd > int64(c.maxPerSecond)/4,
		"a lag of only %d events when the load ended: the test proves nothing", c.leftAtEnd)
	Check(t, most <= c.maxPerSecond,
		"%d arrivals in one second over all workers, at most %d allowed", most, c.maxPerSecond)
	for _, m := range c.All {
		for _, at := range m.Joins() {
			// it can't know when the permits were last used
			early := m.countCalls(arrivals, at, at.Add(time.Second))
			Check(t, early == 0, "%d calls of %s within a second after it joined a generation",
				early, m.Account)
		}
	}
	Check(t, len(c.offsets.decreases) == 0, "committed offsets decreased: %v", c.offsets.decreases)
	c.k.CheckNoDeadLetters(t, "members that join and leave")
	CheckCommits(t, c.k)
	CompareReadTimes(t, Largest(events), ReadTimes(arrivals))
	return arrivals, CountRepeated(arrivals)
}

// Between returns the calls that arrived in [from, to).
func Between(arrivals []Arrival, from, to time.Time) []Arrival {
	var out []Arrival
	for _, a := range arrivals {
		if at := time.Unix(0, a.Wall); !at.Before(from) && at.Before(to) {
			out = append(out, a)
		}
	}
	return out
}

// CommitWatcher polls the committed offsets of a group. Read its results after Stop.
type CommitWatcher struct {
	Stop      func()
	decreases []string // of an offset
	ChangedAt Times    // when an offset or its metadata was seen to have changed
}

// WatchCommits polls the committed offsets every 100 ms until Stop.
func WatchCommits(t *testing.T, k *Kafka) *CommitWatcher {
	o := &CommitWatcher{}
	last, highest := map[Partition]commit{}, map[Partition]int64{}
	o.Stop = Poll(t, 100*time.Millisecond, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		commits, err := k.tryCommits(ctx)
		if err != nil {
			return // polled again
		}
		if !maps.Equal(commits, last) {
			last, o.ChangedAt = commits, append(o.ChangedAt, time.Now())
		}
		for p, c := range commits {
			if c.offset < highest[p] && len(o.decreases) < 20 {
				o.decreases = append(o.decreases,
					fmt.Sprintf("%s %d from %d to %d", p.Topic, p.Partition, highest[p], c.offset))
			}
			highest[p] = max(highest[p], c.offset)
		}
	})
	return o
}
