package cli

import (
	"strings"
	"testing"

	"markread/cmd/markread/cli/clitest"
)

// While no broker is reachable, run waits: the admin server is up, the worker is alive but not
// ready, and it stops cleanly.
func TestRunWaitsForBrokers(t *testing.T) {
	clitest.NoLeaks(t)
	_, im := server(t)
	r, admin := beginWorker(t, "127.0.0.1:1", im)
	if got := clitest.Fetch(t, "http://"+admin+"/readyz"); !strings.Contains(got, `"ready":false`) {
		t.Errorf("/readyz: %s", got)
	}
	if got := clitest.Fetch(t, "http://"+admin+"/healthz"); got != "ok\n" {
		t.Errorf("/healthz: %s", got)
	}
	r.WaitFor(t, `(no broker in --brokers is reachable)`)
	if status := r.Stop(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
}

func TestRunNeedsItsTopics(t *testing.T) {
	_, im := server(t)
	b := clitest.StartBroker(t, "mark-read", "mark-read-backfill")
	r, _ := beginWorker(t, b.Addr(), im)
	<-r.Done
	if last := clitest.LastLine(t, r.Stderr.String()); r.Status != ExitFailed ||
		!strings.Contains(last, "mark-read-dead-letters") ||
		!strings.Contains(last, "--create-topics") {
		t.Errorf("%d: %s", r.Status, last)
	}

	r, admin := beginWorker(t, b.Addr(), im, "--create-topics")
	clitest.WaitUntil(t, "readiness",
		func() bool {
			return strings.Contains(clitest.Fetch(t, "http://"+admin+"/readyz"), `"ready":true`)
		})
	if status := r.Stop(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
	if strings.Contains(r.Stdout.String()+r.Stderr.String(), clitest.TestKey) {
		t.Error("the key is shown")
	}
}

// A refused authentication does not fix itself: run fails immediately, with a line that names it.
func TestRunWithRefusedAuthentication(t *testing.T) {
	_, im := server(t)
	b := clitest.StartBroker(t) // it has no users
	r := begin(t, []string{"MARKREAD_IM_KEY=" + clitest.TestKey,
		"MARKREAD_SASL_PASSWORD=canary-password"}, "run", "--brokers", b.Addr(), "--im-url", im,
		"--im-app-id", "1400000000", "--admin-addr", "127.0.0.1:0", "--sasl", "plain",
		"--sasl-user", "mallory")
	<-r.Done
	if last := clitest.LastLine(t, r.Stderr.String()); r.Status != ExitFailed ||
		!strings.Contains(last, "--sasl-user") {
		t.Errorf("%d: %s", r.Status, last)
	}
	if strings.Contains(r.Stderr.String(), "canary-password") {
		t.Error("the password is shown")
	}
}

// A password without effect was probably meant to have one.
func TestPasswordWithoutMechanism(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read")
	r := try(t, []string{"MARKREAD_SASL_PASSWORD=canary-password"}, "", "emit", "--brokers",
		b.Addr(), "--report", "a", "--peer", "b")
	if r.Status != ExitOK || strings.Count(r.Stderr, "\n") != 1 ||
		!strings.Contains(r.Stderr, "MARKREAD_SASL_PASSWORD") ||
		!strings.Contains(r.Stderr, "--sasl") ||
		strings.Contains(r.Stderr, "canary") {
		t.Errorf("%+v", r)
	}
}

// The admin token protects the console of run.
func TestRunWithAdminToken(t *testing.T) {
	_, im := server(t)
	r := begin(t, []string{"MARKREAD_IM_KEY=" + clitest.TestKey,
		"MARKREAD_ADMIN_TOKEN_FILE=" + clitest.File(t, "canary-token\n")}, "run", "--brokers",
		"127.0.0.1:1",
		"--im-url", im, "--im-app-id", "1400000000", "--admin-addr", "127.0.0.1:0", "--log-format",
		"console")
	admin := r.WaitFor(t, `addr=(127\.0\.0\.1:\d+)`)
	if got := clitest.Fetch(t, "http://"+admin+"/api/state"); !strings.Contains(got, "401") {
		t.Errorf("without the token: %s", got)
	}
	if status := r.Stop(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
}
