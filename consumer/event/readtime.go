package event

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"markread/consumer/printable"
)

const (
	// minTime is the earliest valid read time and event time, 2001-09-09, in seconds since 1970. A
	// smaller number is in another unit, and as T it would mark nothing as read.
	minTime = 1_000_000_000

	maxAhead = 5 * time.Minute
)

// ErrNoTime is the error of an otherwise valid event without a MsgReadTime and without any other
// time.
var ErrNoTime = errors.New("no time at all: no " + ReadTimeField + ", no " + HeaderEventTime +
	" header, no record timestamp")

// EventTime returns when the user read: the time in the header, else the record's timestamp, else
// zero. A result other than zero is not before minTime. It fails if the header is malformed.
func EventTime(record Record) (time.Time, error) {
	return eventTime(record.Headers, record.Time)
}

func eventTime(headers []Header, timestamp time.Time) (time.Time, error) {
	value, ok := lastHeader(headers, HeaderEventTime)
	if !ok {
		if timestamp.Unix() < minTime {
			return time.Time{}, nil
		}
		return timestamp, nil
	}
	ms, ok := parseDigits(value)
	if !ok || len(value) > 15 || ms < minTime*1000 {
		text := string(value)
		return time.Time{}, newValueError(text, fmt.Errorf("the header %s is malformed: %s is not "+
			"milliseconds since 1970 (13 to 15 digits)%s", HeaderEventTime, show(text),
			looksLike(text, milliseconds)))
	}
	return time.UnixMilli(ms), nil
}

// resolveReadTime returns T: MsgReadTime (raw is its JSON value, or nil), else the event time of
// the record.
func resolveReadTime(raw []byte, eventTime, timestamp, latest time.Time) (int64, error) {
	if raw != nil && string(raw) != "null" {
		if raw[0] == '"' {
			raw, _ = unquote(raw)
		}
		return parseReadTime(raw, latest)
	}
	switch {
	case !eventTime.IsZero():
		return eventTime.Unix(), checkAhead("the event time (there is no "+ReadTimeField+")",
			eventTime.UnixMilli(), milliseconds, latest)
	case timestamp.IsZero():
		return 0, ErrNoTime
	default:
		ms := strconv.FormatInt(timestamp.UnixMilli(), 10)
		return 0, fmt.Errorf("no time at all: no %s, no %s header, and the record's timestamp is "+
			"%s ms%s", ReadTimeField, HeaderEventTime, ms, looksLike(ms, milliseconds))
	}
}

func parseReadTime(raw []byte, latest time.Time) (int64, error) {
	t, ok := parseDigits(raw)
	if ok && t >= minTime && raw[0] != '0' {
		return t, checkAhead(ReadTimeField, t, seconds, latest)
	}
	switch text := string(raw); {
	case !isDigits(text):
		return 0, newValueError(text, fmt.Errorf("%s %s is not a whole number of seconds since "+
			"1970%s", ReadTimeField, show(text), looksLike(text, seconds)))
	case text[0] == '0' && text != "0":
		return 0, newValueError(text,
			fmt.Errorf("%s %s begins with a zero", ReadTimeField, show(text)))
	case !ok: // too many digits
		return 0, tooFarAhead(ReadTimeField, text, seconds)
	default:
		return 0, newValueError(text, fmt.Errorf("%s %d is before September 2001 (%d), in "+
			"seconds since 1970%s", ReadTimeField, t, minTime, looksLike(text, seconds)))
	}
}

// checkAhead returns an error if a time, in unit u since 1970, is too far ahead of latest.
func checkAhead(source string, t int64, u unit, latest time.Time) error {
	if t/int64(u) > latest.Unix()+int64(maxAhead/time.Second) {
		return tooFarAhead(source, strconv.FormatInt(t, 10), u)
	}
	return nil
}

