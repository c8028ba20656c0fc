package secrets

import (
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
)

// authorizations are values of the header with which an admin server may be called: none, the
// token, and near misses.
var authorizations = []string{
	"", "Bearer " + canaryToken, "Bearer " + canaryToken + "x",
	"Bearer " + strings.ToUpper(canaryToken),
	"Basic " + canaryToken, canaryToken,
	"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+canaryToken)),
}

// pages are the paths of admin servers: of a worker's, of a group's, and of none.
var pages = []string{
	"/healthz", "/readyz", "/metrics", "/api/state", "/", "/?lang=zh", "/assets/console.css",
	"/api/overview?range=1h", "/api/overview?range=24h&after=1",
	"/api/overview?token=" + canaryToken,
	"/api/settings", "/assets/none", "/debug/pprof/goroutine?debug=2",
	"/api/state?token=" + canaryToken, "/" + canaryToken, "/api/pause", "/api/resume",
}

// questions are bodies of requests that change nothing, by path.
var questions = map[string]string{
	"/api/conversation":        `{"report":"good-0-0","peer":"bob","worker":""}`,
	"/api/rejected":            `{"worker":""}`,
	"/api/dead-letters":        `{"state":"all"}`,
	"/api/dead-letters/show":   `{"id":"0:0"}`,
	"/api/dead-letters/export": "format=ndjson&state=all",
	"/api/replay/plan":         `{"state":"all"}`,
	"/api/replay/start":        `{"plan":"` + canaryToken + `","count":1}`,
	"/login":                   "token=" + canaryToken + "x",
	"/logout":                  "",
}

// readPages records all pages of an admin server, and its answers to all questions.
func (s *harness) readPages(name, admin string, authorizations ...string) {
	s.Helper()
	var requests sync.WaitGroup
	few := make(chan struct{}, 32) // a wrong token is answered a second later
	ask := func(method, path, body, authorization string) {
		few <- struct{}{}
		requests.Go(func() {
			defer func() { <-few }()
			s.ask(name, method, admin, path, body, authorization)
		})
	}
	for _, authorization := range authorizations {
		for _, path := range pages {
			ask(http.MethodGet, path, "", authorization)
		}
		for path, body := range questions {
			ask(http.MethodPost, path, body, authorization)
		}
	}
	requests.Wait()
}

// ask records the response to a request.
func (s *harness) ask(name, method, admin, path, body, authorization string) {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), method, admin+path,
		strings.NewReader(body))
	if err != nil {
		s.Error(err)
		return
	}
	request.Header.Set("Authorization", authorization)
	if strings.HasPrefix(body, "{") {
		request.Header.Set("Content-Type", "application/json")
	} else if body != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	s.record(name+", "+strings.Split(path, "?")[0], s.do(request))
}

// do returns a response as text, including its header.
func (s *harness) do(request *http.Request) string {
	s.Helper()
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		s.Error(err)
		return ""
	}
	defer answer.Body.Close()
	var text strings.Builder
	_ = answer.Header.Write(&text) // a strings.Builder never fails
	if _, err := io.Copy(&text, answer.Body); err != nil {
		s.Error(err)
	}
	return text.String()
}

// console records the pages of a group's console that reads a worker, and its output.
func (s *harness) console(group, admin string) {
	s.Helper()
	name, worker := "console of "+group, strings.TrimPrefix(admin, "http://")
	c := clitest.Commands(cli.Run).Begin(s.T, s.secrets(), "console", "--brokers", s.broker,
		"--sasl", "plain", "--sasl-user", saslUser, "--group", group, "--console-addr", "127.0.0.1:0",
		"--peers", worker, "--allow-replay", "--log-level", "debug")
	url := "http://" + c.WaitFor(s.T, `console +http://(127[^/ ]+)/`)
	s.waitForOverview(url, `"state":"ready"`, `"dead_letters":{`)
	s.readPages(name, url, authorizations...)
	for _, path := range []string{"/api/rejected", "/api/conversation"} {
		body := strings.Replace(questions[path], `"worker":""`, `"worker":"`+worker+`"`, 1)
		s.ask(name, http.MethodPost, url, path, body, "Bearer "+canaryToken)
	}
	s.stop(name, c)
	for path, want := range map[string]string{
		"/api/overview": worker, "/api/settings": "MARKREAD_ADMIN_TOKEN",
		"/api/dead-letters": `"code":"`, "/api/dead-letters/show": `"headers":`,
		"/api/dead-letters/export": `"code":"`, "/api/replay/plan": `"conversations":`,
		"/api/replay/start": "plan", "/api/rejected": `"events":[{`,
		"/api/conversation": `"partition":{`,
	} {
		if !strings.Contains(s.artefacts[name+", "+path], want) {
			s.Errorf("%s, %s without %q: %s", name, path, want, s.artefacts[name+", "+path])
		}
	}
}

// waitForOverview waits until an admin server's overview has all texts.
func (s *harness) waitForOverview(admin string, texts ...string) {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, admin+"/api/overview",
		nil)
	if err != nil {
		s.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+canaryToken)
	clitest.WaitUntil(s.T, "an overview with "+strings.Join(texts, " "), func() bool {
		overview := s.do(request)
		return !slices.ContainsFunc(texts,
			func(text string) bool { return !strings.Contains(overview, text) })
	})
}
