package imclient_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"markread/imclient"
)

// secretScanner searches everything that a response and an error reveal: the error's whole chain,
// and all ways of printing each link.
type secretScanner struct {
	fragments []string
}

// newSecretScanner searches for parts of secrets, eight bytes long, in the encodings that a server
// or Go might use.
func newSecretScanner(secrets ...string) secretScanner {
	var h secretScanner
	for _, secret := range secrets {
		for i := 0; i+8 <= len(secret); i += 4 {
			h.fragments = append(h.fragments, secret[i:i+8])
		}
		h.fragments = append(h.fragments, fmt.Sprintf("%x", secret[:min(8, len(secret))]))
		for i := range min(len(secret), 36) - 9 { // three groups of base64, from each byte on
			three := base64.RawStdEncoding.EncodeToString([]byte(secret[i : i+9]))
			h.fragments = append(h.fragments, three,
				strings.NewReplacer("+", "-", "/", "_").Replace(three))
		}
	}
	return h
}

func (h secretScanner) find(text string) (string, bool) {
	if flat, err := url.QueryUnescape(text); err == nil {
		text += "\n" + flat
	}
	text += "\n" + html.UnescapeString(text)
	for _, fragment := range h.fragments {
		if strings.Contains(text, fragment) {
			return fragment, true
		}
	}
	return "", false
}

func (h secretScanner) check(t *testing.T, name string, response imclient.Response, err error) {
	t.Helper()
	shown := []any{response, string(response.Body), response.ErrorInfo, response.ActionStatus}
	for link := []error{err}; len(link) > 0; link = link[1:] {
		switch e := link[0].(type) {
		case nil:
			continue
		case interface{ Unwrap() error }:
			link = append(link, e.Unwrap())
		case interface{ Unwrap() []error }:
			link = append(link, e.Unwrap()...)
		}
		shown = append(shown, link[0])
		var e *imclient.Error
		if errors.As(link[0], &e) {
			shown = append(shown, *e, e.Message, e.Meaning(), e.Remedy(), e.Label)
		}
	}
	for _, value := range shown {
		texts := []string{fmt.Sprint(value), fmt.Sprintf("%+v", value), fmt.Sprintf("%#v", value),
			fmt.Sprintf("%q", value), fmt.Sprintf("%s", value)}
		if text, err := json.Marshal(value); err == nil {
			texts = append(texts, string(text))
		}
		for _, text := range texts {
			if fragment, found := h.find(text); found {
				t.Errorf("%s: %q is in %T: %s", name, fragment, value, text)
			}
		}
	}
}

