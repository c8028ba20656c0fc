package imclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"markread/imclient"
)

func TestRequestIsAsDocumented(t *testing.T) {
	type seen struct {
		request *http.Request
		body    string
	}
	var got []seen
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, seen{r, string(body)})
		fmt.Fprint(w, apiResult(0, ""))
	}))
	defer server.Close()
	c := client(t, options(server.URL))
	defer c.Close()
	const calls = 50
	for range calls {
		if err := c.MarkRead(t.Context(),
			imclient.Read{Report: "a b<c>", Peer: "@TGS#1", Time: 1700000000}); err != nil {
			t.Fatal(err)
		}
	}

	randoms := make(map[string]bool)
	large := false
	for _, s := range got {
		r := s.request
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			t.Fatal(err)
		}
		if r.Method != "POST" || r.URL.Path != "/v4/openim/admin_set_msg_read" ||
			r.Proto != "HTTP/1.1" {
			t.Fatalf("%s %s %s", r.Method, r.URL.Path, r.Proto)
		}
		names := slices.Sorted(maps.Keys(query))
		if want := []string{"contenttype", "identifier", "random", "sdkappid",
			"usersig"}; !slices.Equal(names, want) {
			t.Fatalf("query %v, want %v", names, want)
		}
		if query.Get("sdkappid") != strconv.Itoa(vectorApp) ||
			query.Get("identifier") != "administrator" || query.Get("contenttype") != "json" {
			t.Fatalf("query %v", query)
		}
		claims, err := imclient.Verify(query.Get("usersig"), imclient.NewSecret(canary), time.Now())
		if err != nil || claims.AppID != vectorApp || claims.Identifier != "administrator" ||
			claims.Lifetime != 24*time.Hour {
			t.Fatalf("signature: %+v, %v", claims, err)
		}
		if !strings.Contains(r.URL.RawQuery, "usersig="+query.Get("usersig")+"&") {
			t.Fatal("the signature is not sent as it is")
		}
		random, err := strconv.ParseUint(query.Get("random"), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		randoms[query.Get("random")] = true
		large = large || random > 1<<31
		// and nothing else, no trace for example
		if headers := slices.Sorted(maps.Keys(r.Header)); r.Header.Get("Content-Type") !=
			"application/json" || !slices.Equal(headers, []string{"Content-Length", "Content-Type",
			"User-Agent"}) {
			t.Fatalf("header %v", r.Header)
		}
		// As raw bytes: MsgReadTime is a string.
		want := `{"Report_Account":"a b\u003cc\u003e","Peer_Account":"@TGS#1",` +
			`"MsgReadTime":"1700000000"}`
		if s.body != want {
			t.Fatalf("body %s, want %s", s.body, want)
		}
	}
	if len(randoms) < calls-2 || !large { // a repeat among 50 happens once in 3 million times
		t.Errorf("%d different randoms in %d calls, above 2^31: %v", len(randoms), calls, large)
	}
}

func TestBaseURLMayHaveAPath(t *testing.T) {
	var path string
	c := offlineClient(t, func(o *imclient.Options) { o.BaseURL = "https://gateway.test:8443/im/" },
		withTransport(func(r *http.Request) (*http.Response, error) {
			path = r.URL.Scheme + "://" + r.URL.Host + r.URL.Path
			return respond(200, nil, apiResult(0, ""))
		}))
	if _, err := c.Post(t.Context(), "im_open_login_svc/kick", struct{}{}); err != nil {
		t.Fatal(err)
	}
	if want := "https://gateway.test:8443/im/v4/im_open_login_svc/kick"; path != want {
		t.Errorf("went to %s, want %s", path, want)
	}
}

