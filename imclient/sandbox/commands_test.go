package sandbox_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient/sandbox"
)

const (
	sendPath   = "/v4/openim/sendmsg"
	unreadPath = "/v4/openim/get_c2c_unread_msg_num"
	importPath = "/v4/im_open_login_svc/account_import"
	element    = `"MsgRandom":7,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`
)

// A whole scenario: messages arrive, one account reads them, and the counts follow.
func TestUnreadCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		for range 3 {
			a := mustCall(t, s, sendPath, `{"From_Account":"bob","To_Account":"alice",`+element+`}`)
			if a.MsgTime != time.Now().Unix() ||
				!strings.HasSuffix(a.MsgKey, fmt.Sprintf("_7_%d", a.MsgTime)) {
				t.Errorf("MsgTime %d, MsgKey %q", a.MsgTime, a.MsgKey)
			}
			time.Sleep(10 * time.Second)
		}
		mustCall(t, s, sendPath, `{"To_Account":"alice",`+element+`}`) // from the admin

		a := mustCall(t, s, unreadPath, `{"To_Account":"alice"}`)
		if a.All == nil || *a.All != 4 {
			t.Errorf("all unread: %+v, want 4", a)
		}
		for peer, want := range map[string]int{"bob": 3, admin: 1, "carol": 0} {
			if got := s.Unread("alice", peer); got != want {
				t.Errorf("unread of %s: %d, want %d", peer, got, want)
			}
		}

		second := time.Now().Unix() - 20 // of the second message: read up to and including it
		mustCall(t, s, readPath,
			fmt.Sprintf(`{"Report_Account":"alice","Peer_Account":"bob","MsgReadTime":"%d"}`,
				second))
		if got := s.Unread("alice", "bob"); got != 1 {
			t.Errorf("after a read up to the second of three: %d unread, want 1", got)
		}
		if a = mustCall(t, s, unreadPath, `{"To_Account":"alice"}`); *a.All != 2 {
			t.Errorf("all unread: %d, want 2", *a.All)
		}
		mustCall(t, s, readPath, `{"Report_Account":"alice","Peer_Account":"bob"}`)
		if got := s.Unread("alice", "bob"); got != 0 {
			t.Errorf("after a read without a time: %d unread, want 0", got)
		}
		if got := s.Unread("bob", "alice"); got != 0 {
			t.Errorf("the other side: %d", got)
		}
		if stats := s.Stats(); stats.Unread != 1 || stats.Conversations != 1 {
			t.Errorf("stats: %+v", stats)
		}
	})
}

func TestPointerOnlyGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		if _, marked := s.ReadTime("a", "b"); marked {
			t.Error("a pointer before any call")
		}
		now := time.Now().Unix()
		for _, c := range []struct {
			field    string
			want     int64
			encoding sandbox.Encoding
			sent     int64
		}{
			{`,"MsgReadTime":"100"`, 100, sandbox.EncodingText, 100},
			{`,"MsgReadTime":200`, 200, sandbox.EncodingInteger, 200},
			{`,"MsgReadTime":"150"`, 200, sandbox.EncodingText, 150},
			{`,"msgReadTime":"300","MsgReadTime":"250"`, 250, sandbox.EncodingText, 250},
			{`,"MsgReadTime":null`, now, sandbox.EncodingAbsent, now},
			{``, now, sandbox.EncodingAbsent, now},
		} {
			mustCall(t, s, readPath, `{"Report_Account":"a","Peer_Account":"b"`+c.field+`}`)
			if got, _ := s.ReadTime("a", "b"); got != c.want {
				t.Errorf("after %s: pointer %d, want %d", c.field, got, c.want)
			}
			log := s.Arrivals()
			last := log[len(log)-1]
			if last.Encoding != c.encoding || last.ReadTime != c.sent || !last.Applied ||
				last.Code != 0 || last.Status != 200 {
				t.Errorf("after %s: logged %+v", c.field, last)
			}
		}
		// A pointer ahead of the clock covers later messages.
		mustCall(t, s, readPath,
			fmt.Sprintf(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"%d"}`, now+5))
		for range 7 {
			mustCall(t, s, sendPath, `{"From_Account":"b","To_Account":"a",`+element+`}`)
			time.Sleep(time.Second)
		}
		if got := s.Unread("a", "b"); got != 1 {
			t.Errorf("unread after a pointer 5 s ahead: %d, want 1", got)
		}
	})
}

func TestReadRefusals(t *testing.T) {
	s := openServer()
	for _, c := range []struct {
		body string
		want int
	}{
		{``, 90001},
		{`{`, 90001},
		{`null`, 90001},
		{`[]`, 90001},
		{`{} {}`, 90001},
		{`{}`, 90008},
		{`{"Report_Account":"a"}`, 90003},
		{`{"Peer_Account":"b"}`, 90008},
		{`{"report_account":"a","Peer_Account":"b"}`, 90008},
		{`{"Report_Account":null,"Peer_Account":"b"}`, 90008},
		{`{"Report_Account":1,"Peer_Account":"b"}`, 60015},
		{`{"Report_Account":"a","Peer_Account":["b"]}`, 60015},
		{`{"Report_Account":"nobody1","Peer_Account":"b"}`, 90008},
		{`{"Report_Account":"a","Peer_Account":"nobody"}`, 90003},
		{`{"Report_Account":"","Peer_Account":"b"}`, 90008},
		{`{"Report_Account":"a","Peer_Account":"é"}`, 90003},
		{`{"Report_Account":"` + strings.Repeat("a", 33) + `","Peer_Account":"b"}`, 90008},
		{`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":""}`, 90001},
		{`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"-1"}`, 90001},
		{`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"+1"}`, 90001},
		{`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1.5}`, 90001},
		{`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":true}`, 90001},
		{`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"9223372036854775808"}`, 90001},
		{`{"Report_Account":"a","Peer_Account":"b","x":"` + strings.Repeat("x", 12<<10) + `"}`,
			93000},
	} {
		if got := call(t, s, readPath, query(t), c.body).ErrorCode; got != c.want {
			t.Errorf("%.90s: %d, want %d", c.body, got, c.want)
		}
	}
	stats := s.Stats()
	if stats.Applied != 0 || stats.Conversations != 0 || stats.Calls != int64(len(s.Arrivals())) ||
		stats.Codes[60015] != 2 {
		t.Errorf("stats: %+v", stats)
	}
	for _, a := range s.Arrivals() {
		if a.Applied || a.Code == 0 || len(a.Report) > 64 {
			t.Errorf("logged: %+v", a)
		}
	}
	// Well-formed values are accepted up to their limits.
	mustCall(t, s, readPath,
		`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"9223372036854775807"}`)
	mustCall(t, s, readPath,
		`{"Report_Account":"@TGS#_ ~`+strings.Repeat("a", 24)+`","Peer_Account":"a"}`)
}

