//go:build exam && unix

package exam

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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
	return kit.StartWorkerWithEnv(t, k, imURL, []string{"MARKREAD_IM_KEY_FILE=" + file},
		"--attempts", "2")
}

func writeKey(t *testing.T, file, key string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestExamCredentials: a worker starts with a wrong key. For 20 s it makes hardly any call, and
// commits and dead-letters nothing. Once the key file is fixed, it continues immediately, without a
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
	fixed := time.Now()
	k.WaitCommitted(t, 40*time.Second, k.Live)
	settled := time.Since(fixed)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	first := sandbox.Calls(t).FirstAppliedAfter(t, fixed)
	kit.Figure(t, "credentials", "20 s with a wrong key: %d calls; first success %v after the "+
		"key file was fixed, all committed after %v; %s", calls, first.Round(time.Millisecond),
		settled.Round(time.Millisecond), w.CheckHoldLogged(t, "credentials", 1))
	kit.Check(t, left == int64(len(events)), "%d events left during the hold, want all %d", left,
		len(events))
	kit.Check(t, calls <= 10, "%d calls with a wrong key, at most 10 allowed", calls)
	kit.Check(t, first <= 3*time.Second,
		"the first success came %v after the key file was fixed, at most 3 s allowed", first)
	k.CheckNoDeadLetters(t, "a wrong key")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// TestExamCredentialsAtTheServer: under load, the server stops accepting our key, and accepts it
// again 20 s later. Nothing changes on our side, so only the probes can detect that.
func TestExamCredentialsAtTheServer(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	ours := kit.StartSandbox(t)
	p := kit.Start(t, "sandbox", "product", []string{"MARKREAD_IM_KEY=another key"}, "sandbox",
		"--addr", "127.0.0.1:0", "--app-id", kit.AppID)
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
	fixed := time.Now()
	w.WaitReleased(t, "credentials", 25*time.Second)
	events := flow.End()
	k.WaitCommitted(t, 30*time.Second, k.Live)
	settled := time.Since(fixed)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	first := ours.Calls(t).FirstAppliedAfter(t, fixed)
	kit.Figure(t, "credentials-at-the-server",
		"20 s of another key under load: %d calls; first success %v after the right key was "+
			"back, all %d committed after %v; %s", calls, first.Round(time.Millisecond),
		len(events), settled.Round(time.Millisecond), w.CheckHoldLogged(t, "credentials", 1))
	kit.Check(t, waiting >= 300, "only %d events waited: the test proves little", waiting)
	kit.Check(t, calls <= 10, "%d calls with a wrong key, at most 10 allowed", calls)
	kit.Check(t, first <= 20*time.Second,
		"the first success came %v after the right key, at most 20 s allowed", first)
	k.CheckNoDeadLetters(t, "a wrong key")
	kit.CompareReadTimes(t, kit.Largest(events), ours.ReadTimes(t))
}

// TestExamSignature: under load all signatures are revoked, and then they expire, because the
// server's clock is 25 hours ahead. The worker signs again without any effect on events: no hold,
// no dead letter, no delay.
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
	revoked := time.Now()
	revokeSignatures(sandbox, t)
	applied(200)
	for skew := 25; skew <= 100 && sandbox.Stats(t).Codes["70001"] == 0; skew += 25 {
		// A call that is in flight at that moment has passed, and its response reports to the
		// worker the new date: it signs again before it must.
		sandbox.SetFaults(t, fmt.Sprintf(`{"skew":"%dh"}`, skew))
		applied(200)
	}
	sandbox.SetFaults(t, `{}`) // back again: the signature is dated in the future
	applied(200)
	events := flow.End()
	k.WaitCommitted(t, 20*time.Second, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	stats := sandbox.Stats(t)
	// without the start, when permits are cooling
	delays := flow.Delays(sandbox.Calls(t).Between(revoked, time.Now()))
	begun, between, ended := w.HoldLogLines(t, "credentials")
	kit.Figure(t, "signature", "%d events at 100/s while signatures are revoked and expire: "+
		"codes %v, delay %v; %s", len(events), stats.Codes, delays, metrics.Balance(t))
	kit.Check(t, stats.Codes["70052"] > 0 && stats.Codes["70001"] > 0,
		"signatures were not refused: the test proves nothing")
	kit.Check(t, begun+between+ended == 0, "a hold because of signatures")
	kit.Check(t, delays.Longest() <= 500*time.Millisecond, "an event took %v", delays.Longest())
	k.CheckNoDeadLetters(t, "a signature")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// revokeSignatures revokes all signatures of the app's admin.
func revokeSignatures(s *kit.Sandbox, t *testing.T) {
	t.Helper()
	postAsAdmin(s, t, "/v4/im_open_login_svc/kick", `{"UserID":"administrator"}`)
}

// postAsAdmin calls a command of the sandbox as the app's admin.
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
		"random": {"1"}, "contenttype": {"json"}}
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
