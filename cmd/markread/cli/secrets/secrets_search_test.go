package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// minPiece is the length, in bytes, of the pieces of a secret that secretFinder looks for. Text of
// this length is never equal by chance.
const minPiece = 12

// secretFinder finds secrets, or parts of them, in the forms that servers, proxies and libraries
// may give them. It shares no code with the masking.
type secretFinder struct {
	mu     sync.Mutex
	known  map[string]bool
	pieces map[string]string // the secret that a piece belongs to
}

func newSecretFinder() *secretFinder {
	return &secretFinder{known: map[string]bool{}, pieces: map[string]string{}}
}

// add adds a secret to find.
func (h *secretFinder) add(name, secret string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known[secret] {
		return
	}
	h.known[secret] = true
	for i := 0; i+minPiece <= len(secret); i++ {
		piece := secret[i : i+minPiece]
		h.pieces[piece] = name
		h.pieces[hex.EncodeToString([]byte(piece))] = name + " in hexadecimal"
		// Twelve bytes are sixteen base64 digits, if they begin at the start of a group of three.
		h.pieces[base64.StdEncoding.EncodeToString([]byte(piece))] = name + " in base64"
		h.pieces[base64.URLEncoding.EncodeToString([]byte(piece))] = name + " in base64 for URLs"
	}
}

// pieceLengths are the lengths of all pieces.
var pieceLengths = [...]int{minPiece, minPiece * 4 / 3, minPiece * 2}

// find returns the names of the secrets in a text, before and after undoing its escapes, each with
// the surrounding text.
func (h *secretFinder) find(text string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for range 4 {
		shown := []string{text}
		if lower := lowerHex(text); lower != text {
			shown = append(shown, lower)
		}
		for _, form := range shown {
			for i := range len(form) {
				for _, length := range pieceLengths {
					if i+length > len(form) {
						continue
					}
					if name, ok := h.pieces[form[i:i+length]]; ok {
						return append(names,
							fmt.Sprintf("%s: …%q…", name,
								form[max(0, i-40):min(len(form), i+length+40)]))
					}
				}
			}
		}
		flat := unescaped(text)
		if flat == text {
			break
		}
		text = flat
	}
	return names
}

// check fails the test if a text contains a secret.
func (h *secretFinder) check(t *testing.T, where, text string) {
	t.Helper()
	for _, name := range h.find(text) {
		t.Errorf("%s shows %s", where, name)
	}
}

var (
	manyHex = regexp.MustCompile(`[0-9A-F]{24,}`)
	escape  = regexp.MustCompile(
		`%[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[^a-zA-Z0-9]|&#?[a-zA-Z0-9]{1,8};`)
)

func lowerHex(text string) string { return manyHex.ReplaceAllStringFunc(text, strings.ToLower) }

// unescaped undoes one level of escapes of URLs, JSON, nginx logs and HTML.
func unescaped(text string) string {
	return escape.ReplaceAllStringFunc(text, func(e string) string {
		digits := ""
		switch {
		case e[0] == '&':
			return html.UnescapeString(e)
		case e[0] == '%':
			digits = e[1:]
		case e[1] == 'u' || e[1] == 'x':
			digits = e[2:]
		default:
			return e[1:]
		}
		n, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return e
		}
		return string(rune(n))
	})
}

// forms are the forms in which a hostile server returns the URL of the request, and in which
// secretFinder must find its secrets.
var forms = map[string]func(string) string{
	"plain":     func(s string) string { return s },
	"url":       url.QueryEscape,
	"url2":      func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"html":      html.EscapeString,
	"json":      func(s string) string { return strings.Trim(strconv.QuoteToASCII(s), `"`) },
	"percent":   func(s string) string { return bytewise(s, "%%%02X") },
	"unicode":   func(s string) string { return bytewise(s, `\u%04x`) },
	"nginx":     func(s string) string { return bytewise(s, `\x%02X`) },
	"entities":  func(s string) string { return bytewise(s, "&#%d;") },
	"base64":    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64url": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"hex":       func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":       func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"upstream": func(s string) string {
		return `upstream: "` + s + `", request: "POST ` + s +
			` HTTP/1.1"`
	},
	"middle": func(s string) string { return s[len(s)/2-10 : len(s)/2+10] },
}

func bytewise(s, format string) string {
	var out strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&out, format, s[i])
	}
	return out.String()
}

// The finder finds secrets in every form and position, and nothing in other text.
func TestSecretFinder(t *testing.T) {
	h := newSecretFinder()
	h.add("the key", canaryKey)
	h.add("the password", canaryPassword)
	for name, form := range forms {
		for shift := range 4 {
			before := strings.Repeat("x", shift)
			for _, secret := range []string{canaryKey, canaryPassword} {
				for _, part := range []string{secret, secret[3 : 3+minPiece+5]} {
					if name == "middle" && part != secret {
						continue
					}
					text := `{"error":"` + form("http://im.test/"+before+part) + `"}`
					if name == "middle" {
						text = form(part)
					}
					if len(h.find(text)) == 0 {
						t.Errorf("%s, after %d: not found in %s", name, shift, text)
					}
				}
			}
		}
	}
	for _, text := range []string{
		"", "[secret]", canaryKey[:minPiece-1], strings.Repeat("0123456789abcdef", 8),
		"usersig=[secret]&random=7",
	} {
		h.check(t, "harmless text", text)
	}
}
