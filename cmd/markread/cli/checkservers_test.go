package cli

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker/preflight"
)

// A worker already runs here, or another program uses the port; files with secrets are readable for
// everybody.
func TestCheckOfThisMachine(t *testing.T) {
	clitest.NoLeaks(t)
	g := newCheckSetup(t, nil)
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	worker, admin := beginWorkerIn(t, g)
	open := clitest.File(t, clitest.TestKey)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	group := clitest.File(t, clitest.TestKey)
	if err := os.Chmod(group, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env, args []string
		want      preflight.Finding
	}{
		"a worker": {g.env, []string{"--admin-addr", admin},
			preflight.Warning("admin server", "", "a worker already runs here", "--admin-addr")},
		"another": {g.env, []string{"--admin-addr", strings.TrimPrefix(taken.URL, "http://")},
			preflight.Wrong("admin server", "", "in use by another program", "--admin-addr")},
		"hangs": {g.env, []string{"--admin-addr", listenSilently(t)},
			preflight.Wrong("admin server", "", "does not respond (a worker that hangs?)",
				"--admin-addr")},
		"no address": {g.env, []string{"--admin-addr", "192.0.2.1:8780"},
			preflight.Wrong("admin server", "", "can't listen on 192.0.2.1:8780", "--admin-addr")},
		"open key": {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + open}, nil,
			preflight.Warning("secret file", "MARKREAD_IM_KEY_FILE", "mode 0644",
				"chmod o= "+open)},
		"a group's key": {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + group}, nil,
			preflight.Good("secret file", "MARKREAD_IM_KEY_FILE", "not open")},
		"closed key": {[]string{g.env[1],
			"MARKREAD_IM_KEY_FILE=" + clitest.File(t, clitest.TestKey)}, nil,
			preflight.Good("secret file", "MARKREAD_IM_KEY_FILE", "not open")},
		"another rate": {g.env, []string{"--rate", "100"},
			preflight.Warning("group", "markread",
				"use 200 calls a second, this configuration 100", "--rate")},
		"other topics": {g.env, []string{"--backfill-topic="},
			preflight.Warning("group", "markread", "mark-read-backfill",
				"--topic and --backfill-topic")},
		"it does agree": {g.env, nil, preflight.Good("group", "markread", "1 worker runs, 200 "+
			"calls a second for all")},
	} {
		t.Run(name, func(t *testing.T) {
			r := runCheck(t, c.env, append(slices.Clip(g.args), c.args...)...)
			if !slices.ContainsFunc(r.Checks, func(f preflight.Finding) bool {
				return f.Result == c.want.Result && f.Check == c.want.Check &&
					f.Subject == c.want.Subject &&
					strings.Contains(f.Found, c.want.Found) && strings.Contains(f.Do, c.want.Do)
			}) {
				t.Errorf("%+v, want %+v", r.Checks, c.want)
			}
			if bad := len(findingsOf(r, preflight.IsWrong)) + len(findingsOf(r,
				preflight.IsWarning)); bad > 1 || bad == 1 &&
				c.want.Result == preflight.IsOK {
				t.Errorf("%+v", r.Checks)
			}
		})
	}
	if status := worker.Stop(); status != ExitOK {
		t.Errorf("the worker: exit status %d", status)
	}
}

// beginWorkerIn begins a worker with the setup's configuration, and waits until it has its
// partitions.
func beginWorkerIn(t *testing.T, g *checkSetup) (*clitest.Running, string) {
	t.Helper()
	r := begin(t, g.env, append([]string{"run"}, g.args[1:]...)...)
	admin := r.WaitFor(t, `"addr":"(127\.0\.0\.1:\d+)"`)
	clitest.WaitUntil(t, "the worker has partitions",
		func() bool {
			return strings.Contains(clitest.Fetch(t, "http://"+admin+"/readyz"), `"ready":true`)
		})
	clitest.WaitUntil(t, "the group is stable", func() bool {
		info := g.cluster.GroupInfo("markread")
		return info != nil && info.State == "Stable"
	})
	return r, admin
}

