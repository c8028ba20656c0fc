//go:build exam && unix

package exam

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

	"markread/cmd/markread/exam/kit"
	"markread/imclient"
)

// startWorkerOnFile starts a worker that reads its key from a file.
func startWorkerOnFile(t *testing.T, k *kit.Kafka, imURL, file string) *kit.Worker {
	t.Helper()
	p := kit.Start(t, "worker", "product", []string{"MARKREAD_IM_KEY_FILE=" + file},
		k.RunArgs(imURL, "--attempts", "2")...)
	return &kit.Worker{Proc: p, Admin: "http://" + p.Line(t, kit.AdminLine, 10*time.Second)[1]}
}

func writeKey(t *testing.T, file, key string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestExamCredentials: a worker starts with a wrong key. For 20 s hardly a call is made and nothing
// is committed or dead-lettered; a mended key file is enough to go on, at once and without a
// restart.
func TestExamCredentials(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	events := kit.OneEventEach(kit.Conversations("key", 201))
	kit.ProduceEvents(t, k, k.Live, events[:200])
	file := filepath.Join(t.TempDir(), "key")
	writeKey(t, file, "not the key of this app")
	w := startWorkerOnFile(t, k, sandbox.URL, file)
	began := w.WaitHeld(t, "credentials", 20*time.Second).Since
	<-time.After(10 * time.Second)
	kit.ProduceEvents(t, k, k.Live, events[200:])
	<-time.After(time.Until(began.Add(20 * time.Second)))
	w.CheckHeld(t, "credentials")
	calls := sandbox.Stats(t).Calls
	left := k.Lag(t, k.Live)

	writeKey(t, file, kit.Key)
	mended := time.Now()
	k.WaitCommitted(t, 40*time.Second, k.Live)
	settled := time.Since(mended)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	first := sandbox.Calls(t).FirstAppliedAfter(t, mended)
	kit.Figure(t, "credentials", "20 s with a wrong key: %d calls; first success %v after the "+
		"key file was mended, "+
		"all settled after %v; %s",
		calls, first.Round(time.Millisecond), settled.Round(time.Millisecond),
		w.CheckHoldLogged(t, "credentials", 1))
	kit.Check(t, left == int64(len(events)), "%d events left during the hold, want all %d", left,
		len(events))
	kit.Check(t, calls <= 10, "%d calls with a wrong key, at most 10 allowed", calls)
	kit.Check(t, first <= 3*time.Second,
		"the first success came %v after the key file was mended, at most 3 s allowed",
		first)
	k.CheckNoDeadLetters(t, "a wrong key")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// TestExamCredentialsAtTheServer: in full flow the server begins to take another key than ours, and
// 20 s later ours again. Nothing changes on our side that could tell, so only the probes find out.
func TestExamCredentialsAtTheServer(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	ours := kit.StartSandbox(t)
	p := kit.Start(t, "sandbox", "product", []string{"MARKREAD_IM_KEY=another key"}, "sandbox",
		"--addr", "127.0.0.1:0",
		"--app-id", kit.AppID)
	other := &kit.Sandbox{Proc: p, URL: "http://" + p.Line(t, kit.SandboxLine, 10*time.Second)[1]}
	gate := kit.StartProxy(t, ours.URL)
	w := kit.StartWorker(t, k, gate.URL, "--attempts", "2")
	flow := kit.StartTraffic(t, k, k.Live, "key", 20)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return ours.Stats(t).Applied >= 40 })
	w.WaitCaughtUp(t)

	gate.Redirect(other.URL)
	w.WaitHeld(t, "credentials", 5*time.Second)
	<-time.After(20 * time.Second)
	w.CheckHeld(t, "credentials")
	calls := other.Stats(t).Calls
	waiting := k.Lag(t, k.Live)
	gate.Redirect(ours.URL)
	mended := time.Now()
	w.WaitReleased(t, "credentials", 25*time.Second)
	events := flow.End()
	k.WaitCommitted(t, 30*time.Second, k.Live)
	settled := time.Since(mended)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	first := ours.Calls(t).FirstAppliedAfter(t, mended)
	kit.Figure(t, "credentials-at-the-server",
		"20 s of another key in full flow: %d calls; first success %v after the right one was "+
			"back, all %d settled "+
			"after %v; %s",
		calls, first.Round(time.Millisecond), len(events), settled.Round(time.Millisecond),
		w.CheckHoldLogged(t, "credentials", 1))
	kit.Check(t, waiting >= 300, "only %d events waited: the row says little", waiting)
	kit.Check(t, calls <= 10, "%d calls with a wrong key, at most 10 allowed", calls)
	kit.Check(t, first <= 20*time.Second,
		"the first success came %v after the right key, at most 20 s allowed", first)
	k.CheckNoDeadLetters(t, "a wrong key")
	kit.CompareReadTimes(t, kit.Largest(events), ours.ReadTimes(t))
}

