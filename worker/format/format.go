// Package format formats numbers, times, durations and text from outside for people: one format for
// each, so that the same thing looks the same in every command, log line and check. It does not
// parse, localize or print anything. It has no state. Each function returns one line that is safe
// to show on a terminal.
package format

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"markread/consumer/printable"
)

// Ranges formats ascending numbers as "0-3,5".
func Ranges(numbers []int) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		if b.Len() > 0 {
			b.WriteString(",")
		}
		fmt.Fprint(&b, numbers[i])
		if last > i {
			fmt.Fprintf(&b, "-%d", numbers[last])
		}
		i = last + 1
	}
	return b.String()
}

// Thousands formats a number as "12,345".
func Thousands[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// CountOf is [Count] with thousands separators: "12,345 events".
func CountOf[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Thousands(n) + " " + what + "s"
}

// AgeOf is [Age] for seconds; "-" for nil.
func AgeOf(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return Age(time.Duration(*seconds * float64(time.Second)))
}

// Age formats a duration with its two largest units: "1.5s", "42s", "3m05s", "2h10m", "3d04h". A
// negative duration counts as 0.
func Age(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// Count formats a number with its noun: "1 event", "2 events".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Rate formats a rate limit in calls a second; 0 means no limit.
func Rate(rate int) string {
	if rate == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d calls a second", rate)
}

// Time formats a time in UTC, in whole seconds; "-" for the zero time and for 1970-01-01T00:00:00Z.
func Time(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// TimeAgo is [Time] followed by how long ago it was, unless t is after now.
func TimeAgo(t, now time.Time) string {
	if ago := now.Sub(t); ago >= 0 && Time(t) != "-" {
		return fmt.Sprintf("%s, %s ago", Time(t), Age(ago))
	}
	return Time(t)
}

// Line puts a message on one line and removes control sequences, whatever arguments it contains.
func Line(s string) string { return printable.Line(strings.TrimSpace(s)) }

// Command returns words as a line for a POSIX shell, or "" if a word has control characters or the
// like, which nobody should paste into a terminal.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		if strings.ContainsFunc(word,
			func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }) {
			return ""
		}
		if quoted[i] = word; !plainWord.MatchString(word) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// Plain returns bytes from outside on one line, with a question mark for each unprintable rune.
func Plain(b []byte) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, Line(string(b)))
}
