package imclient_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
)

// hostileCase is a hostile response, byte by byte, and the expected result of the call.
type hostileCase struct {
	name  string
	play  func(conn net.Conn)
	label string // "": success
	code  int
}

// bodies are responses and their ErrorCode; -1: none.
var bodies = map[string]int{
	`{"ErrorCode":0}`: 0, `{"ErrorCode":60007,"ErrorInfo":"x"}`: 60007, `{"ErrorCode":-1}`: -1000,
	"": -1, "null": -1, "[]": -1, "{}": -1,
	`{"ErrorCode":"0"}`: -1, `{"ErrorCode":0.0}`: -1, `{"ErrorCode":1e3}`: -1,
	`{"ErrorCode":[0]}`: -1, `{"ErrorCode":null}`: -1,
	`{"ErrorCode":9223372036854775808}`: -1, `{"ErrorCode":0`: -1,
	`{"ErrorCode":0}{"ErrorCode":0}`: -1, `{"errorcode":0}`: -1,
	"\xff\xfe\x00{": -1, "<html>\x1b[2J</html>": -1, "\x1f\x8b\x08\x00\x00\x00\x00\x00": -1,
	// nested deeper than encoding/json reads
	`{"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `,"ErrorCode":0}`: -1,
}

// hostileCases combines the bodies with all statuses and all framings of HTTP/1.
func hostileCases() []hostileCase {
	framings := map[string]func(status, body string) string{
		"length": func(status, body string) string {
			return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(body),
				body)
		},
		"close": func(status, body string) string {
			return fmt.Sprintf("HTTP/1.1 %s\r\n\r\n%s", status, body)
		},
		"old": func(status, body string) string {
			return fmt.Sprintf("HTTP/1.0 %s\r\n\r\n%s", status, body)
		},
		"chunked": func(status, body string) string {
			return fmt.Sprintf("HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n",
				status, chunk(body))
		},
		// nobody requested gzip, so the body is taken as it is
		"gzip": func(status, body string) string {
			const form = "HTTP/1.1 %s\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
			return fmt.Sprintf(form, status, len(body), body)
		},
		"early": func(status, body string) string {
			return fmt.Sprintf("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"+
				"Link: x\r\n\r\nHTTP/1.1 %s\r\n\r\n%s", status, body)
		},
	}
	var all []hostileCase
	for body, code := range bodies {
		for _, status := range []string{"200 OK", "302 Found\r\nLocation: http://other.test/",
			"403 No", "429 Slow", "502 Bad", "999 Odd"} {
			for name, frame := range framings {
				text := frame(status, body)
				s := hostileCase{name: fmt.Sprintf("%s, %.12q, %.30q", name, status, body),
					play: func(c net.Conn) { _, _ = io.WriteString(c, text) }}
				switch {
				case code == -1000:
					s.label, s.code = "-1", -1
				case code > 0:
					s.label, s.code = strconv.Itoa(code), code
				case code < 0 && status[:3] == "200":
					s.label = "answer"
				case code < 0:
					s.label = "http_" + status[:3]
				}
				all = append(all, s)
			}
		}
	}
	return all
}

func chunk(body string) string {
	if body == "" {
		return ""
	}
	return fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
}

// A few hundred hostile responses: each is classified by its body and status, in time, with one
// request, and no redirect is followed.
func TestHostileResponses(t *testing.T) {
	all := hostileCases()
	if len(all) < 100 {
		t.Fatalf("only %d scripts", len(all))
	}
	for _, s := range all {
		synctest.Test(t, func(t *testing.T) {
			w := &pipeServer{serveRequest: func(c net.Conn, r *http.Request) bool {
				if r.Host != "im.test" {
					t.Errorf("%s: followed to %s", s.name, r.Host)
				}
				s.play(c)
				return false
			}}
			c := w.client(t)
			defer c.Close()
			begin := time.Now()
			err := c.MarkRead(t.Context(), validRead)
			if took := time.Since(begin); took > 5*time.Second || w.requests.Load() != 1 {
				t.Errorf("%s: %d requests in %v", s.name, w.requests.Load(), took)
			}
			if s.label == "" {
				if err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
				return
			}
			var e *imclient.Error
			if !errors.As(err, &e) || e.Label != s.label || e.ErrorCode != s.code ||
				e.RetryAfter != 0 {
				t.Errorf("%s: %v, want %s", s.name, err, s.label)
			}
		})
	}
}

// Responses that never end take at most the call's timeout, and little memory.
func TestEndlessResponsesUseLittleMemory(t *testing.T) {
	block := strings.Repeat("x", 1<<16)
	pour := func(c net.Conn, text string) {
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
	for name, play := range map[string]func(net.Conn){
		"body": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n{\"ErrorInfo\":\"")
			pour(c, block)
		},
		"chunks": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			pour(c, chunk(block))
		},
		"chunk": func(c net.Conn) {
			_, _ = io.WriteString(c,
				"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff;x=")
			pour(c, block)
		},
		"header": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			pour(c, block)
		},
		"headers": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			pour(c, "X: "+block[:1000]+"\r\n")
		},
		"status":  func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 "); pour(c, block) },
		"no HTTP": func(c net.Conn) { pour(c, block) },
		"hints": func(c net.Conn) {
			pour(c, "HTTP/1.1 103 Early Hints\r\nX: "+block[:1000]+"\r\n\r\n")
		},
		"trailers": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
			pour(c, "X: "+block[:1000]+"\r\n")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &pipeServer{serveRequest: func(c net.Conn,
				_ *http.Request) bool {
				play(c)
				return false
			}}
			c := w.client(t)
			defer c.Close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			err := c.MarkRead(t.Context(), validRead)
			took := time.Since(begin)
			runtime.ReadMemStats(&after)
			if e := (*imclient.Error)(nil); !errors.As(err, &e) || e.Class != imclient.Transient ||
				took > 5*time.Second {
				t.Errorf("%s: %v after %v", name, err, took)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
				t.Errorf("%s: allocated %d bytes", name, used)
			}
		})
	}
}

// A response's body and header are read up to a bound, and not decompressed.
func TestResponsesAreBounded(t *testing.T) {
	var sent int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Error("asks for compression")
		}
		w.Header().Set("Content-Encoding", "gzip")
		block := bytes.Repeat([]byte("x"), 1<<16)
		for sent = 0; sent < 1<<30; sent += int64(len(block)) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	c := client(t, options(server.URL))
	response, err := c.Post(t.Context(), "openim/sendmsg", nil)
	c.Close()
	server.Close()
	if got, want := outcomeOf(t,
		err), (outcome{imclient.Transient, "answer", 0, 200}); got != want ||
		len(response.Body) != 64<<10 {
		t.Errorf("%+v with %d bytes, want %+v", got, len(response.Body), want)
	}
	if sent > 32<<20 { // what fits into the sockets' buffers
		t.Errorf("the server could send %d bytes", sent)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add(200, []byte(apiResult(0, "")), "5", "Tue, 14 Nov 2023 22:14:00 GMT")
	f.Add(429, []byte(`{"ErrorCode":60007}`), "Tue, 14 Nov 2023 22:14:00 GMT", "")
	f.Add(502, []byte("<html>\x1b[2J"+base64.StdEncoding.EncodeToString([]byte(canary))), "-1", "x")
	f.Add(200, []byte(`{"ErrorCode":70009,"ErrorInfo":"`+canary+`","ActionStatus":"`+canary+`"}`),
		"", "")
	f.Fuzz(func(t *testing.T, status int, body []byte, retryAfter, date string) {
		c := offlineClient(t,
			always(status, http.Header{"Retry-After": {retryAfter}, "Date": {date}}, string(body)))
		response, err := c.Post(t.Context(), "openim/sendmsg", nil)
		for i := range len(canary) - 12 {
			if text := fmt.Sprint(err, string(response.Body), response.ErrorInfo,
				response.ActionStatus); strings.Contains(text, canary[i:i+12]) {
				t.Fatalf("the key is in %s", text)
			}
		}
		if err == nil {
			if response.ErrorCode != 0 {
				t.Error("a success with an ErrorCode")
			}
			return
		}
		var e *imclient.Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		if len(e.Message) > 200 || e.RetryAfter < 0 || e.RetryAfter > 5*time.Minute ||
			e.RetryAfter > 0 && e.Class != imclient.Throttled ||
			e.Label == "" || e.ErrorCode != response.ErrorCode ||
			strings.ContainsAny(err.Error(), "\x1b\r\n") {
			t.Errorf("%+v: %v", e, err)
		}
	})
}
