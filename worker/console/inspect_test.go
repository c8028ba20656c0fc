package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"markread/imclient"
	"markread/worker/console/respond"
)

// ask sends JSON to a server.
func ask(t *testing.T, o Options, path, body string,
	edits ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	return get(t, o, path, append([]func(*http.Request){method(http.MethodPost),
		header("Content-Type", "application/json"),
		func(r *http.Request) { setBody(r, body) }}, edits...)...)
}

func TestConversation(t *testing.T) {
	worker, group, calls := everything("")
	w := ask(t, worker, "/api/conversation", `{"report":"it's","peer":"-b","worker":""}`)
	const want = `{"report":"it's","peer":"-b","partition":null,"owner":"","here":false,` +
		`"waiting":null,"applied":null,"letters":null,` +
		`"command":"markread dead-letters ls --state all '--report=it'\\''s' --peer=-b","note":""}` + "\n"
	if w.Code != http.StatusOK || w.Body.String() != want {
		t.Errorf("%d %s\nwant %s", w.Code, w.Body, want)
	}
	_ = ask(t, group, "/api/conversation", `{"report":"a","peer":"b","worker":"h:1"}`)
	_ = ask(t, group, "/api/rejected", `{"worker":"h:1"}`)
	if w := ask(t, worker, "/api/rejected", `{"worker":"h:1"}`); w.Code != http.StatusBadRequest {
		t.Errorf("a worker asked for another: %d", w.Code)
	}
	if w := ask(t, worker, "/api/rejected", `{}`); !contains(w, `{"events":[{"at":`) ||
		!contains(w, `"code":"90009"`) {
		t.Errorf("%s", w.Body)
	}
	if !slices.Equal(calls.calls, []string{"conversation it's -b", "conversation h:1 a b",
		"rejected h:1", "rejected"}) {
		t.Errorf("%q", calls.calls)
	}
	if w := ask(t, group, "/api/rejected", `{}`); strings.TrimSpace(w.Body.String()) !=
		`{"events":[]}` {
		t.Errorf("none: %s", w.Body)
	}
}

