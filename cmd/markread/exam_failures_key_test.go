//go:build exam && unix

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/imclient"
)

// examStartWorkerOnFile starts a worker that reads its key from a file.
func examStartWorkerOnFile(t *testing.T, k *examKafka, imURL, file string) *examWorker {
	t.Helper()
	p := examStart(t, "worker", "product", []string{"MARKREAD_IM_KEY_FILE=" + file}, k.run(imURL, "--attempts", "2")...)
	return &examWorker{p, "http://" + p.line(t, examAdminLine, 10*time.Second)[1]}
}

func examWriteKey(t *testing.T, file, key string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestExamCredentials: a worker starts with a wrong key. For 20 s hardly a call is made and nothing is committed or dead-lettered; a
// mended key file is enough to go on, at once and without a restart.
func TestExamCredentials(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	events := examOneEach(examConversations("key", 201))
	examProduceEvents(t, k, k.live, events[:200])
	file := filepath.Join(t.TempDir(), "key")
	examWriteKey(t, file, "not the key of this app")
	w := examStartWorkerOnFile(t, k, sandbox.url, file)
	began := w.held(t, "credentials", 20*time.Second).Since
	<-time.After(10 * time.Second)
	examProduceEvents(t, k, k.live, events[200:])
	<-time.After(time.Until(began.Add(20 * time.Second)))
	w.shows(t, "credentials")
	calls := sandbox.stats(t).Calls
	left := k.unsettled(t, k.live)

	examWriteKey(t, file, examKey)
	mended := time.Now()
	k.settled(t, 40*time.Second, k.live)
	settled := time.Since(mended)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	first := sandbox.served(t).after(t, mended)
	examFigure(t, "credentials", "20 s with a wrong key: %d calls; first success %v after the key file was mended, all settled after %v; %s",
		calls, first.Round(time.Millisecond), settled.Round(time.Millisecond), w.loggedOnce(t, "credentials", 1))
	examCheck(t, left == int64(len(events)), "%d events left during the hold, want all %d", left, len(events))
	examCheck(t, calls <= 10, "%d calls with a wrong key, at most 10 allowed", calls)
	examCheck(t, first <= 3*time.Second, "the first success came %v after the key file was mended, at most 3 s allowed", first)
	k.noLetters(t, "a wrong key")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}

// TestExamCredentialsAtTheServer: in full flow the server begins to take another key than ours, and 20 s later ours again. Nothing
// changes on our side that could tell, so only the probes find out.
func TestExamCredentialsAtTheServer(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	ours := examStartSandbox(t)
	p := examStart(t, "sandbox", "product", []string{"MARKREAD_IM_KEY=another key"}, "sandbox", "--addr", "127.0.0.1:0", "--app-id", examAppID)
	other := &examSandbox{p, "http://" + p.line(t, examSandboxLine, 10*time.Second)[1]}
	gate := examStartGate(t, ours.url)
	w := examStartWorker(t, k, gate.url, "--attempts", "2")
	flow := examStartFlow(t, k, k.live, "key", 20)
	examWait(t, "calls", 30*time.Second, func() bool { return ours.stats(t).Applied >= 40 })
	w.keepsUp(t)

	gate.lead(other.url)
	w.held(t, "credentials", 5*time.Second)
	<-time.After(20 * time.Second)
	w.shows(t, "credentials")
	calls := other.stats(t).Calls
	waiting := k.unsettled(t, k.live)
	gate.lead(ours.url)
	mended := time.Now()
	w.released(t, "credentials", 25*time.Second)
	events := flow.end()
	k.settled(t, 30*time.Second, k.live)
	settled := time.Since(mended)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	first := ours.served(t).after(t, mended)
	examFigure(t, "credentials-at-the-server", "20 s of another key in full flow: %d calls; first success %v after the right one was back, all %d settled after %v; %s",
		calls, first.Round(time.Millisecond), len(events), settled.Round(time.Millisecond), w.loggedOnce(t, "credentials", 1))
	examCheck(t, waiting >= 300, "only %d events waited: the row says little", waiting)
	examCheck(t, calls <= 10, "%d calls with a wrong key, at most 10 allowed", calls)
	examCheck(t, first <= 20*time.Second, "the first success came %v after the right key, at most 20 s allowed", first)
	k.noLetters(t, "a wrong key")
	examComparePointers(t, examLargest(events), ours.pointers(t))
}

// TestExamSignature: in full flow all signatures are revoked, and then they expire, for the server's clock is 25 hours ahead. New ones
// are made and nobody notices: no hold, no letter, no event that waits.
func TestExamSignature(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	w := examStartWorker(t, k, sandbox.url, "--attempts", "2")
	w.ready(t)
	flow := examStartFlow(t, k, k.live, "sig", 100)
	applied := func(n int) {
		t.Helper()
		enough := sandbox.stats(t).Applied + n
		examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= enough })
	}
	applied(200)
	w.keepsUp(t)
	kicked := time.Now()
	sandbox.kick(t)
	applied(200)
	for skew := 25; skew <= 100 && sandbox.stats(t).Codes["70001"] == 0; skew += 25 {
		// A call that is under way just then has passed, and its answer tells the worker of the new day: it signs anew before it must.
		sandbox.faults(t, fmt.Sprintf(`{"skew":"%dh"}`, skew))
		applied(200)
	}
	sandbox.faults(t, `{}`) // back again: the signature is of the future
	applied(200)
	events := flow.end()
	k.settled(t, 20*time.Second, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	stats := sandbox.stats(t)
	delays := flow.delays(sandbox.served(t).between(kicked, time.Now())) // without the start, which waits for its permits
	slices.Sort(delays)
	begun, between, ended := w.logged(t, "credentials")
	examFigure(t, "signature", "%d events at 100/s while signatures are revoked and expire: codes %v, delay p50 %v, most %v; %s", len(events), stats.Codes,
		delays[len(delays)/2].Round(time.Microsecond), delays[len(delays)-1].Round(time.Microsecond), metrics.balance(t))
	examCheck(t, stats.Codes["70052"] > 0 && stats.Codes["70001"] > 0, "signatures were not refused: the row says nothing")
	examCheck(t, begun+between+ended == 0, "a hold because of signatures")
	examCheck(t, delays[len(delays)-1] <= 500*time.Millisecond, "an event took %v", delays[len(delays)-1])
	k.noLetters(t, "a signature")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}

// kick revokes the signatures that the app's admin has.
func (s *examSandbox) kick(t *testing.T) {
	t.Helper()
	s.asAdmin(t, "/v4/im_open_login_svc/kick", `{"UserID":"administrator"}`)
}

// asAdmin calls one of the sandbox's commands.
func (s *examSandbox) asAdmin(t *testing.T, path, body string) {
	t.Helper()
	id, err := strconv.ParseInt(examAppID, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := imclient.Sign(id, "administrator", imclient.NewSecret(examKey), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	query := url.Values{"sdkappid": {examAppID}, "identifier": {"administrator"}, "usersig": {sig}, "random": {"1"}, "contenttype": {"json"}}
	res, err := examHTTP.Post(s.url+path+"?"+query.Encode(), "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, res.Status)
	}
}
