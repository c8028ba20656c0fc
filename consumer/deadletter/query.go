package deadletter

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"markread/consumer/event"
)

// Query is a filter as people type it, in flags or in a form. Its fields are pointers so that one
// that is set to "", by a script's empty variable, is an error rather than no filter.
type Query struct{ Class, Code, Report, Peer, Since, Until *string }

// Filter checks the query at time now and returns its filter. Errors name a value by the prefix and
// its name, such as --class.
func (q *Query) Filter(prefix string, now time.Time) (filter Filter, err error) {
	classes := []string{event.ClassInvalid, event.ClassRejected, event.ClassExhausted}
	switch {
	case q.Class != nil && !slices.Contains(classes, *q.Class):
		return filter, fmt.Errorf("%sclass must be one of %s, not %q", prefix,
			strings.Join(classes, ", "), *q.Class)
	case q.Code != nil && !IsCode(*q.Code):
		return filter, fmt.Errorf("%scode %q is neither an ErrorCode (90048) nor one of timeout, "+
			"connect, reset, tls, answer, http_502 and the like", prefix, *q.Code)
	case q.Report != nil && *q.Report == "":
		return filter, fmt.Errorf("%sreport must not be empty", prefix)
	case q.Peer != nil && *q.Peer == "":
		return filter, fmt.Errorf("%speer must not be empty", prefix)
	}
	for _, text := range []struct {
		from *string
		to   *string
	}{{q.Class, &filter.Class}, {q.Code, &filter.Code}, {q.Report, &filter.Report},
		{q.Peer, &filter.Peer}} {
		if text.from != nil {
			*text.to = *text.from
		}
	}
	for _, t := range []struct {
		name string
		from *string
		to   *time.Time
	}{{"since", q.Since, &filter.Since}, {"until", q.Until, &filter.Until}} {
		if t.from == nil {
			continue
		}
		at, ok := parseTimeOrAge(*t.from, now)
		if !ok {
			return filter, fmt.Errorf("%s%s %q is neither a time in RFC 3339 "+
				"(2026-03-01T02:48:00Z) nor an age (24h, 7d)", prefix, t.name, *t.from)
		}
		*t.to = at
	}
	if q.Until != nil && wholeSecond.MatchString(*q.Until) {
		// ls shows whole seconds, so until includes the whole second.
		filter.Until = filter.Until.Add(time.Second - 1)
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && filter.Since.After(filter.Until) {
		return filter, fmt.Errorf("%ssince %s is later than %suntil %s: nothing can match", prefix,
			*q.Since, prefix, *q.Until)
	}
	return filter, nil
}

// IsCode reports whether a text can be the code of a dead letter.
func IsCode(text string) bool { return codePattern.MatchString(text) }

// codePattern matches an ErrorCode, an HTTP status, and all codes without digits.
var codePattern = regexp.MustCompile(
	`^(-?[0-9]{1,10}|http_[0-9]{3}|timeout|connect|reset|tls|answer|key|request)$`)

// wholeSecond matches a time in RFC 3339 without a fraction.
var wholeSecond = regexp.MustCompile(`T[0-9:]{8}(Z|[+-])`)

var days = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// parseTimeOrAge parses a time in RFC 3339, or an age such as 7d, which it subtracts from now.
func parseTimeOrAge(text string, now time.Time) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, true
	}
	var age time.Duration
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		if n > 36_500 {
			return time.Time{}, false
		}
		age, text = time.Duration(n)*24*time.Hour, cmp.Or(m[2], "0")
	}
	more, err := time.ParseDuration(text)
	if err != nil || more < 0 || strings.HasPrefix(text, "+") {
		return time.Time{}, false
	}
	return now.Add(-age - more), true
}
