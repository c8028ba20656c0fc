//go:build exam && unix

package main

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/worker/preflight"
)

// TestExamCheck: beside a worker that works a check finds nothing wrong and disturbs nothing; when nothing is there any more, or hangs, it says so in time.
func TestExamCheck(t *testing.T) {
	k := examStartBroker(t)
	im := examStartSandbox(t)
	w := examStartWorker(t, k, im.url)
	w.ready(t)
	events := examOneEach(examConversations("check", 40))
	examProduceEvents(t, k, k.live, events)
	k.settled(t, 30*time.Second, k.live)
	ends, committed := k.ends(t, k.topics()...), k.committed(t)
	generations := examScrape(t, w.admin).sum("markread_generations_total")
	right := examRunCheck(t, k, im.url, nil)
	right.is(t, preflight.Good("group", k.group, "1 worker runs, 200 calls a second for all"))
	right.is(t, preflight.Good("lag", k.live, "0 events to do"))
	right.is(t, preflight.Good("IM account", "", "the key and --im-admin administrator are right"))
	taken := examRunCheck(t, k, im.url, nil, "--admin-addr", strings.TrimPrefix(w.admin, "http://"))
	taken.is(t, preflight.Warning("admin server", "", "a worker runs here already", "--admin-addr"))
	key := examRunCheck(t, k, im.url, []string{"MARKREAD_IM_KEY=another"})
	key.is(t, preflight.Wrong("IM account", "", "70009", "MARKREAD_IM_KEY"))
	after := examScrape(t, w.admin).sum("markread_generations_total")
	examCheck(t, after == generations, "%v generations, %v before: a check joined", after, generations)
	examCheck(t, maps.Equal(ends, k.ends(t, k.topics()...)) && maps.Equal(committed, k.committed(t)), "a record was written, or an offset committed")
	w.stop(t, syscall.SIGTERM, examStopLimit)
	nothing := *k
	nothing.addr = "127.0.0.1:1," + examSilentListener(t)
	im.signal(t, syscall.SIGSTOP)
	none := examRunCheck(t, &nothing, im.url, nil)
	im.signal(t, syscall.SIGCONT)
	examCheck(t, none.Wrong == 3 && none.NotChecked == 8, "%+v", none.Checks)
	examFigure(t, "check", "right %.2f s, with brokers and an IM server that don't answer %.2f s", right.took.Seconds(), none.took.Seconds())
}

// TestExamCodes: each code of the contract's class `rejected` is a letter after one call; a transient one is a letter after --attempts
// calls; the rest of the traffic is applied.
func TestExamCodes(t *testing.T) {
	k := examStartBroker(t)
	im := examStartRecorder(t, "-latency", "2ms")
	want := map[examConversation][3]string{} // class, code, delivery count
	events := examOneEach(examConversations("codes", 300))
	for i, code := range []int{60003, 60015, 70107, 70402, 20003, 90001, 90003, 90008, 90012, 90048, 93000} {
		c := examConversation{fmt.Sprintf("reject-%d-r", code), fmt.Sprintf("p%d", i)}
		want[c] = [3]string{"rejected", fmt.Sprint(code), "1"}
		events = append(events, examEvent{c, time.Now().Unix() - 60})
	}
	for _, code := range []int{91000, 60013, 4711} { // the last is in no table: transient
		c := examConversation{fmt.Sprintf("reject-%d-r", code), "p"}
		want[c] = [3]string{"exhausted", fmt.Sprint(code), "3"}
		events = append(events, examEvent{c, time.Now().Unix() - 60})
	}
	// The failing ones in between, so that their failures are far from being an outage.
	spread := make([]examEvent, 0, len(events))
	healthy, failing := events[:300], events[300:]
	for i, e := range healthy {
		spread = append(spread, e)
		if i%20 == 19 && i/20 < len(failing) {
			spread = append(spread, failing[i/20])
		}
	}
	examProduceEvents(t, k, k.live, spread)
	w := examStartWorker(t, k, im.url, "--attempts", "3", "--backoff-initial", "20ms", "--backoff-max", "200ms")
	k.settled(t, 30*time.Second, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	calls := map[examConversation]int{}
	for _, a := range im.arrivals(t) {
		calls[examConversation{a.Report, a.Peer}]++
	}
	byKey := map[string]examConversation{}
	for c := range want {
		byKey[string(c.key())] = c
	}
	letters := k.readAll(t, k.letters)
	for _, letter := range letters {
		c, ok := byKey[string(letter.Key)]
		if !ok {
			t.Errorf("a letter for %q, which the server accepts, or a second one", letter.Key)
			continue
		}
		delete(byKey, string(letter.Key))
		ours := examOurHeaders(letter)
		got := [3]string{ours["markread.class"], ours["markread.code"], ours["__dlq.errors.delivery.count"]}
		examCheck(t, got == want[c], "%v: class, code and count %v, want %v", c, got, want[c])
		examCheck(t, fmt.Sprint(calls[c]) == want[c][2], "%v: %d calls, want %s", c, calls[c], want[c][2])
		examCheck(t, ours["__dlq.errors.message"] != "", "%v: no message", c)
	}
	examCheck(t, len(byKey) == 0, "no letters for %v", byKey)
	for _, e := range healthy {
		examCheck(t, calls[e.examConversation] == 1, "%d calls for %v", calls[e.examConversation], e.examConversation)
	}
	balance := metrics.balance(t)
	got := metrics.sum("markread_calls_total", `code="4711"`)
	examCheck(t, got == 0 && metrics.sum("markread_calls_total", `result="transient"`, `code="other"`) == 3, "an unknown code must count as other")
	examFigure(t, "codes", "%d letters of %d codes; %s", len(letters), len(want), balance)
}
