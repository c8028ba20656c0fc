package imclient

import (
	"bytes"
	"encoding/binary"
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
	// lookahead is how much more of a text is searched than is shown at most: it
	// may begin with what does not print, and secrets get shorter.
	lookahead = 4 << 10
	// blindEdge is not shown of a text that was cut before it was searched: the
	// piece of a secret there may be too short to be recognised. It is what a
	// gram takes at most: in hexadecimal, each digit escaped twice.
	blindEdge = 2 * gram * maxEscape * maxEscape
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
	kept    []string // those that are never forgotten
	pieces  atomic.Pointer[pieces]
}

// pieces are what a text is searched for. Never changed once published.
type pieces struct {
	grams map[string]struct{} // each stretch of gram bytes of each longer secret
	maybe [1 << 12]uint64     // a bit for the hash of each gram: spares most looks into the map
	short []string            // secrets that are shorter
}

func (p *pieces) add(secret string) {
	if len(secret) < gram {
		p.short = append(p.short, secret)
	}
	for i := 0; i+gram <= len(secret); i++ {
		word, bit := hash([]byte(secret[i : i+gram]))
		p.grams[secret[i:i+gram]] = struct{}{}
		p.maybe[word] |= bit
	}
}

// has says whether a stretch of gram bytes is part of a secret.
func (p *pieces) has(stretch []byte) bool {
	if word, bit := hash(stretch); p.maybe[word]&bit == 0 {
		return false
	}
	_, ok := p.grams[string(stretch)]
	return ok
}

// hash returns which bit of pieces.maybe belongs to a gram.
func hash(gram []byte) (word int, bit uint64) {
	h := binary.LittleEndian.Uint64(gram) * 0x9e3779b97f4a7c15 >> 46 // 18 bits
	return int(h >> 6), 1 << (h & 63)
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
	m.publish()
}

// keep makes the masker know secrets that are never to be forgotten.
func (m *masker) keep(secrets ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, secrets...)
	m.publish()
}

// publish makes texts be searched for what is known now. The caller holds the
// lock.
func (m *masker) publish() {
	p := &pieces{grams: make(map[string]struct{})}
	for _, secret := range m.kept {
		p.add(secret)
	}
	for _, secret := range m.secrets {
		p.add(secret)
	}
	m.pieces.Store(p)
}

// userinfo finds the user and password of a URL.
var userinfo = regexp.MustCompile(`//[^\s"'<>]*@`)

// text returns text with every secret, and every longer part of one, replaced
// by "[secret]", be it plain, escaped as in URLs, JSON or HTML, also twice, or
// in hexadecimal or base64.
func (m *masker) text(text string) string { return m.start(text, 0) }

// start is text without what stands for the last hidden bytes.
func (m *masker) start(text string, hidden int) string {
	if strings.Contains(text, "@") {
		text = userinfo.ReplaceAllString(text, "//"+redacted+"@")
	}
	shown := max(0, len(text)-hidden)
	p := m.pieces.Load()
	if p == nil {
		return text[:shown]
	}
	var marked []bool // nil: no secret so far
	for seen, level := (view{text: []byte(text)}), 0; ; level++ {
		marked = p.mark(seen, marked, len(text))
		for _, inner := range seen.decoded() {
			marked = p.mark(inner, marked, len(text))
		}
		next, changed := seen.unescaped()
		if !changed || level == 2 {
			break
		}
		seen = next
	}
	if marked == nil {
		return text[:shown]
	}
	var out strings.Builder
	for i := range shown {
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
		if p.has(seen.text[i : i+gram]) {
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

// message prepares a text from outside for people: masked, on one line, without
// anything that does not print, and cut to limit bytes. What can't be shown is
// not searched: a server may send much more than anybody reads.
func (m *masker) message(text string, limit int) string {
	hidden := 0
	if len(text) > limit+lookahead {
		text, hidden = text[:limit+lookahead], blindEdge
	}
	return cut(strings.TrimSpace(printable(m.start(text, hidden), "")), limit)
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