// All kinds of failures, with a server that echoes whatever it can: no result contains the key, the
// signature or a password.
func TestNoSecretLeaks(t *testing.T) {
	var mu sync.Mutex
	var echo string // the request's URL, as the server saw it
	ways := map[string]func(net.Conn){
		"page": func(c net.Conn) { reply(c, 502, "", "<html>upstream failed: "+echo+"</html>") },
		"page, HTML": func(c net.Conn) {
			reply(c, 500, "", "<a>"+html.EscapeString(echo))
		},
		"page, escaped": func(c net.Conn) {
			reply(c, 404, "", "?back="+url.QueryEscape(echo))
		},
		"page, twice":    func(c net.Conn) { reply(c, 404, "", escapedTwice(echo)) },
		"page, entities": func(c net.Conn) { reply(c, 404, "", entities(echo)) },
		"page, base64":   func(c net.Conn) { reply(c, 502, "", toBase64(echo)) },
		"page, base64 2": func(c net.Conn) {
			reply(c, 502, "", "id="+base64.RawURLEncoding.EncodeToString([]byte(echo[1:])))
		},
		"page, hex": func(c net.Conn) {
			reply(c, 502, "", hex.EncodeToString([]byte(echo)))
		},
		"throttled": func(c net.Conn) { reply(c, 429, "Retry-After: 5\r\n", echo) },
		"info": func(c net.Conn) {
			reply(c, 200, "", apiResult(70009, "bad: "+echo))
		},
		"info, success": func(c net.Conn) {
			reply(c, 200, "", apiResult(0, "good: "+echo))
		},
		"info, JSON": func(c net.Conn) {
			reply(c, 200, "", `{"ErrorCode":90001,"ErrorInfo":"`+entitiesJSON(echo)+`"}`)
		},
		"decoded": func(c net.Conn) {
			at, _ := url.Parse(echo)
			reply(c, 200, "", apiResult(70009,
				fmt.Sprint("bad: ", unpacked(t, at.Query().Get("usersig"))["TLS.sig"])))
		},
		"status": func(c net.Conn) {
			reply(c, 200, "", fmt.Sprintf(`{"ErrorCode":1,"ActionStatus":%q}`, echo))
		},
		"garbage": func(c net.Conn) { reply(c, 200, "", echo) },
		"redirect": func(c net.Conn) {
			reply(c, 302, "Location: http://other.test"+echo+"\r\n", echo)
		},
		"too long": func(c net.Conn) {
			reply(c, 200, "", strings.Repeat(echo+"\n", 1<<20/len(echo)))
		},
		"cut": func(c net.Conn) { reply(c, 502, "", echo[:len(echo)*2/3]) },
		"broken body": func(c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n%s", echo)
		},
		"broken page": func(c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 502 Bad\r\nContent-Length: 9999\r\n\r\n%s", echo)
		},
		"no HTTP":     func(c net.Conn) { fmt.Fprintf(c, "%s\r\n\r\n", echo) },
		"odd version": func(c net.Conn) { fmt.Fprintf(c, "HTTP/%s 200 OK\r\n\r\n", echo) },
		"odd status":  func(c net.Conn) { fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", echo) },
		"odd header":  func(c net.Conn) { fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", echo) },
		"odd length": func(c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n", echo)
		},
		"odd encoding": func(c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n", echo)
		},
		"odd chunk": func(c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n", echo)
		},
		"odd trailer": func(c net.Conn) {
			fmt.Fprintf(c,
				"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: %s\r\n\r\n0\r\n%s\r\n",
				echo, echo)
		},
		"other protocol": func(c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 101 %s\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\n%s", echo,
				echo, echo)
		},
		"long header": func(c net.Conn) {
			reply(c, 200, strings.Repeat("X: "+echo+"\r\n", 999), "")
		},
		"odd Retry-After": func(c net.Conn) {
			reply(c, 429, "Retry-After: "+echo+"\r\nDate: "+echo+"\r\n", "")
		},
		"hang":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"end":   func(net.Conn) {},
		"reset": func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) },
	}
	for name, way := range ways {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w := &pipeServer{serveRequest: func(c net.Conn, r *http.Request) bool {
			mu.Lock()
			echo = r.RequestURI
			mu.Unlock()
			way(c)
			return false
		}}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				w.serve(conn)
			}
		}()
		o := options("http://" + listener.Addr().String())
		o.Timeout = 200 * time.Millisecond
		c := client(t, o)
		response, err := c.Post(t.Context(), "openim/sendmsg", map[string]string{"a": "b"})
		listener.Close()
		mu.Lock()
		echo := echo // the URL in this response; its connection may outlive the call
		mu.Unlock()
		if err == nil && name != "info, success" || echo == "" {
			t.Fatalf("%s: did not fail: %v", name, err)
		}
		scannerForURL(t, echo).check(t, name, response, err)
		if _, err := c.Post(t.Context(), "openim/sendmsg", nil); err == nil { // refused by now
			t.Errorf("%s: a second call succeeded", name)
		} else {
			scannerForURL(t, echo).check(t, name+", then refused", imclient.Response{}, err)
		}
		if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, canary[:8]) {
			t.Errorf("%s: the client prints the key", name)
		}
		c.Close()
	}
}

// scannerForURL searches for the signature in a request's URL, and for the key.
func scannerForURL(t *testing.T, address string) secretScanner {
	t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	sig := at.Query().Get("usersig")
	mac, _ := unpacked(t, sig)["TLS.sig"].(string)
	if len(sig) < 100 || len(mac) < 40 {
		t.Fatalf("no signature in %s", address)
	}
	return newSecretScanner(sig, mac, canary)
}

func escapedTwice(text string) string { return url.QueryEscape(url.QueryEscape(text)) }

func entities(text string) string {
	var out strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&out, []string{"&#%d;", "&#x%x;", "&#X%X;", "%%%02x", "%%%02X"}[i%5], text[i])
	}
	return out.String()
}

func entitiesJSON(text string) string {
	var out strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&out, `\u%04x`, text[i])
	}
	return out.String()
}

