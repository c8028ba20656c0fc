package sandbox_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
	"markread/imclient/sandbox"
)

func TestGatewayCodes(t *testing.T) {
	sigFor := func(app int64, identifier string, key imclient.Secret, age time.Duration) string {
		sig, err := imclient.Sign(app, identifier, key, time.Now().Add(-age), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	for _, c := range []struct {
		name   string
		change func(url.Values)
		want   int
	}{
		{"correct", func(url.Values) {}, 0},
		{"no sdkappid", func(q url.Values) { q.Del("sdkappid") }, 60012},
		{"other sdkappid", func(q url.Values) { q.Set("sdkappid", "1400000001") }, 70020},
		{"sdkappid no number", func(q url.Values) { q.Set("sdkappid", "x") }, 70020},
		{"no identifier", func(q url.Values) { q.Del("identifier") }, 60025},
		{"no usersig", func(q url.Values) { q.Del("usersig") }, 60025},
		{"no random", func(q url.Values) { q.Del("random") }, 60025},
		{"random too large", func(q url.Values) { q.Set("random", "4294967296") }, 60025},
		{"random negative", func(q url.Values) { q.Set("random", "-1") }, 60025},
		{"no contenttype", func(q url.Values) { q.Del("contenttype") }, 60025},
		{"contenttype xml", func(q url.Values) { q.Set("contenttype", "xml") }, 60025},
		{"names are case-sensitive",
			func(q url.Values) { q.Set("Random", q.Get("random")); q.Del("random") }, 60025},
		{"usersig empty", func(q url.Values) { q.Set("usersig", "") }, 70003},
		{"usersig undecodable", func(q url.Values) { q.Set("usersig", "eJyr!!") }, 70003},
		{"usersig of another key", func(q url.Values) {
			q.Set("usersig", sigFor(appID, admin, imclient.NewSecret("another"), 0))
		}, 70009},
		{"usersig of another account",
			func(q url.Values) { q.Set("usersig", sigFor(appID, "bob", key, 0)) }, 70013},
		{"usersig of another app",
			func(q url.Values) { q.Set("usersig", sigFor(7, admin, key, 0)) }, 70014},
		{"usersig expired",
			func(q url.Values) { q.Set("usersig", sigFor(appID, admin, key, 2*time.Hour)) }, 70001},
		{"not the admin", func(q url.Values) {
			q.Set("identifier", "bob")
			q.Set("usersig", sigFor(appID, "bob", key, 0))
		}, 60010},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openServer()
			q := query(t)
			c.change(q)
			for _, path := range []string{readPath, "/v4/openim/sendmsg",
				"/v4/im_open_login_svc/kick"} {
				got := call(t, s, path, q, `{"Report_Account":"a","Peer_Account":"b"}`).ErrorCode
				if path != readPath && c.want == 0 {
					continue // this body is not for these commands
				}
				if got != c.want {
					t.Errorf("%s: ErrorCode %d, want %d", path, got, c.want)
				}
			}
			if _, marked := s.ReadTime("a", "b"); marked != (c.want == 0) {
				t.Errorf("applied: %v", marked)
			}
		})
	}
}

func TestPathAndMethod(t *testing.T) {
	s := openServer()
	if got := call(t, s, "/v4/openim/nosuch", query(t), `{}`).ErrorCode; got != 60009 {
		t.Errorf("unknown path: %d, want 60009", got)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, readPath+"?"+query(t).Encode(), nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"ErrorCode":60002`) {
		t.Errorf("GET: %d %s, want 60002", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, readPath+"?a=%zz", strings.NewReader("{}")))
	if !strings.Contains(w.Body.String(), `60002`) {
		t.Errorf("malformed query: %s, want 60002", w.Body)
	}
}

func TestZeroKeyRefusesEverySignature(t *testing.T) {
	s := sandbox.New(sandbox.Options{AppID: appID, Admin: admin, OpenAccounts: true})
	if got := markRead(t, s, "a", "b"); got != 70009 {
		t.Errorf("ErrorCode %d, want 70009", got)
	}
}

// A signature is verified only once, but expiry and kicks are checked at every call.
func TestSignatureExpiresWhileCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		q := query(t)
		body := `{"Report_Account":"a","Peer_Account":"b"}`
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 0}, {24 * time.Hour, 0}, {time.Second, 70001}} {
			time.Sleep(step.after)
			if got := call(t, s, readPath, q, body).ErrorCode; got != step.want {
				t.Errorf("after another %v: %d, want %d", step.after, got, step.want)
			}
		}
	})
}

func TestKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		const kickPath = "/v4/im_open_login_svc/kick"
		const body = `{"Report_Account":"a","Peer_Account":"b"}`
		unseen := query(t) // issued before the kick, used only after it
		time.Sleep(2500 * time.Millisecond)
		seen := query(t)
		if got := call(t, s, readPath, seen, body).ErrorCode; got != 0 {
			t.Fatalf("before the kick: %d", got)
		}
		mustCall(t, s, kickPath, `{"UserID":"bob"}`)
		if got := call(t, s, readPath, seen, body).ErrorCode; got != 0 {
			t.Errorf("after the kick of another: %d, want 0", got)
		}
		mustCall(t, s, kickPath, `{"UserID":"`+admin+`"}`)
		if got := call(t, s, readPath, seen, body).ErrorCode; got != 70052 {
			t.Errorf("seen before the kick, in the same second: %d, want 70052", got)
		}
		if got := call(t, s, readPath, unseen, body).ErrorCode; got != 70052 {
			t.Errorf("issued before the kick: %d, want 70052", got)
		}
		time.Sleep(time.Second)
		if got := call(t, s, readPath, query(t), body).ErrorCode; got != 0 {
			t.Errorf("issued after the kick: %d, want 0", got)
		}
		for body, want := range map[string]int{`{}`: 70402, `{"UserID":1}`: 60015,
			`{"UserID":"nobody"}`: 70107} {
			if got := call(t, s, kickPath, query(t), body).ErrorCode; got != want {
				t.Errorf("kick %s: %d, want %d", body, got, want)
			}
		}
	})
}

// A new signature made in the second of the kick has another text than the old ones, and is valid.
func TestNewSignatureInTheSecondOfTheKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		old := query(t)
		const body = `{"Report_Account":"a","Peer_Account":"b"}`
		call(t, s, readPath, old, body)
		time.Sleep(3 * time.Second)
		if got := call(t, s, "/v4/im_open_login_svc/kick", old,
			`{"UserID":"`+admin+`"}`).ErrorCode; got != 0 {
			t.Fatal(got)
		}
		if got := call(t, s, readPath, old, body).ErrorCode; got != 70052 {
			t.Errorf("old: %d, want 70052", got)
		}
		if got := call(t, s, readPath, query(t), body).ErrorCode; got != 0 {
			t.Errorf("new: %d, want 0", got)
		}
	})
}
