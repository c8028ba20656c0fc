//go:build exam && unix

package kit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// WorkerGroup is the workers of one group under more load than they may call, whatever becomes of them.
// Each signs with an account of its own, so that the recorder tells them apart.
type WorkerGroup struct {
	k            *Kafka
	IM           *Recorder
	Rate         int            // that workers are started with
	maxPerSecond int            // calls in any second
	starts       map[string]int // how often each name was started
	All          []*Member      // that were ever started
	Backlog      []Event
	Traffic      *Traffic
	offsets      *CommitWatcher
	leftAtEnd    int64 // when the load was ended
}

// Member is one process of a crew.
type Member struct {
	*Worker
	Account string
}

// NewWorkerGroup is a crew without a load of its own.
func NewWorkerGroup(k *Kafka, im *Recorder, rate int) *WorkerGroup {
	return &WorkerGroup{k: k, IM: im, Rate: rate, maxPerSecond: rate, starts: map[string]int{}}
}

// StartLoadedGroup writes so many events, and from then on one for each call.
func StartLoadedGroup(t *testing.T, k *Kafka, im *Recorder, rate, before int) *WorkerGroup {
	t.Helper()
	c := NewWorkerGroup(k, im, rate)
	c.Backlog = OneEventEach(Conversations("backlog", before))
	ProduceEvents(t, k, k.Live, c.Backlog)
	c.offsets = WatchCommits(t, k)
	c.Traffic = StartTrafficBehindCalls(t, k, k.Live, "flow", rate*11/10, im)
	return c
}

// Start starts a worker; a name that ran before is a new process with another account.
func (c *WorkerGroup) Start(t *testing.T, name string, extra ...string) *Member {
	t.Helper()
	c.starts[name]++
	account := fmt.Sprintf("%s-%d", name, c.starts[name])
	flags := append([]string{"--rate", fmt.Sprint(c.Rate), "--im-admin", account}, extra...)
	m := &Member{StartWorker(t, c.k, c.IM.URL, flags...), account}
	c.All = append(c.All, m)
	return m
}

// Running are the members whose process has not ended.
func (c *WorkerGroup) Running() []*Member {
	return slices.DeleteFunc(slices.Clone(c.All), func(m *Member) bool {
		select {
		case <-m.Exited:
			return true
		default:
			return false
		}
	})
}

