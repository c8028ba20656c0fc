package imclient

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

const (
	// maxMessage bounds what we pass on of a text from the server, also when
	// net/http quotes it in an error.
	maxMessage = 200
	// maxLocal bounds texts that come from this machine.
	maxLocal = 4 << 10
	// gram is the length of the pieces by which secrets are recognised: a
	// server may echo only a part of the URL, or cut it, or we may.
	gram = 12
	// keptSecrets is how many secrets are remembered: each signing brings up
	// to three, so this is the last dozen of signings.
	keptSecrets = 36
)

// masker takes secrets out of texts. Its zero value is ready; safe for any
// number of goroutines.
type masker struct {
	mu      sync.Mutex
	secrets []string // the last ones, oldest first
	pieces  atomic.Pointer[pieces]
}

// pieces are what a text is searched for. Never changed once published.
type pieces struct {
	grams map[string]struct{} // each stretch of gram bytes of each longer secret
	short []string            // secrets that are shorter
}

// add makes the masker know secrets.
func (m *masker) add(secrets ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		for i, known := range m.secrets { // to the end, not twice
			if known == secret {
				m.secrets = append(m.secrets[:i], m.secrets[i+1:]...)
				break
			}
		}
		m.secrets = append(m.secrets, secret)
	}
	m.secrets = m.secrets[max(0, len(m.secrets)-keptSecrets):]
	p := &pieces{grams: make(map[string]struct{})}
	for _, secret := range m.secrets {
		if len(secret) < gram {
			p.short = append(p.short, secret)
		}
		for i := 0; i+gram <= len(secret); i++ {
			p.grams[secret[i:i+gram]] = struct{}{}
		}
	}
	m.pieces.Store(p)
}

// userinfo finds the user and password of a URL.
var userinfo = regexp.MustCompile(`//[^\s"'<>]*@`)

// text returns text with every secret, and every longer part of one, replaced
// by "[secret]", be it plain or escaped as in URLs, JSON or HTML, also twice.
func (m *masker) text(text string) string {
	if strings.Contains(text, "@") {
		text = userinfo.ReplaceAllString(text, "//"+redacted+"@")
	}
	p := m.pieces.Load()
	if p == nil {
		return text
	}
	var marked []bool // nil: no secret so far
	for seen, level := (view{text: []byte(text)}), 0; ; level++ {
		marked = p.mark(seen, marked, len(text))
		next, changed := seen.unescaped()
		if !changed || level == 2 {
			break
		}
		seen = next
	}
	if marked == nil {
		return text
	}
	var out strings.Builder
	for i := range len(text) {
		switch {
		case !marked[i]:
			out.WriteByte(text[i])
		case i == 0 || !marked[i-1]:
			out.WriteString(redacted)
		}
	}
	return out.String()
}

// mark marks those of the size bytes of the original text that are part of a
// secret. It makes marked when there is something to mark.
func (p *pieces) mark(seen view, marked []bool, size int) []bool {
	cover := func(from, to int) {
		if marked == nil {
			marked = make([]bool, size)
		}
		for i := seen.origin(from); i < seen.origin(to); i++ {
			marked[i] = true
		}
	}
	for i := 0; i+gram <= len(seen.text); i++ {
		if _, ok := p.grams[string(seen.text[i:i+gram])]; ok {
			cover(i, i+gram)
		}
	}
	for _, secret := range p.short {
		for from := 0; ; {
			i := bytes.Index(seen.text[from:], []byte(secret))
			if i < 0 {
				break
			}
			cover(from+i, from+i+len(secret))
			from += i + 1
		}
	}
	return marked
}

// view is a text as it reads after unescaping.
type view struct {
	text []byte
	at   []int32 // byte i stands for the original bytes from at[i] to at[i+1]; nil: for itself
}

// origin returns where byte i begins in the original text.
func (v view) origin(i int) int {
	if v.at == nil {
		return i
	}
	return int(v.at[i])
}

// unescaped undoes one level of escapes of ASCII characters, whatever their
// kind: %2A, \u002a, \x2a, \/, &#42;, &#x2a;. The secrets have no others.
func (v view) unescaped() (view, bool) {
	if !bytes.ContainsAny(v.text, `%\&`) {
		return v, false
	}
	out := view{text: make([]byte, 0, len(v.text)), at: make([]int32, 0, len(v.text)+1)}
	for i := 0; i < len(v.text); {
		char, length := unescape(v.text[i:])
		out.text, out.at = append(out.text, char), append(out.at, int32(v.origin(i)))
		i += length
	}
	out.at = append(out.at, int32(v.origin(len(v.text))))
	return out, len(out.text) != len(v.text)
}

// unescape returns the first character of text and how many bytes it takes.
func unescape(text []byte) (char byte, length int) {
	switch {
	case text[0] == '%' && len(text) >= 3:
		if n, ok := number(text[1:3], 16); ok {
			return n, 3
		}
	case text[0] == '\\' && len(text) >= 6 && text[1] == 'u':
		if n, ok := number(text[2:6], 16); ok {
			return n, 6
		}
	case text[0] == '\\' && len(text) >= 4 && text[1] == 'x':
		if n, ok := number(text[2:4], 16); ok {
			return n, 4
		}
	case text[0] == '\\' && len(text) >= 2 && !isAlphanumeric(text[1]):
		return text[1], 2
	case text[0] == '&' && len(text) >= 4 && text[1] == '#':
		end := bytes.IndexByte(text[:min(len(text), 10)], ';')
		if end < 3 {
			break
		}
		digits, base := text[2:end], 10
		if digits[0] == 'x' || digits[0] == 'X' {
			digits, base = digits[1:], 16
		}
		if n, ok := number(digits, base); ok {
			return n, end + 1
		}
	}
	return text[0], 1
}

// number reads digits as the number of an ASCII character.
func number(digits []byte, base int) (byte, bool) {
	n := 0
	for _, d := range digits {
		value := bytes.IndexByte([]byte("0123456789abcdef"), d|0x20) // '0'|0x20 is '0'
		if value < 0 || value >= base {
			return 0, false
		}
		n = n*base + value
		if n > unicode.MaxASCII {
			return 0, false
		}
	}
	return byte(n), len(digits) > 0
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// message prepares a text from outside for people: masked, on one line, without
// anything that does not print, and cut to limit bytes.
func (m *masker) message(text string, limit int) string {
	return cut(strings.TrimSpace(printable(m.text(text), "")), limit)
}

// cause returns err if its text is harmless as it is, else an error with the
// same text made harmless, and without the chain below it.
func (m *masker) cause(err error, limit int) error {
	if err == nil {
		return nil
	}
	if text := m.message(err.Error(), limit); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// printable replaces by a space each character that does not print (control
// characters, invisible ones, those that change the direction of writing),
// except those in keep, and what is not UTF-8 by U+FFFD.
func printable(text, keep string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || strings.ContainsRune(keep, r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// cut shortens text to at most limit bytes, between characters.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