// A transport from elsewhere may quote the URL in its errors, and a key source its key.
func TestNoSecretLeaksFromTransportErrors(t *testing.T) {
	var at string
	for name, wrap := range map[string]func(*http.Request) error{
		"url.Error": func(r *http.Request) error {
			return &url.Error{Op: "Post", URL: r.URL.String(), Err: io.EOF}
		},
		"quoted": func(r *http.Request) error {
			return fmt.Errorf("failed: %q: %w", r.URL, context.Canceled)
		},
		"base64": func(r *http.Request) error { return fmt.Errorf("failed: key %s", canary) },
		"proxy": func(*http.Request) error {
			return errors.New(`invalid proxy address "http://user:` + canary + `@host name"`)
		},
	} {
		c := offlineClient(t, withTransport(func(r *http.Request) (*http.Response, error) {
			at = r.URL.String()
			return nil, wrap(r)
		}))
		response, err := c.Post(t.Context(), "openim/sendmsg", nil)
		if outcomeOf(t, err).label != "reset" {
			t.Errorf("%s: %v", name, err)
		}
		scannerForURL(t, at).check(t, name, response, err)
	}

	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Repeat(canary, 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := offlineClient(t, func(o *imclient.Options) { o.Key = imclient.KeyFile(path) })
	response, err := c.Post(t.Context(), "openim/sendmsg", nil)
	newSecretScanner(canary).check(t, "key file", response, err)
}

// A harmless chain is kept.
func TestHarmlessCausesAreKept(t *testing.T) {
	cause := errors.New("harmless")
	err := offlineClient(t, withTransport(func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("it is %w", cause)
	})).MarkRead(t.Context(), validRead)
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "it is harmless") {
		t.Error(err)
	}
}

func TestMask(t *testing.T) {
	var sig string
	c := offlineClient(t, withTransport(func(r *http.Request) (*http.Response, error) {
		sig = r.URL.Query().Get("usersig")
		return respond(200, nil, apiResult(0, ""))
	}))
	if text := "before the first call there is nothing to know"; c.Mask(text) != text {
		t.Error("masked without a secret")
	}
	if err := c.MarkRead(t.Context(), validRead); err != nil {
		t.Fatal(err)
	}
	const s = "[secret]"
	for in, want := range map[string]string{
		"":                                   "",
		"plain":                              "plain",
		"100% of a\\b &amp; &#; &#x; %":      "100% of a\\b &amp; &#; &#x; %",
		sig:                                  s,
		canary:                               s,
		"a " + sig + " b " + canary + " c":   "a " + s + " b " + s + " c",
		sig + sig:                            s + s,
		url.QueryEscape(sig):                 s,
		"字" + canary + "字":                   "字" + s + "字",
		"http://user:pw@host/p":              "http://" + s + "@host/p",
		`"https://u:p%20w@h" and http://ok/`: `"https://` + s + `@h" and http://ok/`,
		"mail a@b, no // there":              "mail a@b, no // there",
		// A part of a secret, and a form that can't be replaced.
		"x=" + sig[:40]:                    withheld,
		"x=" + sig[60:72]:                  withheld,
		"x=" + sig[60:71]:                  "x=" + sig[60:71],
		"x=" + strings.ToUpper(canary):     withheld,
		url.QueryEscape(entities(sig)):     withheld,
		url.QueryEscape(entitiesJSON(sig)): withheld,
		"<" + entities(sig) + ">":          withheld,
		"<" + entitiesJSON(sig) + ">":      withheld,
	} {
		if got := c.Mask(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for _, plain := range []string{
		"0123456789abcdef0123456789abcdef", strings.Repeat("QUJD", 20),
		"https://console.tim.qq.com/v4/openim/admin_set_msg_read",
	} {
		if c.Mask(plain) != plain {
			t.Errorf("%q masked as %q", plain, c.Mask(plain))
		}
	}
	// Short keys are secrets too.
	hush := func(o *imclient.Options) { o.Key = imclient.Key(imclient.NewSecret("hush")) }
	c = offlineClient(t, hush, always(200, nil, apiResult(0, "")))
	if err := c.MarkRead(t.Context(), validRead); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"a hush, hushhush, hus": "a [secret], [secret][secret], hus",
		"a &#104;ush":           withheld,
	} {
		if got := c.Mask(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
