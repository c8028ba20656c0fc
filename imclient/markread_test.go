package imclient_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
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
	f.Add(`"`, `\`, int64(-1))
	f.Add("<", ">", int64(1))
	f.Add("&", "~ ", int64(1<<63-1))
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

// endless is a body without an end. It counts the bytes that were read.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}

func (*endless) Close() error { return nil }

// A call reads one byte more of a body than it accepts, and leaves no context behind.
func TestCallLeavesNothingBehind(t *testing.T) {
	var body endless
	var sent *http.Request
	c := offlineClient(t, withTransport(func(r *http.Request) (*http.Response, error) {
		sent = r
		response, err := respond(200, nil, "")
		response.Body = &body
		return response, err
	}))
	err := c.MarkRead(t.Context(), validRead)
	if want := (outcome{imclient.Transient, "answer", 0, 200}); outcomeOf(t, err) != want ||
		body.read != 64<<10+1 {
		t.Errorf("%v after %d bytes", err, body.read)
	}
	if sent.Context().Err() == nil {
		t.Error("the request's context has not ended")
	}
}

func TestAdminIsEscaped(t *testing.T) {
	const admin = "a&b=c d%"
	c := offlineClient(t, func(o *imclient.Options) { o.Admin = admin },
		withTransport(func(r *http.Request) (*http.Response, error) {
			if got := r.URL.Query()["identifier"]; !slices.Equal(got, []string{admin}) {
				t.Errorf("identifier %q in %s", got, r.URL.RawQuery)
			}
			return respond(200, nil, apiResult(0, ""))
		}))
	if err := c.MarkRead(t.Context(), validRead); err != nil {
		t.Error(err)
	}
}

func TestInvalidCallsAreNotSent(t *testing.T) {
	c := offlineClient(t, withTransport(func(*http.Request) (*http.Response, error) {
		t.Error("sent")
		return nil, io.EOF
	}))
	want := outcome{imclient.Rejected, "request", 0, 0}
	for _, r := range []imclient.Read{
		{Report: "a", Peer: "b"}, {Report: "a", Peer: "b", Time: -1}, {Peer: "b", Time: 1},
		{Report: "a", Time: 1},
	} {
		if got := outcomeOf(t, c.MarkRead(t.Context(), r)); got != want {
			t.Errorf("%+v: %+v", r, got)
		}
	}
	_, err := c.Post(t.Context(), "openim/sendmsg", func() {})
	if got := outcomeOf(t, err); got != want {
		t.Errorf("no JSON: %+v", got)
	}
}
