//go:build exam && unix

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faults switches the sandbox's faults; {} takes them back.
func (s *examSandbox) faults(t *testing.T, form string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, s.url+"/sandbox/faults", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	res, err := examHTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		t.Fatalf("PUT /sandbox/faults: %s", res.Status)
	}
}

// held waits for a hold and checks that the worker shows it where the contract says, and stays ready.
func (w *examWorker) held(t *testing.T, reason string, within time.Duration) {
	t.Helper()
	examWait(t, "hold "+reason, within, func() bool {
		return examScrape(t, w.admin).sum("markread_held", `reason="`+reason+`"`) == 1
	})
	for _, path := range []string{"/readyz", "/api/state"} {
		status, body, err := examTryGet(w.admin + path)
		examCheck(t, err == nil && status == http.StatusOK && strings.Contains(body, `"reason":"`+reason+`"`), "%s in a hold: %d %s", path, status, body)
	}
}

// TestExamOutage: while every call fails with 502, hardly any is made and nothing is dead-lettered; then all events are applied.
func TestExamOutage(t *testing.T) {
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	events := examOneEach(examConversations("outage", 1200))
	examProduceEvents(t, k, examLive, events)
	w := examStartWorker(t, k, sandbox.url, "--attempts", "2") // an outage that spends attempts would show at once
	examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= 300 })

	before := sandbox.stats(t)
	sandbox.faults(t, `{"rules":[{"kind":"status","status":502}]}`)
	w.held(t, "outage", 10*time.Second)
	<-time.After(10 * time.Second)
	during := sandbox.stats(t)
	committed := k.unsettled(t, examLive)
	sandbox.faults(t, `{}`)
	began := time.Now()
	examWait(t, "the first call after the outage", 20*time.Second, func() bool { return sandbox.stats(t).Applied > during.Applied })
	resumed := time.Since(began)
	k.settled(t, 30*time.Second, examLive)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	examFigure(t, "outage", "10 s of 502: %d calls in it, first success %v after its end, %d letters; %s",
		during.Calls-before.Calls, resumed.Round(time.Millisecond), len(k.readAll(t, examLetters)), metrics.balance(t))
	examCheck(t, committed > 0, "nothing waited: the row says nothing")
	examCheck(t, during.Calls-before.Calls <= 200, "%d calls in the outage, at most 200 allowed", during.Calls-before.Calls)
	examCheck(t, len(k.readAll(t, examLetters)) == 0, "dead letters because of an outage")
	examCheck(t, metrics.sum("markread_held") == 0, "still held")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}

// TestExamCredentials: with a wrong key nothing is committed or dead-lettered; a mended key file is enough to go on, without a restart.
func TestExamCredentials(t *testing.T) {
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	events := examOneEach(examConversations("key", 200))
	examProduceEvents(t, k, examLive, events)
	file := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("not the key of this app")
	p := examStart(t, "worker", "product", []string{"MARKREAD_IM_KEY_FILE=" + file},
		"run", "--brokers", k.addr, "--im-url", sandbox.url, "--im-app-id", examAppID, "--admin-addr", "127.0.0.1:0", "--attempts", "2")
	w := &examWorker{p, "http://" + p.line(t, examAdminLine, 10*time.Second)[1]}
	w.held(t, "credentials", 20*time.Second)
	before := sandbox.stats(t).Calls
	<-time.After(3 * time.Second)
	calls := sandbox.stats(t).Calls
	left := k.unsettled(t, examLive)

	write(examKey)
	began := time.Now()
	k.settled(t, 40*time.Second, examLive)
	took := time.Since(began)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	examFigure(t, "credentials", "wrong key: %d calls, then held; all settled %v after the key file was mended", calls, took.Round(time.Millisecond))
	examCheck(t, left == int64(len(events)), "%d events left during the hold, want all %d", left, len(events))
	examCheck(t, calls <= 300 && calls-before <= 2, "%d calls with a wrong key, %d of them in the hold", calls, calls-before)
	examCheck(t, took <= 20*time.Second, "took %v, at most 20 s allowed", took)
	examCheck(t, len(k.readAll(t, examLetters)) == 0, "dead letters because of a wrong key")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}
