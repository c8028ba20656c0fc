package sandbox_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"markread/imclient"
	"markread/imclient/sandbox"
)

const (
	appID    = 1400000000
	admin    = "administrator"
	readPath = "/v4/openim/admin_set_msg_read"
)

var key = imclient.NewSecret("a key of tests")

// openServer returns a server where every account exists but nobody….
func openServer() *sandbox.Server {
	return sandbox.New(sandbox.Options{AppID: appID, Admin: admin, Key: key, OpenAccounts: true})
}

// sign returns a signature of this second. Signing is the most costly part of a call here, so the
// last signature is cached.
func sign(t testing.TB) string {
	t.Helper()
	last.Lock()
	defer last.Unlock()
	if second := time.Now().Unix(); last.sig == "" || last.second != second {
		sig, err := imclient.Sign(appID, admin, key, time.Now(), 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		last.sig, last.second = sig, second
	}
	return last.sig
}

var last struct {
	sync.Mutex
	second int64
	sig    string
}

// query returns a correct query.
func query(t testing.TB) url.Values {
	return url.Values{
		"sdkappid": {"1400000000"}, "identifier": {admin}, "usersig": {sign(t)},
		"random": {"4294967295"}, "contenttype": {"json"},
	}
}

type response struct {
	ActionStatus string
	ErrorInfo    string
	ErrorCode    int
	MsgTime      int64
	MsgKey       string
	All          *int `json:"AllC2CUnreadMsgNum"`
	header       http.Header
}

// call posts a body to a command with a query, in process.
func call(t testing.TB, s http.Handler, path string, q url.Values, body string) response {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w,
		httptest.NewRequest(http.MethodPost, path+"?"+q.Encode(), strings.NewReader(body)))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: HTTP status %d, want 200: %s", path, w.Code, w.Body)
	}
	var a response
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%s responded %q: %v", path, w.Body, err)
	}
	if (a.ErrorCode == 0) != (a.ActionStatus == "OK") {
		t.Errorf("%s: ErrorCode %d with ActionStatus %q", path, a.ErrorCode, a.ActionStatus)
	}
	a.header = w.Header()
	return a
}

// mustCall makes a call that must succeed.
func mustCall(t testing.TB, s http.Handler, path string, body string) response {
	t.Helper()
	a := call(t, s, path, query(t), body)
	if a.ErrorCode != 0 {
		t.Fatalf("%s %s: %d %s", path, body, a.ErrorCode, a.ErrorInfo)
	}
	return a
}

// markRead makes a mark-read call and returns the ErrorCode.
func markRead(t testing.TB, s http.Handler, report, peer string) int {
	t.Helper()
	return call(t, s, readPath, query(t),
		`{"Report_Account":"`+report+`","Peer_Account":"`+peer+`"}`).ErrorCode
}

func setFaults(t testing.TB, s *sandbox.Server, f sandbox.Faults) {
	t.Helper()
	if err := s.SetFaults(f); err != nil {
		t.Fatal(err)
	}
}

// pipes is a listener for in-memory connections, which work inside a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// overPipes serves s over in-memory connections until the test ends.
func overPipes(t *testing.T, s http.Handler) *http.Client {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: s}
	done := make(chan error)
	go func() { done <- server.Serve(p) }()
	transport := &http.Transport{DialContext: p.dial, DisableCompression: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-done
	})
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// postRead sends a mark-read call over a connection.
func postRead(
	t *testing.T, ctx context.Context, client *http.Client, base, report string,
) (*http.Response, []byte, error) {
	t.Helper()
	body := `{"Report_Account":"` + report + `","Peer_Account":"bob","MsgReadTime":"1000"}`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+readPath+"?"+query(t).Encode(),
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, text, err
}
