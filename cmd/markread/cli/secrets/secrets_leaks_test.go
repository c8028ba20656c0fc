package secrets

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
)

// skipIfRace skips a test that takes half a minute with the race detector and starts no goroutine
// that other tests don't start.
func skipIfRace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: too long for a short run")
	}
}

// Every way in which a call or a worker can fail, with servers that echo what they receive: no
// output contains a secret.
func TestSecretsOfTheWorker(t *testing.T) {
	skipIfRace(t)
	t.Parallel()
	s := newHarness(t)
	// A failure among successes becomes a dead letter; without successes it would hold the worker.
	// For the same reason there is one partition: it keeps the order.
	bad := accounts()
	var events []*kgo.Record
	for i, account := range bad {
		for k := range 10 {
			events = append(events, &kgo.Record{Topic: "mark-read",
				Value: []byte(clitest.EventJSON("good-"+strconv.Itoa(i)+"-"+strconv.Itoa(k), i))})
		}
		events = append(events,
			&kgo.Record{Topic: "mark-read", Value: []byte(clitest.EventJSON(account, i))})
	}
	const invalid = 3
	for _, value := range []string{"", "nonsense", `{"Report_Account":"", "Peer_Account":7}`} {
		events = append(events, &kgo.Record{Topic: "mark-read", Value: []byte(value)})
	}
	producer := s.kafka(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := producer.ProduceSync(t.Context(), events...).FirstErr(); err != nil {
		t.Fatal(err)
	}

	mixed, admin := s.worker("mixed", s.url, s.secrets(), "--max-in-flight", "4")
	rotated := clitest.File(t, wrongKey)
	workers, admins := map[string]*clitest.Running{}, map[string]string{}
	for name, trouble := range holdingFaults() {
		env := append(trouble.env, s.secrets()...)
		switch name {
		case "key-gone":
			env = append(env, "MARKREAD_IM_KEY_FILE="+s.keyFile)
		case "rotated":
			env = append(env, "MARKREAD_IM_KEY_FILE="+rotated)
		}
		workers[name], admins[name] = s.worker(name, s.url+"/"+name, env, trouble.args...)
	}
	for name, trouble := range holdingFaults() {
		s.waitForHold(admins[name], trouble.reason)
		if name == "rotated" { // a corrected key is detected immediately
			if err := os.WriteFile(rotated, []byte(canaryKey), 0o600); err != nil {
				t.Fatal(err)
			}
			clitest.WaitUntil(t, "the end of the hold",
				func() bool {
					return strings.Contains(clitest.Fetch(t, admins[name]+"/readyz"), `"held":[]`)
				})
		}
		s.readPages(name, admins[name], "", "Bearer "+canaryToken)
		s.stop(name, workers[name])
		s.commits(name)
		if s.calls(name) == 0 {
			t.Errorf("%s: no call", name)
		}
	}
	// A failure without an ErrorCode counts only if other calls get one: there is always one such
	// call.
	feeding, fed := context.WithCancel(t.Context())
	var feeder sync.WaitGroup
	feeder.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; feeding.Err() == nil; i++ {
			_ = producer.ProduceSync(feeding,
				&kgo.Record{Topic: "mark-read",
					Value: []byte(clitest.EventJSON("good-more-"+strconv.Itoa(i), i))})
			<-ticker.C
		}
	})
	letters := s.letters("mixed", len(bad)+invalid)
	fed()
	feeder.Wait()
	for name, token := range map[string]string{"the token": canaryToken,
		"a wrong token": canaryToken + "-wrong",
		"no token":      ""} {
		for _, command := range []string{"pause", "resume"} {
			r := s.run(command+" with "+name, []string{"MARKREAD_ADMIN_TOKEN=" + token}, "",
				command, "--admin-url", admin)
			if (r.Status == cli.ExitOK) != (token == canaryToken) {
				t.Errorf("%s with %s: %+v", command, name, r)
			}
		}
	}
	for name, token := range map[string]string{"the token": canaryToken,
		"a wrong token": canaryToken + "-wrong",
		"no token":      ""} {
		for _, form := range []string{"--json=false", "--json"} {
			r := s.run("status with "+name, []string{"MARKREAD_ADMIN_TOKEN=" + token,
				"MARKREAD_SASL_PASSWORD=" + canaryPassword}, "", "status", form, "--brokers",
				s.broker,
				"--sasl", "plain", "--sasl-user", saslUser, "--group", "mixed", "--admin-url",
				admin, "--log-level", "debug")
			if (r.Status == cli.ExitOK) != (token == canaryToken) ||
				!strings.Contains(r.Stdout, "rejected") {
				t.Errorf("status with %s: %+v", name, r)
			}
		}
	}
	s.readPages("mixed", admin, authorizations...)
	s.console("mixed", admin)
	s.stop("mixed", mixed)
	if n := s.commits("mixed"); n != 4 {
		t.Errorf("offsets of %d partitions were committed", n)
	}
	s.search()

	// The search had something to find.
	for _, account := range bad {
		if s.calls(account) == 0 {
			t.Errorf("%s was never called", account)
		}
	}
	masked := 0
	for _, letter := range letters {
		for _, h := range letter.Headers {
			if h.Key == "__dlq.errors.message" && strings.Contains(string(h.Value), "[secret]") {
				masked++
			}
		}
	}
	if masked < len(bad)/2 || len(s.sigs) < 2 {
		t.Errorf("a secret was masked in %d letters of %d; %d signatures", masked, len(letters),
			len(s.sigs))
	}
	for where, text := range s.artefacts {
		if text == "" && !strings.Contains(where, "standard output") &&
			!strings.Contains(where, " with ") {
			t.Errorf("%s: empty", where)
		}
	}
}