func TestNewRefusesMissingOptions(t *testing.T) {
	for flag, change := range map[string]func(*imclient.Options){
		"--im-url":        func(o *imclient.Options) { o.BaseURL = "" },
		"--im-url ":       func(o *imclient.Options) { o.BaseURL = "https://u:" + canary + "@h" },
		"--im-app-id":     func(o *imclient.Options) { o.AppID = 0 },
		"--im-admin":      func(o *imclient.Options) { o.Admin = "" },
		"MARKREAD_IM_KEY": func(o *imclient.Options) { o.Key = nil },
		"--im-timeout":    func(o *imclient.Options) { o.Timeout = -1 },
		"--max-in-flight": func(o *imclient.Options) { o.MaxConns = -1 },
	} {
		o := options("https://im.test")
		change(&o)
		c, err := imclient.New(o)
		if err == nil || c != nil || !strings.Contains(err.Error(), strings.TrimSpace(flag)) ||
			leaks(err.Error()) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if _, err := imclient.New(imclient.Options{BaseURL: "https://im.test", AppID: 1, Admin: "a",
		Key: options("").Key}); err != nil {
		t.Errorf("without the optional ones: %v", err)
	}
}

// outcome holds the compared parts of an error.
type outcome struct {
	class  imclient.Class
	label  string
	code   int
	status int
}

func outcomeOf(t *testing.T, err error) outcome {
	t.Helper()
	var e *imclient.Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *Error: %v", err)
	}
	return outcome{e.Class, e.Label, e.ErrorCode, e.Status}
}

func TestErrorCodeDecides(t *testing.T) {
	rows := append(imclient.Codes(), imclient.Code{Code: 12345, Class: imclient.Transient},
		imclient.Code{Code: -1, Class: imclient.Transient})
	for _, row := range rows {
		for _, status := range []int{200, 400, 429, 502, 302} {
			c := offlineClient(t, always(status, nil, apiResult(row.Code, "because")))
			err := c.MarkRead(t.Context(), validRead)
			want := outcome{row.Class, strconv.Itoa(row.Code), row.Code, status}
			if got := outcomeOf(t, err); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			remedy, _ := imclient.LookUp(row.Code)
			for _, part := range []string{strconv.Itoa(row.Code), remedy.Meaning, remedy.Remedy,
				`"because"`} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
		}
	}
	for _, status := range []int{200, 400, 429, 502} {
		if err := offlineClient(t, always(status, nil, apiResult(0, ""))).MarkRead(t.Context(),
			validRead); err != nil {
			t.Errorf("ErrorCode 0 with status %d: %v", status, err)
		}
	}
}