// listenSilently returns an address that accepts connections and never responds.
func listenSilently(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// Brokers that are missing, refuse the connection, or are not Kafka: one line each, or one for all
// that fail in the same way; checks that need them are not made.
func TestCheckOfBrokers(t *testing.T) {
	clitest.NoLeaks(t)
	g := newCheckSetup(t, nil)
	all := strings.Join(g.cluster.ListenAddrs(), " ")
	web := strings.TrimPrefix(g.im, "http://")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	tlsAddr := strings.TrimPrefix(secure.URL, "https://")
	tlsPort := tlsAddr[strings.LastIndexByte(tlsAddr, ':'):]
	trusted := clitest.File(t, pemOf(secure.Certificate()))
	rest := g.args[3:]
	with := func(brokers string, extra ...string) []string {
		return slices.Concat([]string{"check", "--brokers", brokers}, rest, extra)
	}
	for name, c := range map[string]struct {
		args []string
		env  []string
		want preflight.Finding
	}{
		"no broker": {with(closed.Addr().String()), nil,
			preflight.Wrong("broker", closed.Addr().String(), "nothing listens there",
				"--brokers")},
		"no name": {with("kafka.invalid:9092"), nil,
			preflight.Wrong("broker", "kafka.invalid:9092", "can't be resolved", "--brokers")},
		"wrong password": {g.args, []string{"MARKREAD_SASL_PASSWORD=canary-wrong"},
			preflight.Wrong("broker", all, "SASL Authentication Failed",
				"--sasl-user and MARKREAD_SASL_PASSWORD")},
		"wrong user": {append(slices.Clip(g.args), "--sasl-user", "nobody"), nil,
			preflight.Wrong("broker", all, "SASL Authentication Failed", "--sasl-user")},
		"wrong mechanism": {append(slices.Clip(g.args), "--sasl", "scram-sha-512"), nil,
			preflight.Wrong("broker", all, "SASL", "--sasl")},
		"a web server": {with(web), nil,
			preflight.Wrong("broker", web, "it is an HTTP server", "check the port in --brokers")},
		"TLS wanted": {with(tlsAddr), nil, preflight.Wrong("broker", tlsAddr, "", "add --tls")},
		"TLS not wanted": {append(slices.Clip(g.args), "--tls"), nil,
			preflight.Wrong("broker", all, "does not respond", "omit --tls")},
		"unknown authority": {with(tlsAddr, "--tls"), nil,
			preflight.Wrong("broker", tlsAddr, "certificate", "--tls-ca")},
		"wrong name": {with("localhost"+tlsPort, "--tls", "--tls-ca", trusted), nil,
			preflight.Wrong("broker", "localhost"+tlsPort, "not localhost",
				"name the broker in --brokers")},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && (name == "a web server" || name == "TLS not wanted") {
				// A request that is not Kafka's begins with a length of a gigabyte. The embedded
				// broker allocates that without touching it, but the race detector, whose run is
				// short, marks all of it.
				t.Skip("skipped: it takes gigabytes with the race detector")
			}
			t.Parallel() // some cases take seconds
			r := runCheck(t, append(c.env, g.env...), c.args...)
			// the addresses of brokers on other machines
			r.Checks = slices.DeleteFunc(r.Checks,
				func(f preflight.Finding) bool { return f.Check == "password" })
			some, unasked := findingsOf(r, preflight.IsWrong), findingsOf(r, preflight.IsNotChecked)
			if len(some) != len(strings.Fields(c.want.Subject)) || len(unasked) != 6 ||
				len(findingsOf(r, preflight.IsWarning)) != 0 {
				t.Fatalf("%+v", r.Checks)
			}
			for i, addr := range strings.Fields(c.want.Subject) {
				if f := some[i]; f.Check != c.want.Check || f.Subject != addr ||
					!strings.Contains(f.Found, c.want.Found) || !strings.Contains(f.Do, c.want.Do) {
					t.Errorf("%+v, want %+v", f, c.want)
				}
			}
		})
	}

	// One broker that is down costs nothing if the others work.
	r := g.check("--brokers", closed.Addr().String()+","+g.cluster.ListenAddrs()[0])
	if some := findingsOf(r, preflight.IsWarning); !r.OK || len(some) != 1 ||
		some[0].Subject != closed.Addr().String() ||
		!strings.Contains(some[0].Do, "--brokers") || r.NotChecked != 0 {
		t.Errorf("%+v", r.Checks)
	}
}