// The commands, with the same servers, with brokers that refuse them, and with broken networks.
func TestSecretsOfCommands(t *testing.T) {
	skipIfRace(t)
	t.Parallel()
	s := newHarness(t)
	app := [...]string{"--im-app-id", strconv.Itoa(app.LocalAppID), "--im-timeout", "3001ms"}
	call := func(name, account, url string, env []string, extra ...string) clitest.Result {
		t.Helper()
		return s.run("call: "+name, env, "",
			append(append([]string{"call", "--im-url", url, "--report", account, "--peer", "peer"},
				app[:]...), extra...)...)
	}
	var calls sync.WaitGroup
	defer calls.Wait()
	few := make(chan struct{}, 8) // limits concurrency: each case takes three seconds
	for _, account := range accounts() {
		calls.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			if r := call(account, account, s.url, s.secrets()); r.Status != cli.ExitFailed ||
				s.calls(account) != 1 {
				t.Errorf("call: %s: status %d, %d calls", account, r.Status, s.calls(account))
			}
		})
	}

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	untrusted.Config.ErrorLog = nil
	secure := strings.Replace(s.url, "http:", "https:", 1)
	keyIn := func(path string) []string { return []string{"MARKREAD_IM_KEY_FILE=" + path} }
	spoilt := s.keyFile + "-spoilt"
	if err := os.WriteFile(spoilt, []byte(strings.Repeat(canaryKey, 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		env  []string
		want string
	}{
		"success":         {s.url, s.secrets(), "ErrorCode 0"},
		"key from a file": {s.url, keyIn(s.keyFile), "ErrorCode 0"},
		"wrong key":       {s.url, []string{"MARKREAD_IM_KEY=" + wrongKey}, "70009"},
		"refused":         {"http://" + closed.Addr().String(), s.secrets(), "connect"},
		"no name":         {"https://im.invalid", s.secrets(), "failure"},
		"TLS of nobody":   {untrusted.URL, s.secrets(), "tls"},
		"no TLS":          {secure, s.secrets(), "tls"},
		"TLS, not expected": {strings.Replace(untrusted.URL, "https:", "http:", 1), s.secrets(),
			"http_400"},
		"key file too long":  {s.url, keyIn(spoilt), "4096"},
		"key file is folder": {s.url, keyIn(t.TempDir()), "not a regular file"},
		"no key file":        {s.url, keyIn("/proc/none/" + canaryKey[:8]), "MARKREAD_IM_KEY_FILE"},
		"key twice":          {s.url, append(keyIn(s.keyFile), s.secrets()...), "both set"},
	} {
		calls.Go(func() {
			if r := call(name, "alice", c.url, c.env); !strings.Contains(r.Stdout+r.Stderr,
				c.want) {
				t.Errorf("%s: %+v", name, r)
			}
		})
	}

	kafka := func(password string) []string {
		return append([]string{"MARKREAD_SASL_PASSWORD=" + password}, s.secrets()...)
	}
	user := slices.Clip([]string{"--sasl", "plain", "--sasl-user", saslUser})
	event := clitest.EventJSON("alice", 1) + "\nnonsense " + canaryPassword[:4] + "\n"
	for name, c := range map[string]struct {
		env    []string
		args   []string
		status int
	}{
		"emit": {s.secrets(), append(user, "--brokers", s.broker),
			cli.ExitRejected},
		"emit, wrong password": {kafka(wrongPassword), append(user, "--brokers", s.broker),
			cli.ExitFailed},
		"emit, wrong mechanism": {s.secrets(),
			[]string{"--brokers", s.broker, "--sasl", "scram-sha-512", "--sasl-user", saslUser},
			cli.ExitFailed},
		"emit, impossible": {kafka(canaryPassword + "\n\n"),
			[]string{"--brokers", s.broker, "--sasl", "scram-sha-256", "--sasl-user", saslUser},
			cli.ExitUsage},
	} {
		calls.Go(func() {
			if r := s.run(name, c.env, event,
				append([]string{"emit", "--log-level", "debug"},
					c.args...)...); r.Status != c.status {
				t.Errorf("%s: %+v", name, r)
			}
		})
		calls.Go(func() {
			status := c.status
			if status == cli.ExitRejected { // emit's own exit status
				status = cli.ExitOK
			}
			for _, command := range []string{"status", "dead-letters ls",
				"dead-letters replay --yes",
				"dead-letters show 0:0"} {
				status := status
				if status == cli.ExitOK && strings.Contains(command, "show") {
					status = cli.ExitFailed // there is no such dead letter
				}
				name := strings.Replace(name, "emit", command, 1)
				if r := s.run(name, c.env, "",
					slices.Concat(strings.Fields(command), []string{"--log-level", "debug"},
						c.args)...); r.Status != status {
					t.Errorf("%s: %+v", name, r)
				}
			}
		})
	}
	tries := map[string]*clitest.Running{}
	for name, c := range map[string]struct {
		env  []string
		args []string
	}{
		"emit, broker is an echo": {s.secrets(), append(user, "--brokers", serveEcho(t))},
		"emit, broker is not TLS": {s.secrets(),
			append(user, "--brokers", strings.TrimPrefix(s.url, "http://"), "--tls")},
		"emit, nobody listens": {s.secrets(), append(user, "--brokers", closed.Addr().String())},
		"emit, no name":        {s.secrets(), append(user, "--brokers", "kafka.invalid:9092")},
		"emit, unknown topic": {s.secrets(),
			append(user, "--brokers", s.broker, "--topic", "none")},
		"emit, password not used": {s.secrets(), []string{"--brokers", s.broker}},
		"emit, unknown variable": {append(s.secrets(), "MARKREAD_IM_KEYS="+canaryKey),
			[]string{"--brokers", closed.Addr().String()}},
	} {
		tries[name] = clitest.Commands(cli.Run).
			Begin(t, c.env, append([]string{"emit", "--log-level", "debug", "--report", "a",
				"--peer", "b"}, c.args...)...)
	}
	for name, r := range tries {
		r.WaitFor(t, `(not published)`) // it would keep retrying
		r.Stop()
		s.record(name, r.Stdout.String()+r.Stderr.String())
	}
	r := s.run("run, wrong password", kafka(wrongPassword), "",
		append([]string{"run", "--brokers", s.broker, "--sasl", "plain", "--sasl-user", saslUser,
			"--im-url", s.url, "--admin-addr", "127.0.0.1:0", "--log-level", "debug"},
			app[:]...)...)
	if r.Status != cli.ExitFailed {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"version"}, {"--help"}, {"run", "--help"}, {"call", "--help"},
		{"check", "--help"},
		{"sandbox", "--help"}, {"dev", "--help"}, {"emit", "--help"}, {"status", "--help"}} {
		s.run(strings.Join(args, " "), s.secrets(), "", args...)
	}
	s.servers()
	s.gateways()
	calls.Wait()
	s.search()
}