// WaitShared waits until all that run have a share, together the whole rate, and call; it returns how
// long that took.
func (c *WorkerGroup) WaitShared(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	var shown []string
	defer func() {
		if t.Failed() {
			t.Logf("the shares at last: %v", shown)
		}
	}()
	running := c.Running()
	Wait(t, "all workers have a share, together the rate", within, func() bool {
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

// Joins returns when the member joined a generation, by its log.
func (m *Member) Joins() []time.Time {
	var out []time.Time
	for _, line := range m.Stderr.Lines() {
		var entry struct {
			Time    time.Time
			Message string
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Message == "joined the group" {
			out = append(out, entry.Time)
		}
	}
	return out
}

// joinedAfter returns when the member joined a generation for the first time after a moment; zero: it
// did not.
func (m *Member) joinedAfter(after time.Time) time.Time {
	for _, at := range m.Joins() {
		if at.After(after) {
			return at
		}
	}
	return time.Time{}
}

// countCalls counts those of the member between two moments.
func (m *Member) countCalls(arrivals []Arrival, from, to time.Time) int {
	n := 0
	for _, a := range Between(arrivals, from, to) {
		if a.Admin == m.Account {
			n++
		}
	}
	return n
}

// Freeze is a member that is frozen, and the one that takes its partitions over.
type Freeze struct {
	Member, Other *Member
	began         time.Time
	Took          time.Duration // until the other one had all partitions
	thawed        time.Time
}

// FreezeAll stops the members' processes, each until its other one has taken over and so much time
// is over, lets them go on, and waits until they are members again.
func FreezeAll(t *testing.T, lasts time.Duration, freezes ...*Freeze) {
	t.Helper()
	for _, f := range freezes {
		<-time.After(rand.N(100 * time.Millisecond)) // anywhere between two commits
		f.began = time.Now()
		f.Member.Signal(t, syscall.SIGSTOP)
	}
	for _, f := range freezes {
		f.Other.WaitOwnsAll(t, 40*time.Second)
		f.Took = time.Since(f.began).Round(100 * time.Millisecond)
	}
	for _, f := range freezes {
		<-time.After(time.Until(f.began.Add(lasts)))
		f.thawed = time.Now()
		f.Member.Signal(t, syscall.SIGCONT)
	}
	for _, f := range freezes {
		Wait(t, f.Member.Account+" is a member again", 30*time.Second,
			func() bool { return !f.Member.joinedAfter(f.thawed).IsZero() })
	}
}

// LateCalls counts the calls that came from the member after it was thawed and before it had joined the
// group again: another one had its partitions and its permits.
func (f *Freeze) LateCalls(arrivals []Arrival) int {
	return f.Member.countCalls(arrivals, f.thawed, f.Member.joinedAfter(f.thawed))
}

// CommitFailures are the member's refused commits by Kafka's error code, as its metric tells them.
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

// End waits until all of the load is settled, says good-bye to all that run, and judges: nothing is
// lost, no offset went back, and nobody called too fast, or too soon after it had joined. It
// returns the calls, and how many were made again although they had been answered.
func (c *WorkerGroup) End(t *testing.T) (arrivals []Arrival, repeated int) {
	t.Helper()
	events := append(c.Traffic.End(), c.Backlog...)
	c.k.WaitCommitted(t, 2*time.Minute, c.k.Live, c.k.Backfill)
	for _, m := range c.Running() {
		m.Stop(t, syscall.SIGTERM, StopLimit)
	}
	back := c.offsets.Stop()
	arrivals = c.IM.Arrivals(t)
	most := MeasureCalls(arrivals).MostIn1s
	Check(t, c.leftAtEnd > int64(c.maxPerSecond)/4,
		"only %d events were left when the load ended: the row says nothing", c.leftAtEnd)
	Check(t, most <= c.maxPerSecond,
		"%d arrivals in one second over all workers, at most %d allowed", most,
		c.maxPerSecond)
	for _, m := range c.All {
		for _, at := range m.Joins() {
			// it can't know when the permits were used last
			early := m.countCalls(arrivals, at, at.Add(time.Second))
			Check(t, early == 0, "%d calls of %s within a second after it joined a generation",
				early, m.Account)
		}
	}
	Check(t, len(back) == 0, "committed offsets went back: %v", back)
	c.k.CheckNoDeadLetters(t, "workers that come and go")
	CheckCommits(t, c.k)
	CompareReadTimes(t, Largest(events), ReadTimes(arrivals))
	return arrivals, CountRepeated(arrivals)
}

// Between returns the calls that arrived between two moments.
func Between(arrivals []Arrival, from, to time.Time) []Arrival {
	var out []Arrival
	for _, a := range arrivals {
		if at := time.Unix(0, a.Wall); !at.Before(from) && at.Before(to) {
			out = append(out, a)
		}
	}
	return out
}

// CommitWatcher watches what the coordinator has committed of a group.
type CommitWatcher struct {
	stop, done chan struct{}
	once       sync.Once
	// whenever an offset was lower than before; only after done, as the next
	decreases []string
	ChangedAt Times // when an offset or the text beside it was seen to be another one
}

func WatchCommits(t *testing.T, k *Kafka) *CommitWatcher {
	o := &CommitWatcher{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(o.done)
		last, highest := map[Partition]commit{}, map[Partition]int64{}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-o.stop:
				return
			case <-tick.C:
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			commits, err := k.tryCommits(ctx)
			cancel()
			if err != nil {
				continue // it is asked again
			}
			if !maps.Equal(commits, last) {
				last, o.ChangedAt = commits, append(o.ChangedAt, time.Now())
			}
			for p, c := range commits {
				if c.offset < highest[p] && len(o.decreases) < 20 {
					o.decreases = append(o.decreases,
						fmt.Sprintf("%s %d from %d to %d", p.Topic, p.Partition,
							highest[p], c.offset))
				}
				highest[p] = max(highest[p], c.offset)
			}
		}
	}()
	t.Cleanup(func() { o.Stop() })
	return o
}

func (o *CommitWatcher) Stop() []string {
	o.once.Do(func() { close(o.stop) })
	<-o.done
	return o.decreases
}
