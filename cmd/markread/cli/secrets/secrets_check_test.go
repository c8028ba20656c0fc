package secrets

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
)

// A check, with servers that echo what they receive, with brokers that refuse it, and with gateways
// in place of the admin server.
func TestSecretsOfCheck(t *testing.T) {
	skipIfRace(t)
	t.Parallel()
	s := newHarness(t)
	user := []string{"--sasl", "plain", "--sasl-user", saslUser}
	check := func(name string, env []string, args ...string) clitest.Result {
		return s.run("check, "+name, env, "",
			slices.Concat([]string{"check", "--im-app-id", strconv.Itoa(app.LocalAppID),
				"--im-timeout", "3001ms",
				"--admin-addr", "127.0.0.1:0", "--log-level", "debug"}, args)...)
	}
	few := make(chan struct{}, 8) // limits concurrency: some cases take three seconds
	var checks sync.WaitGroup
	each := func(do func()) {
		checks.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			do()
		})
	}
	// The server identifies a call by the administrator's account.
	for i, account := range accounts() {
		each(func() {
			r := check(account, s.secrets(),
				append(slices.Clip(user), "--brokers", s.broker, "--im-url", s.url,
					"--im-admin", account, "--json="+strconv.FormatBool(i%2 == 0))...)
			if s.calls(account) == 0 || !strings.Contains(r.Stdout, "IM ") {
				t.Errorf("%s: %d calls: %+v", account, s.calls(account), r)
			}
		})
	}
	for name := range holdingFaults() {
		if name == "key-gone" {
			continue // runs below: it spoils the key file
		}
		each(func() {
			check("at "+name, s.secrets(),
				append(slices.Clip(user), "--brokers", s.broker, "--im-url", s.url+"/"+name)...)
		})
	}
	with := func(changed ...string) []string { return append(changed, s.secrets()...) }
	for name, c := range map[string]struct {
		env    []string
		args   []string
		status int
	}{
		"right": {s.secrets(), append(slices.Clip(user), "--brokers", s.broker), cli.ExitOK},
		"wrong key": {with("MARKREAD_IM_KEY=" + wrongKey),
			append(slices.Clip(user), "--brokers", s.broker),
			cli.ExitFailed},
		"wrong password": {with("MARKREAD_SASL_PASSWORD=" + wrongPassword),
			append(slices.Clip(user), "--brokers", s.broker), cli.ExitFailed},
		"wrong mechanism": {s.secrets(),
			[]string{"--sasl", "scram-sha-512", "--sasl-user", saslUser, "--brokers", s.broker},
			cli.ExitFailed},
		"no mechanism": {s.secrets(), []string{"--brokers", s.broker}, cli.ExitFailed},
		"an echo": {s.secrets(), append(slices.Clip(user), "--brokers", serveEcho(t)),
			cli.ExitFailed},
		"TLS to the IM": {s.secrets(),
			append(slices.Clip(user), "--brokers", strings.TrimPrefix(s.url, "http://"), "--tls"),
			cli.ExitFailed},
		"misspelt": {with("MARKREAD_IM_KEYS=" + canaryKey),
			append(slices.Clip(user), "--brokers", s.broker),
			cli.ExitOK},
	} {
		each(func() {
			if r := check(name, c.env, append(c.args, "--im-url", s.url)...); r.Status != c.status {
				t.Errorf("%s: %+v", name, r)
			}
		})
	}
	checks.Wait()
	check("key gone", []string{s.secrets()[1], "MARKREAD_IM_KEY_FILE=" + s.keyFile},
		append(slices.Clip(user), "--brokers", s.broker, "--im-url", s.url+"/key-gone")...)
	s.search()
}
