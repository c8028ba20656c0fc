package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// unexpanded is a reference to a variable. A $ alone is none: Azure has a user $ConnectionString.
var unexpanded = regexp.MustCompile(`\$\{[^}]*\}|\$\([^)]*\)`)

// comment is one behind a value. systemd keeps it, without the space before it if that is quoted.
var comment = regexp.MustCompile(`\s#|#\s`)

// Flaw returns what is wrong with a configured value, and what to do; "" if the value is valid. It
// finds what env files, templates and YAML leave in a value because a shell would have removed or
// replaced it. No flag and no path of a file needs such a value.
func Flaw(value string) (what, do string) {
	const quotes = "\"'`“”‘’"
	first, _ := utf8.DecodeRuneInString(value)
	last, _ := utf8.DecodeLastRuneInString(value)
	switch {
	case value == "":
		return "", ""
	case strings.Contains(value, "-----BEGIN"):
		return "is the text of a PEM file", "give the path of the file"
	case first == '\uFEFF':
		return "begins with a byte order mark", "save its file as UTF-8 without one"
	case last == '\r':
		return "ends with a carriage return", "save its file with Unix line endings (LF)"
	case strings.ContainsRune(quotes, first), strings.ContainsRune(quotes, last):
		return "begins or ends with a quote",
			"leave quotes out, docker's --env-file and Kubernetes keep them"
	case comment.MatchString(value):
		return "contains a comment", "give the comment a line of its own"
	case unicode.IsSpace(first), unicode.IsSpace(last):
		return "begins or ends with white space", "remove it"
	case strings.ContainsFunc(value, unicode.IsControl):
		return "contains a control character", "remove it"
	case unexpanded.MatchString(value):
		return "contains a ${NAME} or $(NAME) that nothing has replaced", "write the value itself"
	}
	return "", ""
}

// Decoders are how the parser reads durations and whole numbers. Its own do not say what is wrong
// with a value, and read 010 as 8.
func Decoders() []kong.Option {
	integer := func(bits int) kong.Mapper {
		return decoder("int", func(text string) (int64, error) { return ParseInt(text, bits) })
	}
	return []kong.Option{kong.KindMapper(reflect.Int, integer(strconv.IntSize)),
		kong.KindMapper(reflect.Int64, integer(64)),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), decoder("duration", ParseDuration))}
}

func decoder[N int64 | time.Duration](kind string, read func(string) (N, error)) kong.Mapper {
	return kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		token, err := ctx.Scan.PopValue(kind)
		if err != nil {
			return err
		}
		n, err := read(token.String())
		target.SetInt(int64(n))
		return err
	})
}

// leadingZeros are in front of a number that other programs read as octal.
var leadingZeros = regexp.MustCompile(`^[+-]?0[0-9_]+$`)

// ParseInt reads one.
func ParseInt(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 0, bits)
	switch {
	case leadingZeros.MatchString(text):
		return 0, fmt.Errorf("%s begins with a zero: leave it out", quoteShort(text))
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s is too large", quoteShort(text))
	case err != nil:
		return 0, fmt.Errorf("%s is not a whole number written in digits", quoteShort(text))
	}
	return n, nil
}

// ParseDuration reads a duration in Go's form. An error shows how one in another form is written.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	switch rewritten, bare := rewriteDuration(text); {
	case rewritten == "":
		return 0, fmt.Errorf("%s is not a duration such as 5s or 500ms", quoteShort(text))
	case bare == "":
		return 0, fmt.Errorf("write %s as %s", quoteShort(text), rewritten)
	case text == bare && len(bare) > 2 && !strings.Contains(bare, "."): // may be milliseconds
		return 0, fmt.Errorf("%s has no unit: %sms or %s", bare, bare, rewritten)
	default:
		return 0, fmt.Errorf("%s has no unit: %s", bare, rewritten)
	}
}

var durationPart = regexp.MustCompile(`^([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-zA-Z]*)\s*`)

// units are how people write them. Go has no days.
var units = map[string]string{
	"ms": "ms", "msec": "ms", "msecs": "ms", "millis": "ms", "millisecond": "ms",
	"milliseconds": "ms",
	"s":            "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"m": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
	"h": "h", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
	"d": "d", "day": "d", "days": "d",
}

// nextUnit is what a number without a unit means behind one with that unit: 1h30.
var nextUnit = map[string]string{"": "s", "d": "h", "h": "m", "m": "s", "s": "ms"}

// rewriteDuration returns a duration as Go writes it, and the number in it that has no unit, if the
// last one has none; "" if it can't be known what is meant.
func rewriteDuration(text string) (rewritten, bare string) {
	unit := ""
	for rest := strings.TrimSpace(text); rest != ""; {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil || bare != "" {
			return "", ""
		}
		rest = rest[len(m[0]):]
		number := m[1]
		if m[2] == "" {
			bare, unit = number, nextUnit[unit]
		} else {
			unit = units[strings.ToLower(m[2])]
		}
		written := unit
		if days, err := strconv.Atoi(number); err == nil && unit == "d" {
			number, written = strconv.Itoa(24*days), "h"
		}
		rewritten += number + written
	}
	if _, err := time.ParseDuration(rewritten); err != nil {
		return "", ""
	}
	return rewritten, bare
}

// quoteShort quotes a wrong value. A long one was not meant for its flag, and may be a secret.
func quoteShort(value string) string {
	if utf8.RuneCountInString(value) > 20 {
		return "a value of more than 20 characters"
	}
	return strconv.Quote(value)
}