// TestExamSignature: in full flow all signatures are revoked, and then they expire, for the
// server's clock is 25 hours ahead. New ones are made and nobody notices: no hold, no letter, no
// event that waits.
func TestExamSignature(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	w := kit.StartWorker(t, k, sandbox.URL, "--attempts", "2")
	w.WaitReady(t)
	flow := kit.StartTraffic(t, k, k.Live, "sig", 100)
	applied := func(n int) {
		t.Helper()
		enough := sandbox.Stats(t).Applied + n
		kit.Wait(t, "calls", 30*time.Second,
			func() bool { return sandbox.Stats(t).Applied >= enough })
	}
	applied(200)
	w.WaitCaughtUp(t)
	kicked := time.Now()
	revokeSignatures(sandbox, t)
	applied(200)
	for skew := 25; skew <= 100 && sandbox.Stats(t).Codes["70001"] == 0; skew += 25 {
		// A call that is under way just then has passed, and its answer tells the worker of the new
		// day: it signs anew before it must.
		sandbox.SetFaults(t, fmt.Sprintf(`{"skew":"%dh"}`, skew))
		applied(200)
	}
	sandbox.SetFaults(t, `{}`) // back again: the signature is of the future
	applied(200)
	events := flow.End()
	k.WaitCommitted(t, 20*time.Second, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	stats := sandbox.Stats(t)
	// without the start, which waits for its permits
	delays := flow.Delays(sandbox.Calls(t).Between(kicked, time.Now()))
	slices.Sort(delays)
	begun, between, ended := w.HoldLogLines(t, "credentials")
	kit.Figure(t, "signature", "%d events at 100/s while signatures are revoked and expire: "+
		"codes %v, delay p50 %v, "+
		"most %v; %s", len(events), stats.Codes,
		delays[len(delays)/2].Round(time.Microsecond),
		delays[len(delays)-1].Round(time.Microsecond),
		metrics.Balance(t))
	kit.Check(t, stats.Codes["70052"] > 0 && stats.Codes["70001"] > 0,
		"signatures were not refused: the row says nothing")
	kit.Check(t, begun+between+ended == 0, "a hold because of signatures")
	kit.Check(t, delays[len(delays)-1] <= 500*time.Millisecond, "an event took %v",
		delays[len(delays)-1])
	k.CheckNoDeadLetters(t, "a signature")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// revokeSignatures revokes the signatures that the app's admin has.
func revokeSignatures(s *kit.Sandbox, t *testing.T) {
	t.Helper()
	postAsAdmin(s, t, "/v4/im_open_login_svc/kick", `{"UserID":"administrator"}`)
}

// postAsAdmin calls one of the sandbox's commands.
func postAsAdmin(s *kit.Sandbox, t *testing.T, path, body string) {
	t.Helper()
	id, err := strconv.ParseInt(kit.AppID, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := imclient.Sign(id, "administrator", imclient.NewSecret(kit.Key), time.Now(),
		time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	query := url.Values{"sdkappid": {kit.AppID}, "identifier": {"administrator"}, "usersig": {sig},
		"random":      {"1"},
		"contenttype": {"json"}}
	res, err := kit.HTTP.Post(s.URL+path+"?"+query.Encode(), "application/json",
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, res.Status)
	}
}