// servers runs the commands that serve: the sandbox with a real key, and dev.
func (s *harness) servers() {
	s.Helper()
	box := clitest.Commands(cli.Run).
		Begin(s.T, s.secrets(), "sandbox", "--addr", "127.0.0.1:0", "--rate", "0")
	url := "http://" + box.WaitFor(s.T, `http://(127[^/ ]+) `)
	for _, faults := range []string{`{}`, `{"rules":[{"kind":"echo-url"}]}`,
		`{"rules":[{"kind":"echo-url","code":70009}]}`, canaryKey} {
		request, err := http.NewRequestWithContext(s.Context(), http.MethodPut,
			url+"/sandbox/faults", strings.NewReader(faults))
		if err != nil {
			s.Fatal(err)
		}
		answer := s.do(request)
		if faults != canaryKey { // a client that sends the server a secret may get it back
			s.record("sandbox, faults", answer)
		}
		s.run("call of the sandbox", s.secrets(), "", "call", "--im-url", url, "--im-app-id",
			strconv.Itoa(app.LocalAppID), "--report", "a", "--peer", "b")
	}
	for _, path := range []string{"/sandbox", "/sandbox/stats", "/sandbox/arrivals",
		"/sandbox/faults",
		"/sandbox/read-times"} {
		s.record("sandbox", clitest.Fetch(s.T, url+path))
	}
	s.stop("sandbox", box)

	dev := clitest.Commands(cli.Run).
		Begin(s.T, s.secrets(), "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr",
			"127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0",
			"--log-level", "debug")
	s.readPages("dev", "http://"+dev.WaitFor(s.T, `worker +http://(127[^/ ]+)/`),
		authorizations...)
	s.stop("dev", dev)
}