// imBehind returns the URL of an IM server behind a faulty handler.
func imBehind(t *testing.T, handler func(im http.Handler) http.Handler) string {
	t.Helper()
	im := sandbox.New(sandbox.Options{AppID: app.LocalAppID, Admin: app.LocalAdmin,
		Key: imclient.NewSecret(clitest.TestKey), OpenAccounts: true})
	s := httptest.NewServer(handler(im))
	t.Cleanup(s.Close)
	return s.URL
}

// A problem with the IM server, or with the network to it, is reported with its remedy; the other
// findings are unchanged.
func TestCheckOfTheIMServer(t *testing.T) {
	clitest.NoLeaks(t)
	g := newCheckSetup(t, nil)
	answers := func(code int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				clitest.WriteErrorCode(w, code, "no")
			})
		}
	}
	status := func(status int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
			})
		}
	}
	dated := func(ahead time.Duration) func(http.Handler) http.Handler {
		return func(im http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				im.ServeHTTP(w, r)
			})
		}
	}
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	trusted := clitest.File(t, pemOf(untrusted.Certificate()))
	nameless := strings.Replace(untrusted.URL, "127.0.0.1", "localhost", 1)
	for name, c := range map[string]struct {
		args    []string
		env     []string
		want    preflight.Finding
		unasked int // the other checks that are not made
	}{
		"wrong key": {nil, []string{"MARKREAD_IM_KEY=canary-other"},
			preflight.Wrong("IM account", "", "ErrorCode 70009", "MARKREAD_IM_KEY"), 0},
		"another app": {[]string{"--im-app-id", "1400000001"}, nil,
			preflight.Wrong("IM account", "", "ErrorCode", "--im-app-id"), 0},
		"no administrator": {[]string{"--im-admin", "alice"}, nil,
			preflight.Wrong("IM account", "", "not an App administrator", "--im-admin"), 0},
		"another region": {[]string{"--im-url", imBehind(t, answers(60026))}, nil,
			preflight.Wrong("IM account",
				"", "ErrorCode 60026", "check --im-url: it must be the host of the data centre "+
					"that the app of --im-app-id lives in: china, singapore"), 0},
		"unpaid": {[]string{"--im-url", imBehind(t, answers(60020))}, nil,
			preflight.Wrong("IM account", "", "ErrorCode 60020", "plan is paid"), 0},
		"ambiguous": {[]string{"--im-url", imBehind(t, answers(60004))}, nil,
			preflight.Wrong("IM account", "", "ErrorCode 60004", "MARKREAD_IM_KEY"), 0},
		"changed in transit": {[]string{"--im-url", imBehind(t, answers(60003))}, nil,
			preflight.Wrong("IM account", "", "ErrorCode 60003",
				"changed in transit: check proxies"), 0},
		"revoked": {[]string{"--im-url", imBehind(t, answers(70052))}, nil,
			preflight.Wrong("IM account", "", "ErrorCode 70052", "find out who kicks"), 0},
		"unknown": {[]string{"--im-url", imBehind(t, answers(123456))}, nil,
			preflight.Warning("IM account", "", "ErrorCode 123456",
				"check again in a minute; if it stays, look it up"),
			0},
		"busy before it": {[]string{"--im-url", imBehind(t, status(http.StatusTooManyRequests))},
			nil,
			preflight.Warning("IM account", "", "HTTP status 429",
				"check again in a minute; if it stays, find what else calls"), 1},
		"down behind it": {[]string{"--im-url", imBehind(t, status(http.StatusBadGateway))}, nil,
			preflight.Wrong("IM server", "", "HTTP status 502",
				"check again in a minute; if it stays, check the proxies"), 2},
		"busy": {[]string{"--im-url", imBehind(t, answers(60007))}, nil,
			preflight.Warning("IM account", "", "ErrorCode 60007", "again"), 0},
		"no such account": {[]string{"--im-url", imBehind(t, answers(90003))}, nil,
			preflight.Warning("IM account", "", "ErrorCode 90003", "--im-admin"), 0},
		"clock an hour behind": {[]string{"--im-url", imBehind(t, dated(time.Hour))}, nil,
			preflight.Wrong("clock", "", "behind the IM server's", "NTP"), 0},
		"clock an hour ahead": {[]string{"--im-url", imBehind(t, dated(-time.Hour))}, nil,
			preflight.Wrong("clock", "", "ahead of the IM server's", "NTP"), 0},
		"clock a minute ahead": {[]string{"--im-url", imBehind(t, dated(-time.Minute))}, nil,
			preflight.Warning("clock", "", "ahead of the IM server's", "NTP"), 0},
		"clock a second ahead": {[]string{"--im-url", imBehind(t, dated(-time.Second))}, nil,
			preflight.Finding{}, 0},
		"nobody listens": {[]string{"--im-url", "http://127.0.0.1:1"}, nil,
			preflight.Wrong("IM server", "", "refused", "--im-url"), 2},
		"no name": {[]string{"--im-url", "https://im.invalid"}, nil,
			preflight.Wrong("IM server", "", "the name im.invalid can't be resolved here",
				"--im-url"), 2},
		"unknown authority": {[]string{"--im-url", untrusted.URL}, nil,
			preflight.Wrong("IM server", "", "unknown authority", "root certificates"), 2},
		"no TLS": {[]string{"--im-url", strings.Replace(g.im, "http:", "https:", 1)}, nil,
			preflight.Wrong("IM server", "", "does not speak TLS", "--im-url"), 2},
		"TLS, not expected": {[]string{"--im-url",
			strings.Replace(untrusted.URL, "https:", "http:", 1)}, nil,
			preflight.Wrong("IM server", "", "HTTP status 400", "--im-url"), 2},
		"a page": {[]string{"--im-url",
			imBehind(t, func(http.Handler) http.Handler { return http.NotFoundHandler() })},
			nil,
			preflight.Wrong("IM server", "", "HTTP status 404", "--im-url"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := runCheck(t, append(c.env, g.env...), append(slices.Clip(g.args), c.args...)...)
			some := append(findingsOf(r, preflight.IsWrong), findingsOf(r, preflight.IsWarning)...)
			if c.want.Check == "" {
				if len(some) > 0 || r.NotChecked > 0 {
					t.Errorf("%+v", r.Checks)
				}
				return
			}
			if len(some) != 1 || r.NotChecked != c.unasked ||
				strings.Contains(some[0].Do, "nothing for the first 5 minutes") {
				t.Fatalf("%+v", r.Checks)
			}
			if f := some[0]; f.Result != c.want.Result || f.Check != c.want.Check ||
				!strings.Contains(f.Found, c.want.Found) || !strings.Contains(f.Do, c.want.Do) {
				t.Errorf("%+v, want %+v", f, c.want)
			}
		})
	}

	// A signature that is refused once is renewed, as in a worker.
	calls := 0
	url := imBehind(t, func(im http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls++; calls == 1 {
				clitest.WriteErrorCode(w, 70001, "expired")
				return
			}
			im.ServeHTTP(w, r)
		})
	})
	if r := g.check("--im-url", url); !r.OK || calls != 2 {
		t.Errorf("%d calls: %+v", calls, r.Checks)
	}

	// A certificate's name is checked only if the certificate is trusted: a child process trusts
	// it.
	t.Run("wrong name", func(t *testing.T) {
		r := runCheckInChild(t, append(g.env, "SSL_CERT_FILE="+trusted),
			append(slices.Clip(g.args), "--im-url", nameless)...)
		if some := findingsOf(r, preflight.IsWrong); len(some) != 1 ||
			some[0].Check != "IM server" ||
			!strings.Contains(some[0].Found, "localhost") ||
			!strings.Contains(some[0].Do, "names the host as its certificate does") {
			t.Errorf("%+v", r.Checks)
		}
	})
}

