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
	// maxMessage bounds how much of a server's text is shown, also when net/http quotes it in an
	// error.
	maxMessage = 200
	// maxLocalMessage bounds texts from this machine.
	maxLocalMessage = 4 << 10
	// lookahead is how much more of a text is searched for secrets than is shown at most: the text
	// may begin with unprintable characters, and secrets are replaced by a shorter text. The rest
	// can't be shown and is not searched, because a server may send much more than anybody reads.
	lookahead = 4 << 10
)

// sanitize makes a text from outside fit to be shown: without secrets, on one line, without
// unprintable characters, and truncated to limit bytes.
func (r *redactor) sanitize(text string, limit int) string {
	text = r.redact(text[:min(len(text), limit+lookahead)])
	return truncate(strings.TrimSpace(printable(text, "")), limit)
}

// sanitizeErr returns err if its text is harmless, else an error with the sanitized text and
// without the chain below it.
func (r *redactor) sanitizeErr(err error, limit int) error {
	if err == nil {
		return nil
	}
	if text := r.sanitize(err.Error(), limit); text != err.Error() {
		return errors.New(text)
	}
	return err
}

var markup = regexp.MustCompile(`(?is)<head>.*?</head>|<[^>]*>`)

// withoutMarkup returns the text at the beginning of a body, without HTML markup and with single
// spaces: a gateway responds with a page.
func withoutMarkup(body []byte) string {
	text := body[:min(len(body), maxMessage+lookahead)]
	return strings.Join(strings.Fields(markup.ReplaceAllString(string(text), " ")), " ")
}

var escape = regexp.MustCompile(`(%|\\x|\\u00)[0-9A-Fa-f]{2}|\\[[:punct:]]`)

// unescaped undoes one level of escapes as in URLs, JSON, HTML and nginx's logs.
func unescaped(text string) string {
	return html.UnescapeString(escape.ReplaceAllStringFunc(text, func(e string) string {
		if n, err := strconv.ParseUint(e[max(1, len(e)-2):], 16, 8); err == nil {
			return string([]byte{byte(n)})
		}
		return e[1:]
	}))
}

// printable replaces each unprintable character (control characters, invisible ones, characters
// that change the direction of writing) by a space, except those in keep, and invalid UTF-8 by
// U+FFFD.
func printable(text, keep string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || strings.ContainsRune(keep, r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// truncate shortens text to at most limit bytes, between characters.
func truncate(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