// JSON bodies are read strictly.
func TestHostileBodies(t *testing.T) {
	worker, _, calls := everything("")
	const bad = http.StatusBadRequest
	long := strings.Repeat("a", respond.MaxBody)
	for body, want := range map[string]int{
		"":                                     bad,
		"null x":                               bad,
		"[]":                                   bad,
		`{"report":"a"}`:                       bad,
		`{"report":"a","peer":1}`:              bad,
		`{"report":"a","peer":"b",}`:           bad,
		`{"report":"a","peer":"b","offset":1}`: bad,
		`{"report":"a","peer":"b"}{}`:          bad,
		`{"report":"` + long + `","peer":"b"}`: http.StatusRequestEntityTooLarge,
		`{"report":"a","peer":"b"}` + strings.Repeat(" ", respond.MaxBody):    bad,
		strings.Repeat("[", 10_000):                                           bad,
		`{"report":"a","peer":"b","worker":"` + strings.Repeat("x", 9) + `"}`: bad,
	} {
		if w := ask(t, worker, "/api/conversation", body); w.Code != want {
			t.Errorf("%.50q: %d %s", body, w.Code, w.Body)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded",
		"application/json, text/plain", "application/jsonp"} {
		w := ask(t, worker, "/api/conversation", `{"report":"a","peer":"b"}`,
			func(r *http.Request) { r.Header.Set("Content-Type", kind) })
		if w.Code != http.StatusUnsupportedMediaType {
			t.Errorf("Content-Type %q: %d", kind, w.Code)
		}
	}
	if len(calls.calls) > 0 {
		t.Errorf("%q came through", calls.calls)
	}
	w := ask(t, worker, "/api/conversation", `{"report":"a","peer":"b"}`,
		func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") })
	if w.Code != http.StatusOK {
		t.Errorf("with a charset: %d", w.Code)
	}
}

func TestOverviewOptions(t *testing.T) {
	for query, want := range map[string]int{"": 200, "?range=1h": 200, "?range=24h&after=1764": 200,
		"?range=2h": 400, "?after=-1": 400, "?after=x": 400, "?x=1": 400, "?after=1&after=2": 400} {
		w := get(t, options(&fake{}), "/api/overview"+query)
		if w.Code != want || want == 200 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	w := get(t, options(&fake{}), "/api/overview?range=24h")
	if !contains(w, `"history":{"step":60,`) || contains(w, `"step":5,`) ||
		!contains(get(t, options(&fake{}), "/api/overview"), `"step":5,`) {
		t.Errorf("%s", w.Body)
	}
}

// A group's commands go to the worker that the request names; its failures are responses.
func TestCommandsToWorkers(t *testing.T) {
	_, group, calls := everything("")
	post := func(path string) *httptest.ResponseRecorder {
		return get(t, group, path, method(http.MethodPost))
	}
	if w := post("/api/pause?worker=10.0.0.7:8780&reason=x"); w.Code != http.StatusOK ||
		strings.TrimSpace(w.Body.String()) != `{"ready":true,"held":[]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	_ = post("/api/resume?worker=10.0.0.7:8780&accept-rejections=true")
	if !slices.Equal(calls.calls, []string{"pause 10.0.0.7:8780 this machine x",
		"accept 10.0.0.7:8780 this machine"}) {
		t.Errorf("%q", calls.calls)
	}
	for err, want := range map[error]int{
		respond.Errorf(http.StatusNotFound, "no such worker"): http.StatusNotFound,
		errors.New("no worker listens"):                       http.StatusBadGateway,
	} {
		calls.err = err
		for _, accept := range []string{"", "application/json"} {
			w := get(t, group, "/api/pause?worker=x", method(http.MethodPost),
				header("Accept", accept))
			if w.Code != want || !contains(w, err.Error()) ||
				strings.HasPrefix(w.Body.String(), `{"error":`) != (accept != "") {
				t.Errorf("%v: %d %s", err, w.Code, w.Body)
			}
		}
	}
}

// The replay of dead letters exists only if it is allowed.
func TestReplayMustBeAllowed(t *testing.T) {
	_, o, _ := everything("")
	for _, c := range []struct{ allow, readOnly, exists bool }{
		{true, false, true}, {false, false, false}, {true, true, false}, {false, true, false},
	} {
		o.AllowReplay, o.ReadOnly = c.allow, c.readOnly
		for _, path := range []string{"plan", "start", "stop"} {
			w := get(t, o, "/api/replay/"+path, method(http.MethodPost))
			if (w.Code == http.StatusOK) != c.exists {
				t.Errorf("%+v: %s: %d", c, path, w.Code)
			}
		}
		if w := get(t, o, "/api/dead-letters", method(http.MethodPost)); w.Code != http.StatusOK {
			t.Errorf("%+v: the list: %d", c, w.Code)
		}
		if w := get(t, o, "/"); contains(w, `"allow_replay":true`) != c.exists {
			t.Errorf("%+v: %s", c, w.Body)
		}
	}
}

// A group's server has no source and is always ready.
func TestGroupServer(t *testing.T) {
	_, o, _ := everything("")
	if w := get(t, o, "/healthz"); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(t, o, "/readyz"); w.Code != http.StatusOK ||
		strings.TrimSpace(w.Body.String()) != `{"ready":true,"held":[]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(t, o, "/api/state"); w.Code != http.StatusNotFound {
		t.Errorf("/api/state: %d", w.Code)
	}
	o.Workers = nil
	for _, path := range []string{"pause", "resume", "conversation", "rejected"} {
		if w := get(t, o, "/api/"+path, method(http.MethodPost)); w.Code != http.StatusNotFound {
			t.Errorf("/api/%s: %d", path, w.Code)
		}
	}
}

// The client's commands are what the server understands.
func TestClient(t *testing.T) {
	worker, _, calls := everything("abc")
	server := httptest.NewServer(newSite(worker).handler())
	defer server.Close()
	client, err := NewClient(server.URL, imclient.NewSecret("abc"))
	if err != nil {
		t.Fatal(err)
	}
	now, err := client.Pause(t.Context(), "deploying & testing")
	if err != nil || now.Ready == nil || !*now.Ready {
		t.Errorf("%+v %v", now, err)
	}
	if _, err := client.Resume(t.Context(), true); err != nil {
		t.Error(err)
	}
	if !slices.Equal(calls.calls, []string{"pause this machine deploying & testing",
		"accept this machine"}) {
		t.Errorf("%q", calls.calls)
	}
}
