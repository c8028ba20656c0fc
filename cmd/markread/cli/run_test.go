package cli

import (
	"strings"
	"testing"
)

// Brokers that can't be reached are waited for: the admin server is up, the worker is alive and not ready, and it stops cleanly.
func TestRunWaitsForBrokers(t *testing.T) {
	noLeaks(t)
	_, im := server(t)
	r, admin := beginWorker(t, "127.0.0.1:1", im)
	if got := fetch(t, "http://"+admin+"/readyz"); !strings.Contains(got, `"ready":false`) {
		t.Errorf("/readyz: %s", got)
	}
	if got := fetch(t, "http://"+admin+"/healthz"); got != "ok\n" {
		t.Errorf("/healthz: %s", got)
	}
	r.found(t, `(no Kafka broker of --brokers can be reached)`)
	if status := r.stopped(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
}

func TestRunNeedsItsTopics(t *testing.T) {
	_, im := server(t)
	b := embedded(t, "mark-read", "mark-read-backfill")
	r, _ := beginWorker(t, b.Addr(), im)
	<-r.done
	if last := lastLine(t, r.stderr.String()); r.status != ExitFailed || !strings.Contains(last, "mark-read-dead-letters") || !strings.Contains(last, "--create-topics") {
		t.Errorf("%d: %s", r.status, last)
	}

	r, admin := beginWorker(t, b.Addr(), im, "--create-topics")
	until(t, "readiness", func() bool { return strings.Contains(fetch(t, "http://"+admin+"/readyz"), `"ready":true`) })
	if status := r.stopped(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
	if strings.Contains(r.stdout.String()+r.stderr.String(), testKey) {
		t.Error("the key is shown")
	}
}

// A refused authentication does not mend itself: 1 at once, with a line that says what.
func TestRunWithRefusedAuthentication(t *testing.T) {
	_, im := server(t)
	b := embedded(t) // which knows no users
	r := begin(t, []string{"MARKREAD_IM_KEY=" + testKey, "MARKREAD_SASL_PASSWORD=canary-password"}, "run", "--brokers", b.Addr(), "--im-url", im,
		"--im-app-id", "1400000000", "--admin-addr", "127.0.0.1:0", "--sasl", "plain", "--sasl-user", "mallory")
	<-r.done
	if last := lastLine(t, r.stderr.String()); r.status != ExitFailed || !strings.Contains(last, "--sasl-user") {
		t.Errorf("%d: %s", r.status, last)
	}
	if strings.Contains(r.stderr.String(), "canary-password") {
		t.Error("the password is shown")
	}
}

// A password that nothing uses is probably meant to be used.
func TestPasswordWithoutMechanism(t *testing.T) {
	b := embedded(t, "mark-read")
	r := try(t, []string{"MARKREAD_SASL_PASSWORD=canary-password"}, "", "emit", "--brokers", b.Addr(), "--report", "a", "--peer", "b")
	if r.status != ExitOK || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "MARKREAD_SASL_PASSWORD") || !strings.Contains(r.stderr, "--sasl") ||
		strings.Contains(r.stderr, "canary") {
		t.Errorf("%+v", r)
	}
}

// The admin token guards the console of run.
func TestRunWithAdminToken(t *testing.T) {
	_, im := server(t)
	r := begin(t, []string{"MARKREAD_IM_KEY=" + testKey, "MARKREAD_ADMIN_TOKEN_FILE=" + file(t, "canary-token\n")}, "run", "--brokers", "127.0.0.1:1",
		"--im-url", im, "--im-app-id", "1400000000", "--admin-addr", "127.0.0.1:0", "--log-format", "console")
	admin := r.found(t, `addr=(127\.0\.0\.1:\d+)`)
	if got := fetch(t, "http://"+admin+"/api/state"); !strings.Contains(got, "401") {
		t.Errorf("without the token: %s", got)
	}
	if status := r.stopped(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
}
