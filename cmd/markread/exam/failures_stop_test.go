//go:build exam && unix

package exam

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// TestExamStopHeld: a worker with a hold can be stopped like any other, immediately and cleanly,
// with events still waiting. Its successor, whose calls succeed, finishes every event.
func TestExamStopHeld(t *testing.T) {
	t.Parallel()
	for reason, row := range map[string]struct {
		start      func(*testing.T) *kit.Kafka
		begin, end func(*testing.T, *kit.Kafka, *kit.Sandbox, string)
	}{
		"outage": {
			kit.StartBroker,
			func(t *testing.T, _ *kit.Kafka, s *kit.Sandbox, _ string) {
				s.SetFaults(t, `{"rules":[{"kind":"status","status":503}]}`)
			},
			func(t *testing.T, _ *kit.Kafka, s *kit.Sandbox, _ string) { s.SetFaults(t, `{}`) },
		},
		"credentials": {
			kit.StartBroker,
			func(t *testing.T, _ *kit.Kafka, _ *kit.Sandbox, file string) {
				writeKey(t, file, "a wrong key")
			},
			func(t *testing.T, _ *kit.Kafka, _ *kit.Sandbox, file string) {
				writeKey(t, file, kit.Key)
			},
		},
		"dead-letter": {
			func(t *testing.T) *kit.Kafka {
				return kit.StartEmbedded(t, "the broker refuses writes to a topic")
			},
			func(t *testing.T, k *kit.Kafka, _ *kit.Sandbox, _ string) {
				k.RefuseWrites(t, k.DeadLetters, "TOPIC_AUTHORIZATION_FAILED")
			},
			func(t *testing.T, k *kit.Kafka, _ *kit.Sandbox, _ string) {
				k.AcceptWrites(t, k.DeadLetters)
			},
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			k := row.start(t)
			sandbox := kit.StartSandbox(t)
			file := filepath.Join(t.TempDir(), "key")
			writeKey(t, file, kit.Key)
			events := kit.OneEventEach(kit.Conversations("held", 1200))
			bad := invalidRecords(k.Live, "bad", 20) // one in sixty: no hold for rejections
			row.begin(t, k, sandbox, file)
			k.Produce(t, bad[:10]...)
			kit.ProduceEvents(t, k, k.Live, events)
			k.Produce(t, bad[10:]...)
			w := startWorkerOnFile(t, k, sandbox.URL, file)
			w.WaitHeld(t, reason, 20*time.Second)
			left := k.Lag(t, k.Live)
			took := w.Stop(t, syscall.SIGTERM, kit.StopLimit)

			row.end(t, k, sandbox, file)
			next := startWorkerOnFile(t, k, sandbox.URL, file)
			k.WaitCommitted(t, 30*time.Second, k.Live)
			metrics := kit.Scrape(t, next.Admin)
			next.Stop(t, syscall.SIGTERM, kit.StopLimit)
			letters := k.ReadAll(t, k.DeadLetters)
			byKey := countByKey(letters)
			wrong := 0
			for key := range byKey {
				if !strings.HasPrefix(key, "bad-") {
					wrong++
				}
			}
			kit.Figure(t, "stop-held", "%s: stopped after %v with %d records left; the next "+
				"worker committed all, %d dead letters for %d records that are not events; %s",
				reason, took.Round(time.Millisecond), left, len(letters), len(byKey),
				metrics.Balance(t))
			kit.Check(t, left > 0, "nothing was left: the test proves nothing")
			kit.Check(t, took <= 7*time.Second,
				"the shutdown took %v; no call takes longer than 5 s", took)
			// A dead letter whose record comes after a waiting event is written again: its record
			// was not committed.
			kit.Check(t, len(byKey) == len(bad) && wrong == 0 && len(letters) <= 2*len(bad),
				"%d dead letters of %d records, %d of them wrong, want %d", len(letters),
				len(byKey), wrong, len(bad))
			kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
		})
	}
}

