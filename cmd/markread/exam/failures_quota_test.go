//go:build exam && unix

package exam

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// TestExamThrottled: the server allows 120/s while the worker is configured with 200, because other
// programs use the app's quota. The worker adapts and uses most of the 120/s with hardly a refusal,
// and all of its rate when the others have stopped.
func TestExamThrottled(t *testing.T) {
	t.Parallel()
	const (
		allowed  = 120
		settling = 10 * time.Second
		within   = 60 * time.Second // to get above 190/s again
		window   = 5 * time.Second
	)
	measured := 20 * time.Second
	if testing.Short() {
		measured = 10 * time.Second
	}
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	events := kit.OneEventEach(kit.Conversations("strict", 18_000))
	kit.ProduceEvents(t, k, k.Live, events)
	w := kit.StartWorker(t, k, sandbox.URL)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return sandbox.Stats(t).Applied >= 500 })

	sandbox.SetFaults(t, `{"rate":120}`)
	strict := time.Now()
	<-time.After(settling + measured)
	sandbox.SetFaults(t, `{}`)
	free := time.Now()
	refused := sandbox.Stats(t).Codes["60007"]

	// recovered when a whole window was above 190/s
	var back time.Duration
	kit.Wait(t, "above 190/s again", within+window, func() bool {
		now := time.Now()
		if now.Sub(free) < window {
			return false
		}
		<-time.After(250 * time.Millisecond) // reads the whole list each time: not too often
		served := sandbox.Calls(t)
		now = served[len(served)-1].At
		back = now.Sub(free) - window
		return float64(served.Between(now.Add(-window), now).Applied()) > 190*window.Seconds()
	})
	left := k.Lag(t, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	early := served.Between(strict, strict.Add(settling))
	steady := served.Between(strict.Add(settling), free)
	throttled := func(a kit.SandboxCall) bool { return a.Code == 60007 }
	perSecond := float64(steady.Applied()) / free.Sub(strict.Add(settling)).Seconds()
	share := float64(steady.Count(throttled)) / float64(len(steady))
	kit.Figure(t, "throttled", "%d/s allowed: first 10 s %d of %d calls 60007; then %.1f/s "+
		"applied (%.1f %%), %d of %d calls 60007 (%.2f %%); above 190/s %v after 200/s were "+
		"allowed again; %s", allowed, early.Count(throttled), len(early), perSecond,
		100*perSecond/allowed, steady.Count(throttled), len(steady), 100*share,
		back.Round(100*time.Millisecond), metrics.Balance(t))
	kit.Check(t, left > 0, "the backlog ran dry: the test proves nothing")
	kit.Check(t, refused > 0, "nothing was ever refused: the test proves nothing")
	kit.Check(t, perSecond >= 0.85*allowed, "%.1f/s applied, at least %.1f required", perSecond,
		0.85*allowed)
	kit.Check(t, share <= 0.02, "%.2f %% of the calls got 60007, at most 2 %% allowed", 100*share)
	kit.Check(t, back <= within, "above 190/s after %v, at most %v allowed", back, within)
	k.CheckNoDeadLetters(t, "a stricter server")
}

