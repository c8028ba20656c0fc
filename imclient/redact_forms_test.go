package imclient_test

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"markread/imclient"
)

// encodings in which a server may show a secret, beside escapes.
var encodings = map[string]func(string) string{
	"base64":          toBase64,
	"base64 for URLs": func(s string) string { return url64.EncodeToString([]byte(s)) },
	"hex":             toHex,
	"HEX":             func(s string) string { return strings.ToUpper(toHex(s)) },
	"escaped base64":  func(s string) string { return url.QueryEscape(toBase64(s)) },
}

var url64 = base64.RawURLEncoding

func toBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
func toHex(s string) string    { return hex.EncodeToString([]byte(s)) }

// A proxy's response may show what we sent: the header Proxy-Authorization, or the proxy's address.
func TestProxyPasswordsAreMasked(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://user:p%20w/"+canary[:8]+"@proxy.test:3128")
	t.Setenv("https_proxy", "user:"+canary[20:30]+" @ho st")
	t.Setenv("HTTPS_PROXY", "http://user@proxy.test")
	t.Setenv("http_proxy", "http://user:x@proxy.test")
	c := offlineClient(t, always(200, nil, apiResult(0, "")))
	for in, want := range map[string]string{
		"p w/" + canary[:8]:             "[secret]",
		"it is p%20w/" + canary[:8]:     "it is [secret]",
		"it is " + canary[20:30] + " !": "it is [secret]!",
		"x, proxy.test":                 "x, proxy.test",
	} {
		if got := c.Mask(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	basic := base64.StdEncoding.EncodeToString([]byte("user:p w/" + canary[:8]))
	if got := c.Mask("Basic " + basic + "."); got != "Basic [secret]." {
		t.Errorf("%q", got)
	}
	for range 100 { // more signatures than are remembered
		if err := c.MarkRead(t.Context(), validRead); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.Mask("p w/" + canary[:8]); got != "[secret]" {
		t.Errorf("forgotten: %q", got)
	}
}

const withheld = "withheld: the text contains a part of a [secret]"

func TestNewMask(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://user:"+canary[20:30]+"@proxy.test")
	odd := `odd"\<> key?/+&-` + canary[:8]
	mask := imclient.NewMask(imclient.NewSecret("hush"), imclient.NewSecret("hush, hush"),
		imclient.Secret{}, imclient.NewSecret(odd))
	quoted := strconv.Quote(odd)
	for in, want := range map[string]string{
		"hush " + canary[20:30]:            "[secret] [secret]",
		"hush, hush":                       "[secret]", // not the shorter secret twice
		"as it is: " + odd:                 "as it is: [secret]",
		"URL: " + url.QueryEscape(odd):     "URL: [secret]",
		"JSON: " + quoted[1:len(quoted)-1]: "JSON: [secret]",
		"HTML: " + html.EscapeString(odd):  "HTML: [secret]",
		odd[2:14]:                          withheld,
		odd[2:13]:                          odd[2:13],
	} {
		if got := mask(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for shift := range 3 {
		for name, encode := range encodings {
			in := encode(strings.Repeat("(", shift) + odd[:12] + "~~")
			if got := mask(in); got != withheld {
				t.Errorf("%s after %d bytes: %q", name, shift, got)
			}
		}
	}
	if got := imclient.NewMask()("plain //u:p@h"); got != "plain //[secret]@h" {
		t.Errorf("%q", got)
	}
}

func BenchmarkMask(b *testing.B) {
	c := offlineClient(b, always(200, nil, apiResult(0, "")))
	if err := c.MarkRead(b.Context(), validRead); err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"words":    strings.Repeat("the quick brown fox &amp; ", 64<<10/26),
		"base64":   strings.Repeat("QUJD", 16<<10),
		"response": apiResult(60007, "the calls of this API exceed the frequency limit"),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c.Mask(text)
			}
		})
	}
}

// A secret in any escaped form is masked, wherever it is.
func FuzzMask(f *testing.F) {
	f.Add("a", "b", 0, 50, 0)
	f.Add("%", "&#", 3, 20, 1)
	f.Add(`\`, ";", 3, 20, 2)
	f.Add("(", "~", 3, 20, 3)
	f.Add("QUJD", "=", 3, 20, 4)
	c := offlineClient(f, always(200, nil, apiResult(0, "")))
	if err := c.MarkRead(f.Context(), validRead); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, before, after string, from, length, way int) {
		if from < 0 || length < 12 || from > len(canary) || length > len(canary)-from {
			return
		}
		part := canary[from : from+length]
		escape := []func(string) string{
			func(s string) string { return s }, entities, entitiesJSON,
			encodings["base64"], encodings["base64 for URLs"], encodings["hex"],
		}[uint(way)%6]
		got := c.Mask(before + escape(part) + after)
		if strings.Contains(got, escape(part)) && !strings.Contains(before+after, escape(part)) {
			t.Errorf("%q came through: %q", part, got)
		}
	})
}
