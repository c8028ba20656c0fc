package imclient

import (
	"errors"
	"html"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxMessage bounds what is passed on of a text from the server, also when net/http quotes it
	// in an error.
	maxMessage = 200
	// maxLocal bounds texts that come from this machine.
	maxLocalMessage = 4 << 10
	// lookahead is how much more of a text is searched for secrets than is shown at most: it may
	// begin with what does not print, and secrets get shorter. What follows can't be shown and is
	// not searched, because a server may send much more than anybody reads.
	lookahead = 4 << 10
)

// message prepares a text from outside for people: without secrets, on one line, without anything
// that does not print, and cut to limit bytes.
func (r *redactor) sanitize(text string, limit int) string {
	text = r.redact(text[:min(len(text), limit+lookahead)])
	return truncate(strings.TrimSpace(printable(text, "")), limit)
}

// cause returns err if its text is harmless as it is, else an error with the same text made
// harmless, and without the chain below it.
func (r *redactor) sanitizeErr(err error, limit int) error {
	if err == nil {
		return nil
	}
	if text := r.sanitize(err.Error(), limit); text != err.Error() {
		return errors.New(text)
	}
	return err
}

var escape = regexp.MustCompile(`(%|\\x|\\u00)[0-9A-Fa-f]{2}|\\[[:punct:]]`)

// unescaped undoes one level of the escapes of URLs, JSON, HTML and the logs of nginx.
func unescaped(text string) string {
	return html.UnescapeString(escape.ReplaceAllStringFunc(text, func(e string) string {
		if n, err := strconv.ParseUint(e[max(1, len(e)-2):], 16, 8); err == nil {
			return string([]byte{byte(n)})
		}
		return e[1:]
	}))
}

// printable replaces by a space each character that does not print (control characters, invisible
// ones, those that change the direction of writing), except those in keep, and what is not UTF-8 by
// U+FFFD.
func printable(text, keep string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || strings.ContainsRune(keep, r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// cut shortens text to at most limit bytes, between characters.
func truncate(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