// gateways are servers that respond to a command in place of a worker, each with what it received.
func (s *harness) gateways() {
	s.Helper()
	for name, form := range forms {
		for place, answer := range map[string]func(w http.ResponseWriter, text string){
			"as the worker": func(w http.ResponseWriter, text string) {
				writePage(w, http.StatusBadRequest, "400: "+text)
			},
			"page": func(w http.ResponseWriter, text string) {
				writePage(w, http.StatusBadGateway, text)
			},
			"state": func(w http.ResponseWriter, text string) {
				writePage(w, http.StatusOK,
					`{"ready":true,"held":[{"reason":`+strconv.Quote(text)+`,"detail":`+
						strconv.Quote(text)+`}],"partitions":[],"group":{"name":`+
						strconv.Quote(text)+
						`,"member":`+
						strconv.Quote(text)+`}}`)
			},
			"garbage": func(w http.ResponseWriter, text string) { writeRaw(w, text+"\r\n\r\n") },
			"header": func(w http.ResponseWriter, text string) {
				writeRaw(w, "HTTP/1.1 200 OK\r\n"+text+"\r\n\r\n")
			},
		} {
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
				r *http.Request) {
				answer(w, form(r.Header.Get("Authorization")))
			}))
			r := s.run("pause, "+place+", "+name, s.secrets(), "", "pause", "--admin-url",
				gateway.URL)
			if r.Status != cli.ExitFailed {
				s.Errorf("%s, %s: %+v", place, name, r)
			}
			for _, form := range []string{"--json=false", "--json"} {
				r := s.run("status, "+place+", "+name, s.secrets(), "", "status", form, "--brokers",
					s.broker, "--sasl",
					"plain", "--sasl-user", saslUser, "--admin-url", gateway.URL)
				if r.Status != cli.ExitFailed && !(place == "state" && r.Status == cli.ExitOK) {
					s.Errorf("status: %s, %s: %+v", place, name, r)
				}
			}
			gateway.CloseClientConnections()
			gateway.Close()
		}
	}
}

// serveEcho returns the address of a server that sends back what it receives.
func serveEcho(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 4096)
				for {
					n, err := conn.Read(b)
					if err != nil {
						return
					}
					_, _ = conn.Write(b[:n])
				}
			}()
		}
	}()
	return l.Addr().String()
}