// checkNames lists the names of all checks; README.md documents them.
var checkNames = []string{
	"broker", "topic", "permission", "replicas", "settings", "cleanup.policy", "retention",
	"record size", "timestamps",
	"partition counts", "group", "lag",
	"IM server", "IM account", "clock", "certificate", "admin server", "secret", "secret file",
	"client certificate",
	"password", "open files",
}

// sampleCheck is a report before a first deployment.
func sampleCheck() *preflight.Report {
	found := preflight.Findings{}
	for _, addr := range []string{"kafka-1:9093", "kafka-2:9093", "kafka-3:9093"} {
		found.Add(preflight.Good("broker", addr,
			"it responds, Kafka 4.4, user markread by scram-sha-512 over TLS"))
	}
	for _, name := range []string{"mark-read", "mark-read-backfill", "mark-read-dead-letters"} {
		found.Add(preflight.Good("topic", name, "12 partitions, 3 copies, kept for 7d00h"))
	}
	found.Add(
		preflight.Warning("retention", "mark-read-dead-letters",
			"dead letters are deleted after 7d00h, resolved or not",
			"set retention.ms=-1 and retention.bytes=-1 on the topic"),
		preflight.Good("permission", "mark-read", "the user may read"),
		preflight.Good("permission", "mark-read-backfill", "the user may read"),
		preflight.Wrong("permission", "mark-read-dead-letters", "the user may not write",
			"give the user Write on the topic (--dead-letter-topic)"),
		preflight.Good("permission", "group markread", "the user may read"),
		preflight.Good("group", "markread", "no worker runs"),
	)
	for _, name := range []string{"mark-read", "mark-read-backfill"} {
		found.Add(preflight.Good("lag", name,
			"0 events to do; the group has no offsets: run begins with the oldest record"))
	}
	found.Add(preflight.CallFindings(preflight.Call{URL: "https://adminapisgp.im.qcloud.com",
		Sent:     statusAt,
		Received: statusAt.Add(38 * time.Millisecond),
		Err:      &imclient.Error{Class: imclient.Held, Label: "60026", ErrorCode: 60026},
		Answer:   imclient.Response{Date: statusAt}})...)
	found.Add(preflight.Good("admin server", "", "127.0.0.1:8780 is free"))
	found.Add(preflight.Good("secret file", "MARKREAD_IM_KEY_FILE", "not open to everybody"),
		preflight.Good("secret file", "MARKREAD_SASL_PASSWORD_FILE", "not open to everybody"))
	return preflight.ReportOf(statusAt, found)
}

// The operations manual shows what is printed, and lists every check.
func TestDocsCheck(t *testing.T) {
	r := sampleCheck()
	var shown strings.Builder
	if err := printCheck(&shown, r); err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, operationsFile, "check", "```\n"+shown.String()+"```\n")
	text := document(t, operationsFile)
	for _, name := range checkNames {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s does not list the check %s", operationsFile, name)
		}
	}
	content, err := json.MarshalIndent(preflight.ReportOf(statusAt, r.Checks[:1]), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, operationsFile, "check document", "```json\n"+string(content)+"\n```\n")
}
