package imclient

import (
	"encoding/base64"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	// pieceSize is how many bytes of a secret make a text unfit to be shown: a server may echo a
	// part of the URL. Fewer stand in a text by chance, and 11 bytes of a key's 64 are of no use.
	fragmentSize = 12
	// maxSecrets is how many secrets are remembered: three a signing, so those of a dozen.
	maxSecrets = 36
	// withheld is shown instead of a text that contains a piece of a secret.
	withheld = "withheld: the text contains a part of a " + redacted
)

// redactor removes secrets from texts. One goroutine at a time may call add, any number text.
type redactor struct {
	permanent, recent []string                      // secrets: never forgotten; the others, oldest first
	matcher           atomic.Pointer[secretMatcher] // what texts are searched for
}

// known never changes.
type secretMatcher struct {
	replacer  *strings.Replacer   // replaces each secret, also escaped for a URL, JSON or HTML
	fragments map[string]struct{} // of each secret, also in hexadecimal and base64, folded
}

func newRedactor(permanent ...string) *redactor {
	r := &redactor{permanent: permanent}
	r.add()
	return r
}

// add makes more secrets known. None may be empty.
func (r *redactor) add(secrets ...string) {
	again := func(secret string) bool { return slices.Contains(secrets, secret) }
	r.recent = append(slices.DeleteFunc(r.recent, again), secrets...)
	r.recent = r.recent[max(0, len(r.recent)-maxSecrets):]
	all := slices.Concat(r.permanent, r.recent)
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) }) // a may begin with b
	forms, fragments := []string(nil), map[string]struct{}{}
	for _, s := range all {
		quoted := strconv.Quote(s)
		escaped := []string{s, url.QueryEscape(s), html.EscapeString(s), quoted[1 : len(quoted)-1]}
		for _, form := range escaped {
			forms = append(forms, form, redacted)
		}
		encoded := []string{s, fmt.Sprintf("%x", s)}
		for _, before := range []string{"", "?", "??"} { // base64 takes groups of three bytes
			encoded = append(encoded, base64.StdEncoding.EncodeToString([]byte(before+s)))
		}
		for _, form := range encoded {
			for form = fold(form); len(form) >= fragmentSize; form = form[1:] {
				fragments[form[:fragmentSize]] = struct{}{}
			}
		}
	}
	r.matcher.Store(&secretMatcher{strings.NewReplacer(forms...), fragments})
}

// in says whether a secret or a piece of one is in text.
func (k *secretMatcher) foundIn(text string) bool {
	for folded := fold(text); len(folded) >= fragmentSize; folded = folded[1:] {
		if _, found := k.fragments[folded[:fragmentSize]]; found {
			return true
		}
	}
	return k.replacer.Replace(text) != text
}

// text replaces the users and passwords of URLs and all secrets. What still contains a piece of a
// secret, as it is or after undoing up to three levels of escapes, is withheld.
func (r *redactor) redact(text string) string {
	matcher := r.matcher.Load()
	text = matcher.replacer.Replace(userinfo.ReplaceAllString(text, "//"+redacted+"@"))
	for seen, before, level := text, "", 0; seen != before && level <= 3; level++ {
		if matcher.foundIn(seen) {
			return withheld
		}
		seen, before = unescaped(seen), seen
	}
	return text
}

var (
	userinfo = regexp.MustCompile(`//[^\s"'<>]*@`) // user and password of a URL
	toBase64 = strings.NewReplacer("-", "+", "_", "/", " ", "+")
)

// fold makes equal what differs in case, in the alphabet of base64, or in how a space is written.
func fold(text string) string { return toBase64.Replace(strings.ToLower(text)) }