// TestExamPause: an operator pauses a worker under load, and resumes it. Meanwhile it makes no
// call, remains a member of its group, and continues reading. Nothing is lost.
func TestExamPause(t *testing.T) {
	t.Parallel()
	const paused = 8 * time.Second
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	backlog := kit.OneEventEach(kit.Conversations("pause", 1000))
	kit.ProduceEvents(t, k, k.Live, backlog)
	w := kit.StartWorker(t, k, sandbox.URL)
	flow := kit.StartTraffic(t, k, k.Live, "flow", 20)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return sandbox.Stats(t).Applied >= 200 })

	asked := time.Now()
	saidPaused := runCommand(w, t, "pause")
	hold := w.WaitHeld(t, "paused", time.Second)
	quiet := hold.Since.Add(50 * time.Millisecond) // calls that were in flight have arrived by then
	received := kit.Scrape(t, w.Admin).Sum("markread_events_received_total")
	<-time.After(time.Until(hold.Since.Add(paused)))
	w.CheckHeld(t, "paused")
	metrics := kit.Scrape(t, w.Admin)
	members := metrics.Sum("markread_generations_total")
	read := metrics.Sum("markread_events_received_total") - received
	resumed := time.Now()
	saidResumed := runCommand(w, t, "resume")
	w.WaitReleased(t, "paused", time.Second)
	events := append(flow.End(), backlog...)
	k.WaitCommitted(t, 30*time.Second, k.Live)
	metrics = kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	inside := len(served.Between(quiet, resumed))
	kit.Figure(t, "pause", "paused under load %v after the command began, %d calls in %v, %v "+
		"events read meanwhile; first call %v after the command to resume began; %q, %q; %s; %s",
		hold.Since.Sub(asked).Round(time.Millisecond), inside, paused, read,
		served.FirstAppliedAfter(t, resumed).Round(time.Millisecond), saidPaused, saidResumed,
		w.CheckHoldLogged(t, "paused", 1), metrics.Balance(t))
	kit.Check(t, inside == 0, "%d calls while paused", inside)
	kit.Check(t, hold.Next == nil, "a pause has no probes, but shows one at %v", hold.Next)
	kit.Check(t, read >= 100 && members == 1, "%v events read while paused, %v generations", read,
		members)
	kit.Check(t, served.FirstAppliedAfter(t, resumed) <= 2*time.Second,
		"continued %v after the command", served.FirstAppliedAfter(t, resumed))
	k.CheckNoDeadLetters(t, "a pause")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// TestExamOutage: the server is down for 12 s, every 3 s in another way, under live traffic. Hardly
