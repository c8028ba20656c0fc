//go:build exam && unix

package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

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