func TestResponsesWithoutErrorCode(t *testing.T) {
	notAPI := outcome{imclient.Transient, "answer", 0, 200}
	for body, want := range map[string]outcome{
		"": notAPI, "null": notAPI, "[]": notAPI, "0": notAPI, `"ErrorCode"`: notAPI, "{}": notAPI,
		"garbage":          notAPI,
		`<html>502</html>`: notAPI, `{"ErrorCode":0`: notAPI, `{"ErrorCode":0}}`: notAPI,
		`{"ErrorCode":0} x`: notAPI,
		`{"errorcode":0}`:   notAPI, `{"ERRORCODE":0,"errorCode":0}`: notAPI,
		`{"ErrorCode":null}`: notAPI,
		`{"ErrorCode":"0"}`:  notAPI, `{"ErrorCode":0.0}`: notAPI, `{"ErrorCode":6e4}`: notAPI,
		`{"ErrorCode":[0]}`:  notAPI,
		`{"ErrorCode":true}`: notAPI, `{"ErrorCode":99999999999999999999}`: notAPI,
		`{"Inner":{"ErrorCode":0}}`:  notAPI,
		"\ufeff" + `{"ErrorCode":0}`: notAPI, `{"ErrorCode":0,"ErrorCode":"0"}`: notAPI,
		`{"ErrorCode":0}` + strings.Repeat(" ", 1<<16): notAPI,
	} {
		c := offlineClient(t, always(200, nil, body))
		if got := outcomeOf(t, c.MarkRead(t.Context(), validRead)); got != want {
			t.Errorf("%.40q: %+v", body, got)
		}
	}
	for body, code := range map[string]int{
		` {"ErrorCode": 60007 } ` + "\r\n":                           60007,
		`{"ErrorCode":1,"ErrorCode":60007}`:                          60007,
		`{"errorcode":0,"ErrorCode":60007}`:                          60007,
		`{"ErrorCode":60007,"ErrorInfo":7,"ActionStatus":[],"x":{}}`: 60007,
		`{"Error\u0043ode":60007}`:                                   60007,
		`{"ErrorCode":60007}` + strings.Repeat(" ", 1<<15):           60007,
	} {
		if got := outcomeOf(t,
			offlineClient(t, always(200, nil, body)).
				MarkRead(t.Context(), validRead)); got.code != code {
			t.Errorf("%.40q: %+v", body, got)
		}
	}
	for _, status := range []int{100, 201, 204, 300, 302, 400, 401, 403, 404, 408, 418, 429, 500,
		502, 503, 504, 599} {
		want := outcome{imclient.Transient, "http_" + strconv.Itoa(status), 0, status}
		if status == 429 {
			want.class = imclient.Throttled
		}
		for _, body := range []string{"", "<html>", `{"ErrorCode":"no"}`} {
			err := offlineClient(t, always(status, nil, body)).MarkRead(t.Context(), validRead)
			if got := outcomeOf(t, err); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if !strings.Contains(err.Error(), strconv.Itoa(status)) ||
				!strings.Contains(err.Error(), "What to do: ") {
				t.Errorf("poor text: %v", err)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Tue, 14 Nov 2023 22:13:20 GMT"
	for _, v := range []struct {
		header string
		want   time.Duration
	}{
		{"", 0}, {"0", 0}, {"7", 7 * time.Second}, {" 7 ", 7 * time.Second},
		{"300", 5 * time.Minute}, {"301", 5 * time.Minute},
		{strings.Repeat("9", 50), 5 * time.Minute}, {"-1", 0}, {"1.5", 0}, {"soon", 0}, {"７", 0},
		{"Tue, 14 Nov 2023 22:14:00 GMT", 40 * time.Second},
		{"Tue, 14 Nov 2023 23:14:00 GMT", 5 * time.Minute},
		{date, 0}, {"Tue, 14 Nov 2023 22:13:00 GMT", 0},
		{"Tuesday, 14-Nov-23 22:14:00 GMT", 40 * time.Second},
		{"Tue Nov 14 22:14:00 2023", 40 * time.Second},
	} {
		header := http.Header{"Retry-After": {v.header}, "Date": {date}}
		if got := retryAfterOf(t, always(429, header, "")); got != v.want {
			t.Errorf("429, %q: %v, want %v", v.header, got, v.want)
		}
		if got := retryAfterOf(t, always(200, header, apiResult(60007, ""))); got != v.want {
			t.Errorf("60007, %q: %v, want %v", v.header, got, v.want)
		}
		// Other classes must not pause all calls.
		for _, other := range []func(*imclient.Options){always(503, header, ""),
			always(429, header, apiResult(90001, "")),
			always(200, header, apiResult(60008, ""))} {
			if got := retryAfterOf(t, other); got != 0 {
				t.Errorf("not throttled, %q: %v", v.header, got)
			}
		}
	}
	// Without a Date, our clock is used.
	until := http.Header{"Retry-After": {time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)}}
	if got := retryAfterOf(t, always(429, until, "")); got < 30*time.Second ||
		got > time.Minute {
		t.Errorf("a date in a minute: %v", got)
	}
}

func retryAfterOf(t *testing.T, change func(*imclient.Options)) time.Duration {
	t.Helper()
	var e *imclient.Error
	if err := offlineClient(t, change).MarkRead(t.Context(), validRead); !errors.As(err, &e) {
		t.Fatal(err)
	}
	return e.RetryAfter
}

func TestPostReturnsTheResponse(t *testing.T) {
	body := "{\"ActionStatus\":\"OK\",\n\t\"ErrorInfo\":\"\",\"ErrorCode\":0," +
		"\"MsgTime\":1572870301, \"x\":\"\x1b[2J\"}"
	response, err := offlineClient(t,
		always(200, nil, strings.ReplaceAll(body, "\x1b", `\u001b`))).Post(t.Context(),
		"openim/sendmsg", map[string]any{"MsgRandom": 1})
	if err != nil || response.Status != 200 || response.ErrorCode != 0 ||
		response.ActionStatus != "OK" ||
		!bytes.Contains(response.Body, []byte(":0,\"MsgTime\"")) {
		t.Errorf("%+v, %v", response, err)
	}
	response, err = offlineClient(t, always(503, nil, "a\n\x1b[31mb\x00\u202ec\xff")).
		Post(t.Context(), "openim/sendmsg", nil)
	if outcomeOf(t, err).label != "http_503" || response.Status != 503 ||
		string(response.Body) != "a\n [31mb  c\uFFFD" {
		t.Errorf("%+v %q, %v", response, response.Body, err)
	}
	response, err = offlineClient(t,
		always(200, nil, apiResult(90001, "Fail to Parse\tjson "))).Post(t.Context(),
		"openim/sendmsg", nil)
	if outcomeOf(t, err).code != 90001 || response.ErrorCode != 90001 ||
		response.ErrorInfo != "Fail to Parse json" || response.ActionStatus != "FAIL" {
		t.Errorf("%+v, %v", response, err)
	}
}

// A gateway's page is shown without its markup.
func TestMessageHasNoMarkup(t *testing.T) {
	const page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n" +
		"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>"
	var e *imclient.Error
	err := offlineClient(t, always(502, nil, page)).MarkRead(t.Context(), validRead)
	if !errors.As(err, &e) || e.Message != "502 Bad Gateway nginx" {
		t.Errorf("%q, %v", e.Message, err)
	}
}

func TestMessageIsShortAndOnOneLine(t *testing.T) {
	for info, want := range map[string]string{
		strings.Repeat("x", 500): strings.Repeat("x", 200),
		// 199 bytes: no character is cut in two
		"x" + strings.Repeat("字", 500):        "x" + strings.Repeat("字", 66),
		" a\r\nb\x1b[31m\u0085\u2028\u202e\t": "a  b [31m",
	} {
		text, _ := json.Marshal(info)
		for name, change := range map[string]func(*imclient.Options){
			"info": always(200, nil, `{"ErrorCode":90001,"ErrorInfo":`+string(text)+`}`),
			"page": always(502, nil, info),
		} {
			want := want
			if name == "page" {
				want = strings.Join(strings.Fields(want), " ")
			}
			var e *imclient.Error
			if err := offlineClient(t, change).
				MarkRead(t.Context(), validRead); !errors.As(err, &e) || e.Message != want {
				t.Errorf("%s %.20q: %q, %v", name, info, e.Message, err)
			}
		}
	}
}

func TestEndedContextIsNotACallFailure(t *testing.T) {
	stop := errors.New("we stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	sent := 0
	c := offlineClient(t, withTransport(func(r *http.Request) (*http.Response, error) {
		sent++
		cancel(stop)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}))
	if err := c.MarkRead(ctx, validRead); err != stop {
		t.Errorf("cut off: %v", err)
	}
	if err := c.MarkRead(ctx, validRead); err != stop || sent != 1 {
		t.Errorf("ended before: %v, sent %d times", err, sent)
	}
	// But a response that arrived counts.
	for code, want := range map[int]bool{0: true, 90001: false} {
		ctx, cancel := context.WithCancelCause(t.Context())
		c := offlineClient(t, withTransport(func(r *http.Request) (*http.Response, error) {
			cancel(stop)
			return respond(200, nil, apiResult(code, ""))
		}))
		err := c.MarkRead(ctx, validRead)
		if want && err != nil || !want && outcomeOf(t, err).code != code {
			t.Errorf("ErrorCode %d: %v", code, err)
		}
	}
	// So does any other complete response.
	ctx, cancel = context.WithCancelCause(t.Context())
	c = offlineClient(t, withTransport(func(r *http.Request) (*http.Response, error) {
		cancel(stop)
		return respond(502, nil, "<html>")
	}))
	if got := outcomeOf(t, c.MarkRead(ctx, validRead)); got.label != "http_502" {
		t.Errorf("%+v", got)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("followed")
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL+"/v4/openim/admin_set_msg_read",
			status))
		c := client(t, options(server.URL))
		want := outcome{imclient.Transient, "http_" + strconv.Itoa(status), 0, status}
		if got := outcomeOf(t, c.MarkRead(t.Context(), validRead)); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		c.Close()
		server.Close()
	}
}