// any call is made and nothing is dead-lettered; afterwards all events are applied.
func TestExamOutage(t *testing.T) {
	t.Parallel()
	const part = 3 * time.Second
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	gate := kit.StartProxy(t, sandbox.URL)
	// an outage that counted attempts would show immediately
	w := kit.StartWorker(t, k, gate.URL, "--attempts", "2")
	flow := kit.StartTraffic(t, k, k.Live, "outage", 50)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return sandbox.Stats(t).Applied >= 100 })

	connects := func() float64 {
		return kit.Scrape(t, w.Admin).
			Sum("markread_calls_total", `code="connect"`)
	}
	var since time.Time
	began := time.Now()
	for i, fault := range []string{`{"rules":[{"kind":"status","status":502}]}`,
		`{"rules":[{"kind":"reset"}]}`, `{"rules":[{"kind":"hang"}]}`, ""} {
		if fault == "" {
			gate.Refuse()
		} else {
			sandbox.SetFaults(t, fault)
		}
		if i == 0 {
			since = w.WaitHeld(t, "outage", 2*time.Second).Since
		}
		<-time.After(time.Until(began.Add(time.Duration(i+1) * part)))
		shown := w.CheckHeld(t, "outage")
		kit.Check(t, shown.Since.Equal(since),
			"the outage began again at %v, it was active since %v", shown.Since, since)
		kit.Check(t, shown.Next != nil, "the outage shows no next probe")
	}
	refused := connects() // none before the last fault
	waiting := k.Lag(t, k.Live)
	sandbox.SetFaults(t, `{}`)
	gate.Accept(t)
	ended := time.Now()
	w.WaitReleased(t, "outage", 20*time.Second)
	<-time.After(2 * time.Second) // more traffic after the outage
	events := flow.End()
	k.WaitCommitted(t, 30*time.Second, k.Live)
	settled := time.Since(ended)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	first, during := served.Between(began, began.Add(2*time.Second)),
		served.Between(began.Add(2*time.Second), ended)
	calls := float64(len(during)) + refused
	kit.Figure(t, "outage", "12 s of 502, reset, hang, refused with 50 events/s: %d calls in the "+
		"first 2 s, then %v (%v refused); first success %v after its end, all %d committed after "+
		"%v; %s; %s", len(first), calls, refused, served.FirstAppliedAfter(t, ended).
		Round(time.Millisecond), len(events), settled.Round(time.Millisecond),
		w.CheckHoldLogged(t, "outage", 1), metrics.Balance(t))
	kit.Check(t, calls <= 60, "%v calls in the outage after its first 2 s, at most 60 allowed",
		calls)
	kit.Check(t, during.Applied() == 0 && refused > 0 && waiting >= 100,
		"no outage: %d applied during it, %v refused, %d waiting", during.Applied(), refused,
		waiting)
	kit.Check(t, metrics.Sum("markread_held") == 0, "still held")
	k.CheckNoDeadLetters(t, "an outage")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// TestExamOutageLonely: an outage with a single event in the topic. It waits, and so does a later
// one. Both are applied when the server is back, and the later one is tried soon after its arrival,
// however long the probe interval has become.
func TestExamOutageLonely(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	w := kit.StartWorker(t, k, sandbox.URL, "--attempts", "2")
	w.WaitReady(t)
	sandbox.SetFaults(t, `{"rules":[{"kind":"status","status":502}]}`)
	events := kit.OneEventEach(kit.Conversations("lonely", 2))
	produced := time.Now()
	kit.ProduceEvents(t, k, k.Live, events[:1])
	since := w.WaitHeld(t, "outage", 20*time.Second).Since
	<-time.After(16 * time.Second) // the interval is 2 s by now
	later := time.Now()
	kit.ProduceEvents(t, k, k.Live, events[1:])
	<-time.After(5 * time.Second)
	left := k.Lag(t, k.Live)
	sandbox.SetFaults(t, `{}`)
	ended := time.Now()
	k.WaitCommitted(t, 20*time.Second, k.Live)
	settled := time.Since(ended)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	tried := slices.IndexFunc(served,
		func(a kit.SandboxCall) bool { return a.Report == events[1].Report })
	kit.Figure(t, "outage-lonely",
		"a single event and 502: held after %v and %d calls, %d calls in all until the end of "+
			"the outage; a later one was tried after %v; both committed %v after the end; %s",
		since.Sub(produced).Round(time.Millisecond), len(served.Between(produced, since)),
		len(served.Between(produced, ended)), served[tried].At.Sub(later).Round(time.Millisecond),
		settled.Round(time.Millisecond), w.CheckHoldLogged(t, "outage", 1))
	kit.Check(t, left == 2, "%d events left in the outage, want 2", left)
	kit.Check(t, served[tried].At.Sub(later) <= 1500*time.Millisecond,
		"an event that arrived during the outage was tried after %v, at most about 1 s allowed",
		served[tried].At.Sub(later))
	kit.Check(t, len(served.Between(produced, ended)) <= 40, "%d calls",
		len(served.Between(produced, ended)))
	k.CheckNoDeadLetters(t, "an outage")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}
