//go:build exam && unix

package main

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

// examCrew is the workers of one group under more load than they may call, whatever becomes of them. Each signs with an account of its own,
// so that the recorder tells them apart.
type examCrew struct {
	k       *examKafka
	im      *examIM
	rate    int            // that workers are started with
	most    int            // calls in any second
	ran     map[string]int // how often each name was started
	all     []*examMember  // that were ever started
	backlog []examEvent
	flow    *examFlow
	offsets *examOffsets
	left    int64 // when the load was ended
}

// examMember is one process of a crew.
type examMember struct {
	*examWorker
	account string
}

// examCrewOf is a crew without a load of its own.
func examCrewOf(k *examKafka, im *examIM, rate int) *examCrew {
	return &examCrew{k: k, im: im, rate: rate, most: rate, ran: map[string]int{}}
}

// examStartCrew writes so many events, and from then on one for each call.
func examStartCrew(t *testing.T, k *examKafka, im *examIM, rate, before int) *examCrew {
	t.Helper()
	c := examCrewOf(k, im, rate)
	c.backlog = examOneEach(examConversations("backlog", before))
	examProduceEvents(t, k, k.live, c.backlog)
	c.offsets = examWatchOffsets(t, k)
	c.flow = examStartFlowBehind(t, k, k.live, "flow", rate*11/10, im)
	return c
}

// start starts a worker; a name that ran before is a new process with another account.
func (c *examCrew) start(t *testing.T, name string, extra ...string) *examMember {
	t.Helper()
	c.ran[name]++
	account := fmt.Sprintf("%s-%d", name, c.ran[name])
	flags := append([]string{"--rate", fmt.Sprint(c.rate), "--im-admin", account}, extra...)
	m := &examMember{examStartWorker(t, c.k, c.im.url, flags...), account}
	c.all = append(c.all, m)
	return m
}

// running are the members whose process has not ended.
func (c *examCrew) running() []*examMember {
	return slices.DeleteFunc(slices.Clone(c.all), func(m *examMember) bool {
		select {
		case <-m.exited:
			return true
		default:
			return false
		}
	})
}

// shared waits until all that run have a share, together the whole rate, and call; it returns how long that took.
func (c *examCrew) shared(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	var shown []string
	defer func() {
		if t.Failed() {
			t.Logf("the shares at last: %v", shown)
		}
	}()
	running := c.running()
	examWait(t, "all workers have a share, together the rate", within, func() bool {
		sum, ok := 0, true
		shown = nil
		for _, m := range running {
			state := m.state()
			if state == nil || state.Group.Generation == nil {
				shown, ok = append(shown, m.account+": none"), false
				continue
			}
			sum, ok = sum+state.Quota.Share, ok && state.Quota.Share > 0
			shown = append(shown, fmt.Sprintf("%s: %d, %d of %d partitions", m.account, state.Quota.Share, state.Group.Assigned, state.Group.Partitions))
		}
		return ok && sum == c.rate
	})
	for _, m := range running {
		before := c.im.countOf(t, m.account)
		examWait(t, m.account+" calls", 10*time.Second, func() bool { return c.im.countOf(t, m.account) >= before+3 })
	}
	return time.Since(began).Round(100 * time.Millisecond)
}

// ownsAll waits until the member has all partitions, and returns how long that took.
func (m *examMember) ownsAll(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	examWait(t, m.account+" has all partitions", within, func() bool {
		state := m.state()
		return state != nil && state.Group.Assigned > 0 && state.Group.Assigned == state.Group.Partitions
	})
	return time.Since(began).Round(100 * time.Millisecond)
}

