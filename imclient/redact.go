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
	// fragmentSize is how many bytes of a secret make a text unfit to be shown: a server may echo a
	// part of the URL. Shorter sequences occur in a text by chance, and 11 of a key's 64 bytes are
	// useless.
	fragmentSize = 12
	// maxSecrets is how many secrets are remembered: three for each signing, so those of a dozen
	// signings.
	maxSecrets = 36
	// withheld replaces a text that contains a fragment of a secret.
	withheld = "withheld: the text contains a part of a " + redacted
)

// redactor removes secrets from texts. add must not be called concurrently; redact may be.
type redactor struct {
	// permanent secrets are never forgotten; recent ones are, oldest first
	permanent, recent []string
	// what texts are searched for
	matcher atomic.Pointer[secretMatcher]
}

// secretMatcher finds secrets in a text. It is immutable.
type secretMatcher struct {
	// replaces each secret, also escaped for a URL, JSON or HTML
	replacer *strings.Replacer
	// fragments of each secret, also in hexadecimal and base64, folded
	fragments map[string]struct{}
}

func newRedactor(permanent ...string) *redactor {
	r := &redactor{permanent: permanent}
	r.add()
	return r
}

// add adds secrets to search for. None may be empty.
func (r *redactor) add(secrets ...string) {
	again := func(secret string) bool { return slices.Contains(secrets, secret) }
	r.recent = append(slices.DeleteFunc(r.recent, again), secrets...)
	r.recent = r.recent[max(0, len(r.recent)-maxSecrets):]
	all := slices.Concat(r.permanent, r.recent)
	// a longer one first: it may begin with a shorter one
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	forms, fragments := []string(nil), map[string]struct{}{}
	for _, s := range all {
		quoted := strconv.Quote(s)
		escaped := []string{s, url.QueryEscape(s), html.EscapeString(s), quoted[1 : len(quoted)-1]}
		for _, form := range escaped {
			forms = append(forms, form, redacted)
		}
		encoded := []string{s, fmt.Sprintf("%x", s)}
		for _, before := range []string{"", "?", "??"} { // base64 encodes groups of three bytes
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

// foundIn reports whether text contains a secret or a fragment of one.
func (k *secretMatcher) foundIn(text string) bool {
	for folded := fold(text); len(folded) >= fragmentSize; folded = folded[1:] {
		if _, found := k.fragments[folded[:fragmentSize]]; found {
			return true
		}
	}
	return k.replacer.Replace(text) != text
}

// redact replaces the users and passwords of URLs and all secrets. A text that still contains a
// fragment of a secret, as it is or after undoing up to three levels of escapes, is withheld.
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

// fold makes texts equal that differ only in case, in the alphabet of base64, or in how a space is
// encoded.
func fold(text string) string { return toBase64.Replace(strings.ToLower(text)) }
