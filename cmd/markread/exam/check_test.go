//go:build exam && unix

package exam

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
	"markread/worker/preflight"
)

// TestExamCheck: beside a working worker, a check finds nothing wrong and disturbs nothing. When
// brokers and IM server are down or hang, it reports that in time.
func TestExamCheck(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	im := kit.StartSandbox(t)
	w := kit.StartWorker(t, k, im.URL)
	w.WaitReady(t)
	events := kit.OneEventEach(kit.Conversations("check", 40))
	kit.ProduceEvents(t, k, k.Live, events)
	k.WaitCommitted(t, 30*time.Second, k.Live)
	ends, committed := k.EndOffsets(t, k.Topics()...), k.Committed(t)
	generations := kit.Scrape(t, w.Admin).Sum("markread_generations_total")
	right := kit.RunCheck(t, k, im.URL, nil)
	right.Expect(t, preflight.Good("group", k.Group, "1 worker runs, 200 calls a second for all"))
	right.Expect(t, preflight.Good("lag", k.Live, "0 events to do"))
	right.Expect(t, preflight.Good("IM account", "",
		"the key and --im-admin administrator are correct"))
	taken := kit.RunCheck(t, k, im.URL, nil, "--admin-addr", strings.TrimPrefix(w.Admin, "http://"))
	taken.Expect(t, preflight.Warning("admin server", "", "a worker already runs here",
		"--admin-addr"))
	key := kit.RunCheck(t, k, im.URL, []string{"MARKREAD_IM_KEY=another"})
	key.Expect(t, preflight.Wrong("IM account", "", "70009", "MARKREAD_IM_KEY"))
	after := kit.Scrape(t, w.Admin).Sum("markread_generations_total")
	kit.Check(t, after == generations, "%v generations, %v before: a check joined", after,
		generations)
	kit.Check(t, maps.Equal(ends, k.EndOffsets(t, k.Topics()...)) &&
		maps.Equal(committed, k.Committed(t)), "a record was written, or an offset was committed")
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	nothing := *k
	nothing.Addr = "127.0.0.1:1," + kit.SilentListener(t)
	im.Signal(t, syscall.SIGSTOP)
	none := kit.RunCheck(t, &nothing, im.URL, nil)
	im.Signal(t, syscall.SIGCONT)
	kit.Check(t, none.Wrong == 3 && none.NotChecked == 8, "%+v", none.Checks)
	kit.Figure(t, "check", "all correct: %.2f s; with brokers and an IM server that don't "+
		"respond: %.2f s", right.Took.Seconds(), none.Took.Seconds())
}

// TestExamCodes: each code of the contract's class `rejected` becomes a dead letter after one call,
// and a transient one after --attempts calls; all other events are applied.
func TestExamCodes(t *testing.T) {
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-latency", "2ms")
	want := map[kit.Conversation][3]string{} // class, code, delivery count
	events := kit.OneEventEach(kit.Conversations("codes", 300))
	for i, code := range []int{60003, 60015, 70107, 70402, 20003, 90001, 90003, 90008, 90012, 90048,
		93000} {
		c := kit.Conversation{Report: fmt.Sprintf("reject-%d-r", code), Peer: fmt.Sprintf("p%d", i)}
		want[c] = [3]string{"rejected", fmt.Sprint(code), "1"}
		events = append(events, kit.Event{Conversation: c, ReadTime: time.Now().Unix() - 60})
	}
	for _, code := range []int{91000, 60013, 4711} { // the last is in no table, so it is transient
		c := kit.Conversation{Report: fmt.Sprintf("reject-%d-r", code), Peer: "p"}
		want[c] = [3]string{"exhausted", fmt.Sprint(code), "3"}
		events = append(events, kit.Event{Conversation: c, ReadTime: time.Now().Unix() - 60})
	}
	// The failing ones are spread among the others, so that their failures are far from an outage.
	spread := make([]kit.Event, 0, len(events))
	healthy, failing := events[:300], events[300:]
	for i, e := range healthy {
		spread = append(spread, e)
		if i%20 == 19 && i/20 < len(failing) {
			spread = append(spread, failing[i/20])
		}
	}
	kit.ProduceEvents(t, k, k.Live, spread)
	w := kit.StartWorker(t, k, im.URL, "--attempts", "3", "--backoff-initial", "20ms",
		"--backoff-max", "200ms")
	k.WaitCommitted(t, 30*time.Second, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	calls := map[kit.Conversation]int{}
	for _, a := range im.Arrivals(t) {
		calls[a.Conversation]++
	}
	byKey := map[string]kit.Conversation{}
	for c := range want {
		byKey[string(c.Key())] = c
	}
	letters := k.ReadAll(t, k.DeadLetters)
	for _, letter := range letters {
		c, ok := byKey[string(letter.Key)]
		if !ok {
			t.Errorf("a dead letter for %q, which the server accepts, or a second one", letter.Key)
			continue
		}
		delete(byKey, string(letter.Key))
		ours := markreadHeaders(letter)
		got := [3]string{ours["markread.class"], ours["markread.code"],
			ours["__dlq.errors.delivery.count"]}
		kit.Check(t, got == want[c], "%v: class, code and count %v, want %v", c, got, want[c])
		kit.Check(t, fmt.Sprint(calls[c]) == want[c][2], "%v: %d calls, want %s", c, calls[c],
			want[c][2])
		kit.Check(t, ours["__dlq.errors.message"] != "", "%v: no message", c)
	}
	kit.Check(t, len(byKey) == 0, "no dead letters for %v", byKey)
	for _, e := range healthy {
		kit.Check(t, calls[e.Conversation] == 1, "%d calls for %v", calls[e.Conversation],
			e.Conversation)
	}
	balance := metrics.Balance(t)
	got := metrics.Sum("markread_calls_total", `code="4711"`)
	kit.Check(t, got == 0 && metrics.Sum("markread_calls_total", `result="transient"`,
		`code="other"`) == 3, "an unknown code must count as other")
	kit.Figure(t, "codes", "%d dead letters of %d codes; %s", len(letters), len(want), balance)
}