func TestMessageRefusals(t *testing.T) {
	s := openServer()
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{sendPath, `{` + element + `}`, 90003},
		{sendPath, `{"To_Account":"nobody",` + element + `}`, 90003},
		{sendPath, `{"From_Account":"nobody","To_Account":"a",` + element + `}`, 90008},
		{sendPath, `{"From_Account":7,"To_Account":"a",` + element + `}`, 60015},
		{sendPath, `{"To_Account":"a","MsgBody":[{"MsgType":"x","MsgContent":{}}]}`, 90005},
		{sendPath, `{"To_Account":"a","MsgRandom":1}`, 90007},
		{sendPath, `{"To_Account":"a","MsgRandom":1,"MsgBody":{}}`, 90007},
		{sendPath, `{"To_Account":"a","MsgRandom":1,"MsgBody":[{"MsgType":"x"}]}`, 90002},
		{unreadPath, `{}`, 90003},
		{unreadPath, `{"To_Account":"nobody"}`, 90003},
		{unreadPath, `{"To_Account":"a","Peer_Account":["b"]}`, 90001},
		{importPath, `{}`, 70402},
		{importPath, `{"UserID":""}`, 70402},
		{importPath, `{"UserID":"` + strings.Repeat("a", 33) + `"}`, 70402},
	} {
		if got := call(t, s, c.path, query(t), c.body).ErrorCode; got != c.want {
			t.Errorf("%s %s: %d, want %d", c.path, c.body, got, c.want)
		}
	}
	if unread := s.Stats().Unread; unread != 0 {
		t.Errorf("%d messages", unread)
	}
}

func TestOnlyImportedAccounts(t *testing.T) {
	s := sandbox.New(sandbox.Options{AppID: appID, Admin: admin, Key: key})
	if got := markRead(t, s, "alice", admin); got != 90008 {
		t.Errorf("unknown: %d, want 90008", got)
	}
	if err := s.Import("alice", "nobody7"); err != nil {
		t.Fatal(err)
	}
	mustCall(t, s, importPath, `{"UserID":"bob"}`)
	mustCall(t, s, importPath, `{"UserID":"bob"}`)
	for _, pair := range [][2]string{{"alice", "bob"}, {"nobody7", admin}} {
		if got := markRead(t, s, pair[0], pair[1]); got != 0 {
			t.Errorf("%v: %d", pair, got)
		}
	}
	if got := s.Stats().Accounts; got != 3 {
		t.Errorf("%d accounts, want 3", got)
	}
	if err := s.Import("ok", "not\nok"); err == nil || !strings.Contains(err.Error(), `"not\nok"`) {
		t.Errorf("Import of a malformed account: %v", err)
	}
}

func TestUnreadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		for i := range 1100 {
			a := mustCall(t, s, sendPath,
				fmt.Sprintf(`{"From_Account":"b","To_Account":"a","MsgSeq":%d,%s}`, i, element))
			if a.MsgKey != fmt.Sprintf("%d_7_%d", i, a.MsgTime) {
				t.Fatalf("MsgKey %q", a.MsgKey)
			}
			time.Sleep(time.Second)
		}
		if got := s.Unread("a", "b"); got != 1000 {
			t.Errorf("%d unread, want 1000", got)
		}
		last := time.Now().Unix() - 1
		mustCall(t, s, readPath,
			fmt.Sprintf(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"%d"}`, last-1))
		if got := s.Unread("a", "b"); got != 1 { // the newest were kept
			t.Errorf("%d unread, want 1", got)
		}
		if a := mustCall(t, s, unreadPath, `{"To_Account":"a"}`); *a.All != 1 {
			t.Errorf("all: %d, want 1", *a.All)
		}
	})
}
