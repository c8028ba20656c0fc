//go:build exam && unix

package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExamStopHeld: a worker that is held can be stopped like any other, at once and cleanly: what waits is not its business any more.
// Its successor, for whom all is well, settles every event.
func TestExamStopHeld(t *testing.T) {
	for reason, row := range map[string]struct {
		start      func(*testing.T) *examKafka
		begin, end func(*testing.T, *examKafka, *examSandbox, string)
	}{
		"outage": {
			examStartBroker,
			func(t *testing.T, _ *examKafka, s *examSandbox, _ string) {
				s.faults(t, `{"rules":[{"kind":"status","status":503}]}`)
			},
			func(t *testing.T, _ *examKafka, s *examSandbox, _ string) { s.faults(t, `{}`) },
		},
		"credentials": {
			examStartBroker,
			func(t *testing.T, _ *examKafka, _ *examSandbox, file string) { examWriteKey(t, file, "a wrong key") },
			func(t *testing.T, _ *examKafka, _ *examSandbox, file string) { examWriteKey(t, file, examKey) },
		},
		"dead-letter": {
			func(t *testing.T) *examKafka {
				return examStartEmbedded(t, "the broker refuses what is written to a topic")
			},
			func(t *testing.T, k *examKafka, _ *examSandbox, _ string) {
				k.refuse(t, k.letters, "TOPIC_AUTHORIZATION_FAILED")
			},
			func(t *testing.T, k *examKafka, _ *examSandbox, _ string) { k.accept(t, k.letters) },
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			k := row.start(t)
			sandbox := examStartSandbox(t)
			file := filepath.Join(t.TempDir(), "key")
			examWriteKey(t, file, examKey)
			events := examOneEach(examConversations("held", 1200))
			bad := examNoEvents(k.live, "bad", 20) // one in sixty: no hold for rejections
			row.begin(t, k, sandbox, file)
			k.produce(t, bad[:10]...)
			examProduceEvents(t, k, k.live, events)
			k.produce(t, bad[10:]...)
			w := examStartWorkerOnFile(t, k, sandbox.url, file)
			w.held(t, reason, 20*time.Second)
			left := k.unsettled(t, k.live)
			took := w.stop(t, syscall.SIGTERM, examStopLimit)

			row.end(t, k, sandbox, file)
			next := examStartWorkerOnFile(t, k, sandbox.url, file)
			k.settled(t, 30*time.Second, k.live)
			metrics := examScrape(t, next.admin)
			next.stop(t, syscall.SIGTERM, examStopLimit)
			letters := k.readAll(t, k.letters)
			of := examLettered(letters)
			wrong := 0
			for key := range of {
				if !strings.HasPrefix(key, "bad-") {
					wrong++
				}
			}
			examFigure(t, "stop-held", "%s: stopped after %v with %d records left; the next worker settled all, %d letters for %d records that are no events; %s",
				reason, took.Round(time.Millisecond), left, len(letters), len(of), metrics.balance(t))
			examCheck(t, left > 0, "nothing was left: the row says nothing")
			examCheck(t, took <= 7*time.Second, "the stop took %v; no call takes longer than 5 s", took)
			// A letter that was written behind what waits is written again: its record was not committed.
			examCheck(t, len(of) == len(bad) && wrong == 0 && len(letters) <= 2*len(bad), "%d letters of %d records, %d of them wrong, want %d", len(letters), len(of), wrong, len(bad))
			examComparePointers(t, examLargest(events), sandbox.pointers(t))
		})
	}
}