// TestExamRetryAfter: a response with Retry-After: 7 pauses the calls of both lanes for 7 s. Only
// calls in flight may still arrive.
func TestExamRetryAfter(t *testing.T) {
	t.Parallel()
	const (
		pause   = 7 * time.Second
		latency = 50 * time.Millisecond
	)
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	events := kit.OneEventEach(kit.Conversations("later", 1500))
	kit.ProduceEvents(t, k, k.Backfill, events[:1000])
	kit.ProduceEvents(t, k, k.Live, events[1000:])
	w := kit.StartWorker(t, k, sandbox.URL)
	sandbox.SetFaults(t, `{"latency":{"min":"50ms"}}`)
	// half-way between two gaps in the calls
	kit.Wait(t, "calls", 30*time.Second, func() bool { return sandbox.Stats(t).Applied >= 330 })
	// A few responses under load. They reach the worker a latency after their calls arrived, when
	// other calls are in flight. Repeated if no call arrived in those 20 ms.
	for tries := 0; !w.IsHeld(t, "throttled") && tries < 10; tries++ {
		sandbox.SetFaults(t, `{"latency":{"min":"50ms"},"rules":[{"kind":"status","status":429,`+
			`"retry_after":"7",`+`"for":"20ms"}]}`)
		<-time.After(300 * time.Millisecond)
	}
	hold := w.CheckHeld(t, "throttled")
	flow := kit.StartTraffic(t, k, k.Live, "meanwhile", 20)
	ended := w.WaitReleased(t, "throttled", 15*time.Second)
	metrics := kit.Scrape(t, w.Admin)
	all := append(flow.End(), events...)
	k.WaitCommitted(t, 30*time.Second, k.Live, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	var first, last time.Time // responses with Retry-After
	for _, a := range served {
		if a.Status == 429 {
			if last = a.At.Add(latency); first.IsZero() {
				first = last
			}
		}
	}
	// in flight: sent before the response arrived. 20 ms are for the scheduler.
	inFlight := len(served.Between(first, first.Add(20*time.Millisecond)))
	inside := served.Between(first.Add(20*time.Millisecond), last.Add(pause))
	resumed := served.Between(last.Add(pause), time.Now())[0].At.Sub(last)
	shown := "no end"
	if hold.Next != nil {
		shown = hold.Next.Sub(first).Round(time.Millisecond).String()
	}
	kit.Figure(t, "retry-after", "%d responses asked for 7 s: %d calls arrived within 20 ms of "+
		"the first, %d in the rest of the 7 s, the next %v after the last of them; shown: %q, "+
		"end %v after the first response, hold seen to end after %v; %s",
		served.Count(func(a kit.SandboxCall) bool { return a.Status == 429 }), inFlight,
		len(inside), resumed.Round(time.Millisecond), hold.Detail, shown, ended.Sub(first).
			Round(time.Millisecond), w.CheckHoldLogged(t, "throttled", 1))
	kit.Check(t, len(inside) == 0, "%d calls in the 7 s, the first %v after the response",
		len(inside), func() time.Duration {
			if len(inside) == 0 {
				return 0
			}
			return inside[0].At.Sub(first)
		}())
	kit.Check(t, resumed <= pause+2*time.Second, "calls continued %v after the response", resumed)
	kit.Check(t, hold.Next != nil && hold.Next.Sub(first) > 6*time.Second &&
		hold.Next.Sub(first) < 8*time.Second, "the hold shows its end %v after the response", shown)
	kit.Check(t, metrics.Sum("markread_calls_total", `result="throttled"`, `code="http_429"`) > 0,
		"no call is counted as throttled")
	k.CheckNoDeadLetters(t, "Retry-After")
	kit.CompareReadTimes(t, kit.Largest(all), sandbox.ReadTimes(t))
}

// TestExamHang: calls that hang hold a permit until the timeout. Both cases run in parallel, each
// with its own quota.
func TestExamHang(t *testing.T) {
	t.Parallel()
	t.Run("Calls", hangCalls)
	t.Run("Conversations", hangConversations)
}

// hangCalls: 2 % of the calls hang, whatever their conversation.
func hangCalls(t *testing.T) {
	t.Parallel()
	const measured = 30 * time.Second
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	sandbox.SetFaults(t, `{"seed":1,"rules":[{"kind":"hang","share":0.02}]}`)
	events := kit.OneEventEach(kit.Conversations("hang", 7000))
	kit.ProduceEvents(t, k, k.Live, events)
	w := kit.StartWorker(t, k, sandbox.URL)
	kit.Wait(t, "the first call", 30*time.Second, func() bool { return sandbox.Stats(t).Calls > 0 })
	<-time.After(measured)
	left := k.Lag(t, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	begun, _, _ := w.HoldLogLines(t, "outage") // later only hanging calls are left
	sandbox.SetFaults(t, `{}`)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	window := served.Between(served[0].At, served[0].At.Add(measured))
	perSecond := float64(window.Applied()) / measured.Seconds()
	hung := window.Count(func(a kit.SandboxCall) bool { return !a.Applied })
	kit.Figure(t, "hang-calls", "2 %% of the calls hang for 5 s: %.1f/s applied over 30 s (%.1f "+
		"%% of 200), %d of %d calls hung, %d holds; %s", perSecond, perSecond/2, hung, len(window),
		begun, metrics.Balance(t))
	kit.Check(t, left > 0, "the backlog ran dry: the test proves nothing")
	kit.Check(t, hung >= 60, "only %d calls hung: the test proves little", hung)
	kit.Check(t, begun == 0, "2 %% are not an outage, but calls were held %d times", begun)
	kit.Check(t, perSecond >= 0.85*200, "%.1f/s, at least 170 required", perSecond)
	k.CheckNoDeadLetters(t, "calls that hang")
}

// hangConversations: the calls of 60 of 3,000 conversations always hang. The other conversations
// are finished nearly as soon as without them.
func hangConversations(t *testing.T) {
	t.Parallel()
	const (
		all     = 3000
		hanging = 60
		ideal   = (all - hanging) * time.Second / 200
	)
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	sandbox.SetFaults(t, `{"rules":[{"kind":"hang","report":"hanging"}]}`)
	events := kit.OneEventEach(kit.Conversations("healthy", all-hanging))
	for i := range hanging {
		events = append(events, kit.NewEvent("hanging", "p"+strconv.Itoa(i), time.Now().Unix()-60))
	}
	rand.New(rand.NewPCG(3, 1)).
		Shuffle(all, func(i, j int) { events[i], events[j] = events[j], events[i] })
	kit.ProduceEvents(t, k, k.Live, events)
	w := kit.StartWorker(t, k, sandbox.URL)
	healthy := kit.Largest(slices.DeleteFunc(slices.Clone(events),
		func(e kit.Event) bool { return e.Report == "hanging" }))
	kit.Wait(t, "all that don't hang are applied", 2*time.Minute,
		func() bool { return sandbox.Stats(t).Applied >= len(healthy) })
	metrics := kit.Scrape(t, w.Admin)
	served := sandbox.Calls(t)
	kit.CompareReadTimes(t, healthy, sandbox.ReadTimes(t))
	sandbox.SetFaults(t, `{}`)
	k.WaitCommitted(t, time.Minute, k.Live) // the hanging ones, too, as soon as they don't hang
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	last := served[0].At
	for _, a := range served {
		if a.Applied {
			last = a.At
		}
	}
	took := last.Sub(served[0].At)
	kit.Figure(t, "hang-conversations",
		"60 of 3000 conversations always hang: the other 2940 took %v, %.2f times the ideal %v, "+
			"%d calls hung meanwhile, %d dead letters; %s", took.Round(time.Millisecond),
		took.Seconds()/ideal.Seconds(), ideal,
		served.Count(func(a kit.SandboxCall) bool { return a.Report == "hanging" }),
		len(k.ReadAll(t, k.DeadLetters)), metrics.Balance(t))
	kit.Check(t, took.Seconds() <= 1.3*ideal.Seconds(), "took %v, at most %v allowed", took,
		ideal*13/10)
	kit.Check(t, served.MostIn1s() <= 200, "more than 200 arrivals in one second")
}
