package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/imclient"
	"markread/imclient/sandbox"
)

// server starts an IM sandbox whose app has the test's key.
func server(t *testing.T) (*sandbox.Server, string) {
	t.Helper()
	im := sandbox.New(sandbox.Options{AppID: app.LocalAppID, Admin: app.LocalAdmin,
		Key: imclient.NewSecret(clitest.TestKey), OpenAccounts: true})
	s := httptest.NewServer(im)
	t.Cleanup(s.Close)
	return im, s.URL
}

func TestCall(t *testing.T) {
	im, url := server(t)
	garbage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A gateway that shows the request it received, and tries to color the terminal.
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("\x1b[31mcan't reach " + r.URL.String()))
	}))
	defer garbage.Close()
	key := "MARKREAD_IM_KEY=" + clitest.TestKey
	begin := time.Now().Unix()
	cases := []struct {
		name   string
		env    string
		url    string
		args   []string
		status int
		want   []string
	}{
		{"success", key, url, nil, ExitOK, []string{
			"POST " + url + "/v4/openim/admin_set_msg_read?sdkappid=1400000000&" +
				"identifier=administrator&usersig=[secret]&",
			`"Report_Account":"alice","Peer_Account":"bob"`,
			"HTTP 200", `"ErrorCode":0`, "ErrorCode 0"}},
		{"with a time", key, url, []string{"--read-time", "1700000000"}, ExitOK,
			[]string{`"MsgReadTime":"1700000000"`}},
		{"unknown account", key, url, []string{"--peer", "nobody-1"}, ExitFailed,
			[]string{"90003", "what to do", "dead letter immediately (rejected)", "source"}},
		{"wrong key", "MARKREAD_IM_KEY=another-" + clitest.TestKey, url, nil, ExitFailed,
			[]string{"70009", "what to do", "hold all calls"}},
		{"wrong app", key, url, []string{"--im-app-id", "7"}, ExitFailed,
			[]string{"sdkappid=7&", "70020", "what to do"}},
		{"wrong admin", key, url, []string{"--im-admin", "alice"}, ExitFailed,
			[]string{"60010", "what to do"}},
		{"gateway", key, garbage.URL, nil, ExitFailed, []string{"HTTP 502", "http_502",
			"a dead letter only after --attempts failures while other conversations get " +
				"responses"}},
		{"nobody listens", key, "http://127.0.0.1:1", nil, ExitFailed,
			[]string{"connect", "what to do", "cause"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"call", "--im-url", c.url, "--im-app-id", "1400000000",
				"--report", "alice",
				"--peer", "bob"}, c.args...)
			r := try(t, []string{c.env}, "", args...)
			if r.Status != c.status {
				t.Errorf("status %d, stderr %s", r.Status, r.Stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(r.Stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, r.Stdout)
				}
			}
			if out := r.Stdout + r.Stderr; strings.Contains(out, clitest.TestKey) ||
				strings.Contains(out, "usersig=eJ") || strings.Contains(out, "\x1b") {
				t.Errorf("a secret or an escape is shown:\n%s", out)
			}
			if (r.Stderr == "") != (r.Status == ExitOK) {
				t.Errorf("stderr: %q", r.Stderr)
			}
		})
	}
	// Without a time the call uses now; the server keeps the larger of both times.
	if got, ok := im.ReadTime("alice", "bob"); !ok || got < begin || got > time.Now().Unix() {
		t.Errorf("read time %d, %v", got, ok)
	}
}

func TestCallWithKeyFile(t *testing.T) {
	_, url := server(t)
	r := try(t, []string{"MARKREAD_IM_KEY_FILE=" + clitest.File(t, clitest.TestKey+"\n"),
		"MARKREAD_IM_URL=" + url,
		"MARKREAD_IM_APP_ID=1400000000"}, "", "call", "--report", "alice", "--peer", "bob")
	if r.Status != ExitOK {
		t.Errorf("%+v", r)
	}
}
