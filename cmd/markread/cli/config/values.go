package config

import (
	"cmp"
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

// unexpanded matches a reference to a variable that was not expanded. A $ alone is not one: Azure
// Event Hubs has a user named $ConnectionString.
var unexpanded = regexp.MustCompile(`\$\{[^}]*\}|\$\([^)]*\)`)

// comment matches a comment after a value. systemd keeps it, without the space before it if the
// value is quoted.
var comment = regexp.MustCompile(`\s#|#\s`)

// Flaw returns the defect of a configured value, and the remedy; both are "" if the value is
// valid. It detects what a shell would have removed or expanded, but env files, templates and YAML
// keep in a value. No flag and no file's path needs such a value.
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
			"remove the quotes: docker's --env-file and Kubernetes keep them"
	case comment.MatchString(value):
		return "contains a comment", "give the comment a line of its own"
	case unicode.IsSpace(first), unicode.IsSpace(last):
		return "begins or ends with white space", "remove it"
	case strings.ContainsFunc(value, unicode.IsControl):
		return "contains a control character", "remove it"
	case unexpanded.MatchString(value):
		return "contains an unexpanded ${NAME} or $(NAME)", "write the value itself"
	}
	return "", ""
}

// ParserOptions returns kong options for the flags of this package: their help texts, and decoders
// for durations and integers. Kong's own decoders do not explain a wrong value, and read
// 010 as 8.
func ParserOptions() []kong.Option {
	integer := func(bits int) kong.Mapper {
		return decoder("int", func(text string) (int64, error) { return ParseInt(text, bits) })
	}
	return []kong.Option{LongHelp(helpTexts), kong.KindMapper(reflect.Int, integer(strconv.IntSize)),
		kong.KindMapper(reflect.Int64, integer(64)),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), decoder("duration", ParseDuration))}
}

// LongHelp replaces each help text that is a key of texts. Kong's own variables would make every
// start of the program 6 ms longer: kong copies all of them for each flag.
func LongHelp(texts map[string]string) kong.Option {
	return kong.PostBuild(func(k *kong.Kong) error {
		return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
			var value *kong.Value
			switch node := node.(type) {
			case *kong.Flag:
				value = node.Value
			case *kong.Value:
				value = node
			}
			if value != nil {
				value.Help = cmp.Or(texts[value.Help], value.Help)
			}
			return next(nil)
		})
	})
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

// leadingZeros matches a number with a leading zero, which other programs read as octal.
var leadingZeros = regexp.MustCompile(`^[+-]?0[0-9_]+$`)

// ParseInt parses an integer in Go's syntax, of at most so many bits. Leading zeros are an error.
func ParseInt(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 0, bits)
	switch {
	case leadingZeros.MatchString(text):
		return 0, fmt.Errorf("%s begins with a zero: remove it", quoteShort(text))
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s is too large", quoteShort(text))
	case err != nil:
		return 0, fmt.Errorf("%s is not a whole number written in digits", quoteShort(text))
	}
	return n, nil
}

// ParseDuration parses a duration in Go's syntax. For a duration in another syntax, the error shows
// how to write it.
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

// units maps spellings of units to Go's. Go has no days; rewriteDuration converts them.
var units = map[string]string{
	"ms": "ms", "msec": "ms", "msecs": "ms", "millis": "ms", "millisecond": "ms",
	"milliseconds": "ms",
	"s":            "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"m": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
	"h": "h", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
	"d": "d", "day": "d", "days": "d",
}

// nextUnit is the unit of a number without one that follows a number with a unit: 1h30 is 1h30m.
var nextUnit = map[string]string{"": "s", "d": "h", "h": "m", "m": "s", "s": "ms"}

// rewriteDuration returns a duration in Go's syntax, and its last number if that has no unit. It
// returns "" if the meaning is not clear.
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

// quoteShort quotes a wrong value. A value of more than 20 characters is not shown: it was not
// meant for its flag, and may be a secret.
func quoteShort(value string) string {
	if utf8.RuneCountInString(value) > 20 {
		return "a value of more than 20 characters"
	}
	return strconv.Quote(value)
}
