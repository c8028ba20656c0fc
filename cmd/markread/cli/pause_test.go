package cli

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
	"markread/imclient"
	"markread/worker/console"
	"markread/worker/console/overview"
)

const testToken = "canary-token-71c0ffee"

// fakeWorker is a worker as the admin server uses it: it can be held, and records the commands it
// receives.
type fakeWorker struct {
	mu       sync.Mutex
	holds    []console.Hold
	unready  bool
	accepted bool
	why      string
	stubborn bool // changes nothing, as if somebody else immediately did the opposite
}

var heldSince = time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)

func (h *fakeWorker) State() console.State { return console.State{} }
func (h *fakeWorker) Healthy() error       { return nil }
func (h *fakeWorker) Ready() bool          { return !h.unready }

func (h *fakeWorker) Held() []console.Hold {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.holds)
}

func (h *fakeWorker) isHeldFor(reason string) bool {
	return slices.ContainsFunc(h.Held(), func(a console.Hold) bool { return a.Reason == reason })
}

func (h *fakeWorker) Details() overview.Details { return overview.Details{} }

func (h *fakeWorker) Pause(_, why string) {
	h.why = why
	if h.isHeldFor("paused") || h.stubborn {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds = append(h.holds, console.Hold{Reason: "paused", Since: heldSince})
}

func (h *fakeWorker) Resume(_ string, acceptRejections bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accepted = acceptRejections
	h.holds = slices.DeleteFunc(h.holds, func(a console.Hold) bool {
		return a.Reason == "paused" && !h.stubborn || a.Reason == "rejections" && acceptRejections
	})
}

// serveAdmin serves a worker's admin server and returns its URL.
func serveAdmin(t *testing.T, h *fakeWorker, token string) string {
	t.Helper()
	s, err := console.New(console.Options{Addr: "127.0.0.1:0", Token: token, Source: h, Controls: h,
		Gatherer: prometheus.NewRegistry(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return "http://" + s.Addr()
}

func TestPauseAndResume(t *testing.T) {
	outage := console.Hold{Reason: "outage", Since: heldSince.Add(-time.Hour)}
	rejections := console.Hold{Reason: "rejections", Since: heldSince.Add(time.Minute)}
	paused := console.Hold{Reason: "paused", Since: heldSince}
	for name, c := range map[string]struct {
		worker   *fakeWorker
		args     []string
		want     string
		accepted bool
	}{
		"pause": {&fakeWorker{}, []string{"pause"},
			"paused since 2026-03-01 04:00:00 UTC, until markread resume\n",
			false},
		"pause again": {&fakeWorker{holds: []console.Hold{paused}}, []string{"pause"},
			"it was already paused since 2026-03-01 04:00:00 UTC, until markread resume\n", false},
		"pause, no group": {&fakeWorker{unready: true}, []string{"pause"},
			"paused since 2026-03-01 04:00:00 UTC, until markread resume\n", false},
		"pause, others hold": {&fakeWorker{holds: []console.Hold{outage, rejections}},
			[]string{"pause"},
			"paused since 2026-03-01 04:00:00 UTC, until markread resume; also held: outage " +
				"since 2026-03-01 03:00:00 UTC, rejections since 2026-03-01 04:01:00 UTC\n",
			false},
		"resume": {&fakeWorker{holds: []console.Hold{paused}}, []string{"resume"},
			"no longer paused (it was since 2026-03-01 04:00:00 UTC); calls continue\n", false},
		"resume, no group": {&fakeWorker{holds: []console.Hold{paused}, unready: true},
			[]string{"resume"},
			"no longer paused (it was since 2026-03-01 04:00:00 UTC); no calls yet: the worker " +
				"is not a member of its group at the moment\n", false},
		"resume, others hold": {&fakeWorker{holds: []console.Hold{paused, outage}},
			[]string{"resume"},
			"no longer paused (it was since 2026-03-01 04:00:00 UTC); still held: outage since " +
				"2026-03-01 03:00:00 UTC\n", false},
		"resume, rejections hold": {&fakeWorker{holds: []console.Hold{rejections}},
			[]string{"resume"},
			"it was not paused; still held: rejections since 2026-03-01 04:01:00 UTC\nif the " +
				"rejections are correct: markread resume --accept-rejections\n", false},
		"resume, rejections accepted": {&fakeWorker{holds: []console.Hold{rejections, paused}},
			[]string{"resume", "--accept-rejections"},
			"no longer paused (it was since 2026-03-01 04:00:00 UTC); calls continue\n" +
				"accepted: up to 10,000 rejected or invalid events of the lane that was held " +
				"become dead letters\n", true},
		"resume, nothing to accept": {&fakeWorker{}, []string{"resume", "--accept-rejections"},
			"it was not paused; calls continue\nno lane was held for rejections, so nothing was " +
				"accepted\n", true},
	} {
		for _, token := range []string{"", testToken} {
			worker := &fakeWorker{holds: slices.Clone(c.worker.holds), unready: c.worker.unready}
			r := try(t, []string{"MARKREAD_ADMIN_TOKEN=" + token}, "",
				append(c.args, "--admin-url", serveAdmin(t, worker, token))...)
			if r.Status != ExitOK || r.Stderr != "" || r.Stdout != c.want ||
				worker.accepted != c.accepted ||
				worker.isHeldFor("paused") != (c.args[0] == "pause") {
				t.Errorf("%s, token %q: %+v\nheld: %v, accepted: %v", name, token, r, worker.Held(),
					worker.accepted)
			}
		}
	}
}

// The reason is sent as it is; one that can't be kept is wrong usage.
func TestPauseReason(t *testing.T) {
	worker := &fakeWorker{}
	at := serveAdmin(t, worker, "")
	const why = "deploying the fix & 修复?"
	if r := try(t, nil, "", "pause", "--admin-url", at, "--reason", why); r.Status != ExitOK ||
		worker.why != why {
		t.Errorf("%+v, reason %q", r, worker.why)
	}
	for _, why := range []string{strings.Repeat("a", 201), "a\nb", "\x1b[31m"} {
		r := try(t, nil, "", "pause", "--admin-url", at, "--reason", why)
		if r.Status != ExitUsage || !strings.Contains(r.Stderr, "--reason") {
			t.Errorf("%q: %+v", why, r)
		}
	}
}

// If somebody does the opposite at the same moment, the command fails.
func TestPauseOrResumeWithoutEffect(t *testing.T) {
	worker := &fakeWorker{stubborn: true}
	at := serveAdmin(t, worker, "")
	if r := try(t, nil, "", "pause", "--admin-url", at); r.Status != ExitFailed || r.Stdout != "" ||
		!strings.Contains(r.Stderr, "not paused") {
		t.Errorf("%+v", r)
	}
	worker.holds = []console.Hold{{Reason: "paused", Since: heldSince}}
	if r := try(t, nil, "", "resume", "--admin-url", at); r.Status != ExitFailed ||
		r.Stdout != "" ||
		!strings.Contains(r.Stderr, "not resumed") {
		t.Errorf("%+v", r)
	}
}

// The token is in a file; the URL may end with a slash.
func TestPauseWithTokenFile(t *testing.T) {
	worker := &fakeWorker{}
	r := try(t, []string{"MARKREAD_ADMIN_TOKEN_FILE=" + clitest.File(t, testToken+"\n")}, "",
		"pause", "--admin-url", serveAdmin(t, worker, testToken)+"/")
	if r.Status != ExitOK || !worker.isHeldFor("paused") {
		t.Errorf("%+v", r)
	}
}

// If a command can't be sent, one line says why, and it does not contain the token.
func TestAdminRequestsThatFail(t *testing.T) {
	answers := func(status int, header, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if k, v, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(k, v)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w,
				strings.ReplaceAll(body, "TOKEN", r.Header.Get("Authorization")))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		followed.Add(1)
	}))
	defer elsewhere.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		for c, err := silent.Accept(); err == nil; c, err = silent.Accept() {
			c.Close()
		}
	}()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	token := "MARKREAD_ADMIN_TOKEN=" + testToken
	for name, c := range map[string]struct {
		env, url string
		want     string
	}{
		"nobody listens": {token, "http://127.0.0.1:1",
			"no worker listens at http://127.0.0.1:1; is --admin-url correct?"},
		"closes":            {token, "http://" + silent.Addr().String(), "the request to http"},
		"authority unknown": {token, tls.URL, "certificate"},
		"TLS to a plain port": {token, strings.Replace(answers(200, "", ""), "http:", "https:", 1),
			"HTTP response to HTTPS client"},
		"no token": {"", serveAdmin(t, &fakeWorker{}, testToken),
			"requires its token: set MARKREAD_ADMIN_TOKEN or MARKREAD_ADMIN_TOKEN_FILE"},
		"wrong token": {token, serveAdmin(t, &fakeWorker{}, "another"),
			"refuses the token in MARKREAD_ADMIN_TOKEN"},
		"from another machine": {"", answers(403, "", "403: without MARKREAD_ADMIN_TOKEN only "+
			"this machine"),
			"kubectl port-forward"},
		"a gateway's 403": {"", answers(403, "", "<html>"), "HTTP 403"},
		"a gateway's 401": {"", answers(401, "", "401 Unauthorized TOKEN"), "HTTP 401"},
		"not understood": {token, answers(400, "", "400: unknown option \"x\" \x1b[31m"),
			`unknown option "x" ?[31m`},
		"an older one": {token, answers(404, "", "404 page not found"),
			"it is another program, a group's console, or an older markread"},
		"nothing of ours": {token, answers(405, "", ""),
			"it is another program, a group's console, or an older markread"},
		"a page":     {token, answers(200, "", "<html>TOKEN</html>"), "is not a markread worker"},
		"other JSON": {token, answers(200, "", `{"status":"ok"}`), "is not a markread worker"},
		"JSON without holds": {token, answers(200, "", `{"ready":true,"held":null}`),
			"is not a markread worker"},
		"a gateway": {token, answers(502, "", "TOKEN"), "HTTP 502"},
		"a redirect": {token, answers(307, "Location: "+elsewhere.URL, ""),
			"redirects elsewhere"},
	} {
		r := try(t, []string{c.env}, "", "pause", "--admin-url", c.url)
		if r.Status != ExitFailed || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 ||
			!strings.Contains(strings.ReplaceAll(r.Stderr, `\"`, `"`), c.want) {
			t.Errorf("%s: %+v, want %s", name, r, c.want)
		}
		if strings.Contains(r.Stderr, testToken) || strings.Contains(r.Stderr, "\x1b") {
			t.Errorf("%s: the token or an escape is shown: %s", name, r.Stderr)
		}
	}
	if followed.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// If the worker's own variables are set, its admin server is found.
func TestDefaultAdminURL(t *testing.T) {
	for addr, want := range map[string]string{
		"": "http://127.0.0.1:8780", ":9000": "http://127.0.0.1:9000",
		"0.0.0.0:9000":  "http://127.0.0.1:9000",
		"[::]:9000":     "http://127.0.0.1:9000",
		"10.0.0.7:9000": "http://10.0.0.7:9000", "[::1]:9000": "http://[::1]:9000",
		"127.0.0.1:0": "http://127.0.0.1:8780", "nonsense": "http://127.0.0.1:8780",
	} {
		if got, err := (&adminURLFlag{}).
			orDefault(config.NewEnvironment([]string{"MARKREAD_ADMIN_ADDR=" +
				addr})); got != want ||
			err != nil {
			t.Errorf("%q: %s, %v, want %s", addr, got, err, want)
		}
	}
	given := "https://worker.example"
	if got, err := (&adminURLFlag{AdminURL: &given}).
		orDefault(config.NewEnvironment([]string{"MARKREAD_ADMIN_ADDR=:9000"})); got != given ||
		err != nil {
		t.Errorf("%s, %v instead of the flag's", got, err)
	}
}

// The token is sent over TLS to any machine, and without TLS only to this machine.
func TestTokenIsSentOnlySafely(t *testing.T) {
	env := config.NewEnvironment([]string{"MARKREAD_ADMIN_TOKEN=" + testToken})
	for url, ok := range map[string]bool{
		"https://worker.example": true, "https://10.0.0.7:8780": true,
		"http://127.0.0.1:8780": true,
		"http://localhost":      true, "http://[::1]:8780": true,
		"http://10.0.0.7:8780": false, "http://worker.example": false,
		"HTTP://worker.example":    false,
		"http://localhost.example": false, "http://0.0.0.0:8780": false,
	} {
		_, err := (&adminURLFlag{AdminURL: &url}).client(env)
		var usage *config.UsageError
		if (err == nil) != ok ||
			(err != nil && (!errors.As(err, &usage) ||
				!strings.Contains(err.Error(), "without TLS") ||
				strings.Contains(err.Error(), testToken))) {
			t.Errorf("%s: %v", url, err)
		}
		if _, err := (&adminURLFlag{AdminURL: &url}).
			client(config.NewEnvironment(nil)); err != nil {
			t.Errorf("%s, without a token: %v", url, err)
		}
	}
}

func TestCommandOverTLS(t *testing.T) {
	worker := &fakeWorker{}
	s, err := console.New(console.Options{Addr: "127.0.0.1:0", Token: testToken, Source: worker,
		Controls: worker,
		Gatherer: prometheus.NewRegistry(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(s.Handler())
	defer server.Close()
	client, err := (&adminURLFlag{AdminURL: new(server.URL + "/")}).
		client(config.NewEnvironment([]string{"MARKREAD_ADMIN_TOKEN=" + testToken}))
	if err != nil {
		t.Fatal(err)
	}
	client.HTTP.Transport = server.Client().Transport
	if now, err := client.Pause(t.Context(), ""); err != nil ||
		!worker.isHeldFor("paused") ||
		len(now.Held) != 1 {
		t.Errorf("%+v %v", now, err)
	}
}

// The command does not wait forever for a worker that does not respond, and claims nothing that it
// does not know.
func TestCommandTimesOut(t *testing.T) {
	for name, c := range map[string]struct {
		interrupted time.Duration
		takes       time.Duration
		want        string
	}{
		"silence": {time.Hour, console.AdminTimeout,
			"no response from http://127.0.0.1:8780 within 10s; is --admin-url correct? The " +
				"command may have been applied"},
		"interrupted": {time.Second, time.Second, "interrupted; the command may have been applied"},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			go func() { _, _ = io.Copy(io.Discard, far) }()
			client := &console.Client{Base: "http://127.0.0.1:8780",
				Token: imclient.NewSecret(testToken),
				HTTP: &http.Client{Transport: &http.Transport{
					DialContext: func(context.Context, string, string) (net.Conn, error) {
						return near, nil
					},
				}}}
			ctx, cancel := context.WithTimeout(t.Context(), c.interrupted)
			defer cancel()
			begin := time.Now()
			_, err := client.Pause(ctx, "")
			if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), c.want) ||
				took != c.takes {
				t.Errorf("%s: after %s: %v", name, took, err)
			}
		})
	}
}