// joins returns when the member joined a generation, by its log.
func (m *examMember) joins() []time.Time {
	var out []time.Time
	for _, line := range m.stderr.lines() {
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

// joined returns when the member joined a generation for the first time after a moment; zero: it did not.
func (m *examMember) joined(after time.Time) time.Time {
	for _, at := range m.joins() {
		if at.After(after) {
			return at
		}
	}
	return time.Time{}
}

// calls counts those of the member between two moments.
func (m *examMember) calls(arrivals []examArrival, from, to time.Time) int {
	n := 0
	for _, a := range examBetween(arrivals, from, to) {
		if a.Admin == m.account {
			n++
		}
	}
	return n
}

// examFreeze is a member that is frozen, and the one that takes its partitions over.
type examFreeze struct {
	m, other *examMember
	began    time.Time
	took     time.Duration // until the other one had all partitions
	thawed   time.Time
}

// examFreezeAll stops the members' processes, each until its other one has taken over and so much time is over, lets them go on, and waits
// until they are members again.
func examFreezeAll(t *testing.T, lasts time.Duration, freezes ...*examFreeze) {
	t.Helper()
	for _, f := range freezes {
		<-time.After(rand.N(100 * time.Millisecond)) // anywhere between two commits
		f.began = time.Now()
		f.m.signal(t, syscall.SIGSTOP)
	}
	for _, f := range freezes {
		f.other.ownsAll(t, 40*time.Second)
		f.took = time.Since(f.began).Round(100 * time.Millisecond)
	}
	for _, f := range freezes {
		<-time.After(time.Until(f.began.Add(lasts)))
		f.thawed = time.Now()
		f.m.signal(t, syscall.SIGCONT)
	}
	for _, f := range freezes {
		examWait(t, f.m.account+" is a member again", 30*time.Second, func() bool { return !f.m.joined(f.thawed).IsZero() })
	}
}

// late counts the calls that came from the member after it was thawed and before it had joined the group again: another one had its
// partitions and its permits.
func (f *examFreeze) late(arrivals []examArrival) int {
	return f.m.calls(arrivals, f.thawed, f.m.joined(f.thawed))
}

// commitFailures are the member's refused commits by Kafka's error code, as its metric tells them.
func (m *examMember) commitFailures(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for series, n := range examScrape(t, m.admin) {
		if code, ok := strings.CutPrefix(series, `markread_commit_failures_total{code="`); ok && n > 0 {
			out[strings.TrimSuffix(code, `"}`)] += int(n)
		}
	}
	return out
}

// endLoad ends the load.
func (c *examCrew) endLoad(t *testing.T) {
	t.Helper()
	c.left = c.k.unsettled(t, c.k.live)
	c.flow.end()
}

// end waits until all of the load is settled, says good-bye to all that run, and judges: nothing is lost, no offset went back, and
// nobody called too fast, or too soon after it had joined. It returns the calls, and how many were made again although they had been answered.
func (c *examCrew) end(t *testing.T) (arrivals []examArrival, repeated int) {
	t.Helper()
	events := append(c.flow.end(), c.backlog...)
	c.k.settled(t, 2*time.Minute, c.k.live, c.k.backfill)
	for _, m := range c.running() {
		m.stop(t, syscall.SIGTERM, examStopLimit)
	}
	back := c.offsets.end()
	arrivals = c.im.arrivals(t)
	most := examMeasure(arrivals).mostIn1s
	examCheck(t, c.left > int64(c.most)/4, "only %d events were left when the load ended: the row says nothing", c.left)
	examCheck(t, most <= c.most, "%d arrivals in one second over all workers, at most %d allowed", most, c.most)
	for _, m := range c.all {
		for _, at := range m.joins() {
			early := m.calls(arrivals, at, at.Add(time.Second)) // it can't know when the permits were used last
			examCheck(t, early == 0, "%d calls of %s within a second after it joined a generation", early, m.account)
		}
	}
	examCheck(t, len(back) == 0, "committed offsets went back: %v", back)
	c.k.noLetters(t, "workers that come and go")
	examCheckCommits(t, c.k)
	examComparePointers(t, examLargest(events), examPointers(arrivals))
	return arrivals, examRepeated(arrivals)
}

// examBetween returns the calls that arrived between two moments.
func examBetween(arrivals []examArrival, from, to time.Time) []examArrival {
	var out []examArrival
	for _, a := range arrivals {
		if at := time.Unix(0, a.Wall); !at.Before(from) && at.Before(to) {
			out = append(out, a)
		}
	}
	return out
}

// examOffsets watches what the coordinator has committed of a group.
type examOffsets struct {
	stop, done chan struct{}
	once       sync.Once
	back       []string  // whenever an offset was lower than before; only after done, as the next
	at         examTimes // when an offset or the text beside it was seen to be another one
}

func examWatchOffsets(t *testing.T, k *examKafka) *examOffsets {
	o := &examOffsets{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(o.done)
		last, highest := map[examPartition]examCommit{}, map[examPartition]int64{}
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
				last, o.at = commits, append(o.at, time.Now())
			}
			for p, c := range commits {
				if c.offset < highest[p] && len(o.back) < 20 {
					o.back = append(o.back, fmt.Sprintf("%s %d from %d to %d", p.topic, p.partition, highest[p], c.offset))
				}
				highest[p] = max(highest[p], c.offset)
			}
		}
	}()
	t.Cleanup(func() { o.end() })
	return o
}

func (o *examOffsets) end() []string {
	o.once.Do(func() { close(o.stop) })
	<-o.done
	return o.back
}
