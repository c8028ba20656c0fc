package imclient_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"markread/imclient"
)

// jsonOf returns the body of a Read as encoding/json encodes it.
func jsonOf(t *testing.T, r imclient.Read) []byte {
	t.Helper()
	text, err := json.Marshal(struct{ Report_Account, Peer_Account, MsgReadTime string }{
		r.Report, r.Peer, strconv.FormatInt(r.Time, 10)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// MarkRead sends the JSON of the Read, however long it is, and net/http may read it several times.
func TestMarkReadSendsTheRead(t *testing.T) {
	var sent [2][]byte
	c := offlineClient(t, withTransport(func(r *http.Request) (*http.Response, error) {
		again, err := r.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		for i, body := range []io.Reader{r.Body, again} {
			if sent[i], err = io.ReadAll(body); err != nil {
				t.Error(err)
			}
		}
		if r.ContentLength != int64(len(sent[0])) {
			t.Errorf("Content-Length %d of %d bytes", r.ContentLength, len(sent[0]))
		}
		return respond(200, nil, apiResult(0, ""))
	}))
	for _, r := range []imclient.Read{
		validRead,
		{Report: `a"b\c`, Peer: "<&>", Time: 1},
		{Report: "字\x00\u2028\xff", Peer: "\x7f~", Time: 1<<63 - 1},
		{Report: strings.Repeat("r", 32), Peer: strings.Repeat("p", 32), Time: 1700000000},
		{Report: strings.Repeat("r", 500), Peer: strings.Repeat(`"`, 500), Time: 1700000000},
	} {
		if err := c.MarkRead(t.Context(), r); err != nil {
			t.Error(err)
		}
		for _, body := range sent {
			if want := jsonOf(t, r); !bytes.Equal(body, want) {
				t.Errorf("sent %s, want %s", body, want)
			}
		}
	}
}

func FuzzReadJSON(f *testing.F) {
	f.Add("alice", "bob", int64(1700000000))
	f.Add(`a"b\c`, "<&>", int64(-1))
	f.Add("字\x00\u2028", "\xff\x7f", int64(0))
	f.Fuzz(func(t *testing.T, report, peer string, at int64) {
		r := imclient.Read{Report: report, Peer: peer, Time: at}
		got, err := r.MarshalJSON()
		if want := jsonOf(t, r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	})
}

// MarkRead recognises the usual success by itself; Post does not. Whatever the server returns, they
// must agree.
func FuzzMarkReadLikePost(f *testing.F) {
	for _, body := range []string{
		apiResult(0, ""), apiResult(60007, "x"), `{"ErrorCode":0}`, "{}", "<html>",
		`{"ErrorCode":0,"ErrorCode":60007}`, strings.Repeat(" ", 64<<10) + `{"ErrorCode":0}`,
	} {
		f.Add(200, []byte(body))
		f.Add(502, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		result := func(call func(*imclient.Client) error) string {
			if err := call(offlineClient(t, always(status, nil, string(body)))); err != nil {
				return err.Error()
			}
			return "success"
		}
		got := result(func(c *imclient.Client) error { return c.MarkRead(t.Context(), validRead) })
		want := result(func(c *imclient.Client) error {
			_, err := c.Post(t.Context(), imclient.CommandMarkRead, validRead)
			return err
		})
		if got != want {
			t.Errorf("MarkRead: %s; Post: %s", got, want)
		}
	})
}
