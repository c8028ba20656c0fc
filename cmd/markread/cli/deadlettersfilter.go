package cli

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/consumer/deadletter"
	"markread/consumer/event"
)

// filterFlags say which letters. They are pointers so that one that is set to nothing, by a script's empty variable, is no filter that is left out.
type filterFlags struct {
	Class  *string `placeholder:"CLASS" help:"Only letters of this class: invalid, rejected or exhausted."`
	Code   *string `placeholder:"CODE" help:"Only letters with this code: an ErrorCode such as 90048, or timeout, connect, reset, tls, answer, http_502 …"`
	Report *string `placeholder:"ACCOUNT" help:"Only events of this reader, Report_Account."`
	Peer   *string `placeholder:"ACCOUNT" help:"Only events about this peer's messages, Peer_Account."`
	Since  *string `placeholder:"TIME" help:"Only letters that failed at this time or later: RFC 3339, or an age such as 24h or 7d."`
	Until  *string `placeholder:"TIME" help:"Only letters that failed at this time (in this second) or before: RFC 3339, or an age."`
	Limit  *int    `placeholder:"N" help:"Only the oldest N of them."`
	Parked bool    `help:"Parked letters, too: those that came back from --max-replays replays."`
}

// known codes without digits; all others are an ErrorCode or an HTTP status.
var codePattern = regexp.MustCompile(`^(-?[0-9]{1,10}|http_[0-9]{3}|timeout|connect|reset|tls|answer|key|request)$`)

// filter reads the flags.
func (f *filterFlags) filter(now time.Time) (deadletter.Filter, error) {
	var filter deadletter.Filter
	classes := []string{event.ClassInvalid, event.ClassRejected, event.ClassExhausted}
	switch {
	case f.Class != nil && !slices.Contains(classes, *f.Class):
		return filter, config.Usagef("--class must be one of invalid, rejected, exhausted, not %q", *f.Class)
	case f.Code != nil && !codePattern.MatchString(*f.Code):
		return filter, config.Usagef("--code %q is neither an ErrorCode (90048) nor one of timeout, connect, reset, tls, answer, http_502 and the like", *f.Code)
	case f.Report != nil && *f.Report == "":
		return filter, config.Usagef("--report must not be empty")
	case f.Peer != nil && *f.Peer == "":
		return filter, config.Usagef("--peer must not be empty")
	case f.Limit != nil && *f.Limit < 1:
		return filter, config.Usagef("--limit must be at least 1")
	}
	for _, s := range []struct {
		flag *string
		to   *string
	}{{f.Class, &filter.Class}, {f.Code, &filter.Code}, {f.Report, &filter.Report}, {f.Peer, &filter.Peer}} {
		if s.flag != nil {
			*s.to = *s.flag
		}
	}
	for _, t := range []struct {
		name string
		flag *string
		to   *time.Time
	}{{"--since", f.Since, &filter.Since}, {"--until", f.Until, &filter.Until}} {
		if t.flag == nil {
			continue
		}
		at, ok := momentOf(*t.flag, now)
		if !ok {
			return filter, config.Usagef("%s %q is neither a time in RFC 3339 (2026-03-01T02:48:00Z) nor an age (24h, 7d)", t.name, *t.flag)
		}
		*t.to = at
	}
	if f.Until != nil && wholeSecond.MatchString(*f.Until) {
		filter.Until = filter.Until.Add(time.Second - 1) // what ls shows has whole seconds: all of that one
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && filter.Since.After(filter.Until) {
		return filter, config.Usagef("--since %s is later than --until %s: no letter is in between", *f.Since, *f.Until)
	}
	return filter, nil
}

// narrows reports whether any of the flags leaves letters out.
func (f *filterFlags) narrows() bool {
	return f.Class != nil || f.Code != nil || f.Report != nil || f.Peer != nil || f.Since != nil || f.Until != nil || f.Limit != nil
}

// limit is 0 without the flag.
func (f *filterFlags) limit() int {
	if f.Limit == nil {
		return 0
	}
	return *f.Limit
}

// states returns the states that --state and --parked name.
func (f *filterFlags) states(state string) (states []deadletter.State) {
	for _, s := range deadletter.AllStates() {
		if state == "all" || s.String() == state || s == deadletter.Parked && f.Parked {
			states = append(states, s)
		}
	}
	return states
}

// wholeSecond is a time in RFC 3339 without a fraction.
var wholeSecond = regexp.MustCompile(`T[0-9:]{8}(Z|[+-])`)

var days = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// momentOf reads a time, or the time that was so long ago.
func momentOf(text string, now time.Time) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, true
	}
	var age time.Duration
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		if n > 36_500 {
			return time.Time{}, false
		}
		age, text = time.Duration(n)*24*time.Hour, m[2]
		if text == "" {
			return now.Add(-age), true
		}
	}
	more, err := time.ParseDuration(text)
	if err != nil || more < 0 || strings.HasPrefix(text, "+") {
		return time.Time{}, false
	}
	return now.Add(-age - more), true
}

// filterHelp belongs to the help of every command with filters.
const filterHelp = `

A letter is "open", or "parked" once it came back from --max-replays replays, or resolved: "replayed" or "discarded". Filters that are given
together must all hold. --since and --until are about when it failed.`