func tooFarAhead(source, text string, u unit) error {
	return newValueError(text, fmt.Errorf("%s %s is more than 5 minutes ahead, in %s since 1970%s",
		source, show(text), u, looksLike(text, u)))
}

// unit is the number of units in a second.
type unit int64

const (
	seconds      unit = 1
	milliseconds unit = 1000
)

func (u unit) String() string {
	return map[unit]string{seconds: "seconds", milliseconds: "milliseconds"}[u]
}

// looksLike returns a clause for the error of a time that is wrong in unit u: what it probably is,
// or "".
func looksLike(text string, u unit) string {
	if guess := guessTime(text); guess != "" && guess != u.String() {
		return ": it looks like " + guess
	}
	return ""
}

const months = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"

var (
	fraction   = regexp.MustCompile(`^([0-9]+)\.[0-9]+$`)
	scientific = regexp.MustCompile(`^[0-9](\.[0-9]+)?[eE]\+?[0-9]+$`)
	grouped    = regexp.MustCompile(`^[0-9]{1,3}([,. '_][0-9]{3})+$`)
	dated      = regexp.MustCompile(`\d[-/.年]\d{1,2}[-/.月]\d|\d:\d\d|` +
		`(?i)\d[ -](` + months + `)|\b(` + months + `)[a-z]* \d`)
)

// guessTime names the format or unit of a text that may be a time, or returns "".
func guessTime(text string) string {
	text = text[:min(len(text), 100)] // the text may have a megabyte
	if !isDigits(text) {
		switch trimmed := strings.TrimSpace(text); {
		case text == "":
			return ""
		case trimmed != text && isDigits(trimmed):
			return "a number with white space around it"
		case fraction.MatchString(text):
			if whole, _, _ := strings.Cut(text, "."); guessTime(whole) == "a spreadsheet's day" {
				return "a spreadsheet's day"
			}
			return "a number with a fraction"
		case scientific.MatchString(text):
			return "a number with an exponent"
		case grouped.MatchString(text):
			return "a number with separators"
		case dated.MatchString(text):
			return "a date"
		}
		return ""
	}
	for _, layout := range dateLayouts[len(text)] {
		at, err := time.Parse(layout, text[:len(layout)])
		if err == nil && at.Year() >= 1970 && at.Year() < 2100 {
			return "a date"
		}
	}
	t, err := strconv.ParseUint(text, 10, 64)
	switch {
	case err != nil || t >= 1e17:
		return "nanoseconds"
	case t >= 1e14:
		return "microseconds"
	case t >= 1e11:
		return "milliseconds"
	case t >= minTime:
		return "seconds"
	case t >= 16_666_667 && t < 40_000_000: // from 2001 to 2046
		return "minutes"
	case t >= 36_526 && t < 60_000: // from 2000 to 2064
		return "a spreadsheet's day"
	}
	return ""
}

// dateLayouts are date formats made of digits, by length; the longest has milliseconds.
var dateLayouts = map[int][]string{
	8: {"20060102", "02012006", "01022006"}, 10: {"2006010215"}, 12: {"200601021504"},
	14: {"20060102150405"}, 17: {"20060102150405"},
}

// show formats a value of a record for an error: a number unchanged, other text quoted, printable
// and truncated.
func show(text string) string {
	if isDigits(text) && len(text) <= printable.Quoted {
		return text
	}
	return printable.Quote(text)
}

// valueError is a reason that contains a value of the record. The value may be an account: a
// producer may write anything in the wrong place.
type valueError struct {
	error
	value string
}

func (e *valueError) Unwrap() error { return e.error }

// newValueError marks a reason as containing a text of the record.
func newValueError(text string, reason error) error { return &valueError{reason, show(text)} }

// WithoutValue returns the reason why an event is invalid without the value of the record, for
// output that must not contain accounts.
func WithoutValue(reason error) string {
	text := reason.Error()
	if v := (*valueError)(nil); errors.As(reason, &v) {
		text = strings.Replace(text, v.value, "…", 1)
	}
	return text
}
