// Package format writes numbers, times, ages and text of others as people read them in a report:
// one way for each, so that the same thing looks the same in every command, log line and check. It
// has no state, and what it returns is one line that a terminal can show.
package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"markread/consumer/printable"
)

// Ranges writes numbers in ascending order as "0-3, 5".
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

// Thousands writes a number as "12,345".
func Thousands[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// CountOf is [Count] in thousands: "12,345 events".
func CountOf[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Thousands(n) + " " + what + "s"
}

func AgeOf(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return Age(time.Duration(*seconds * float64(time.Second)))
}

// Age writes a duration with the two units that matter.
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

// Count is a count with its noun: "1 event", "2 events".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func Rate(rate int) string {
	if rate == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d calls a second", rate)
}

// Time writes a time for people.
func Time(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// TimeAgo is moment with its distance.
func TimeAgo(t, now time.Time) string {
	if ago := now.Sub(t); ago >= 0 && Time(t) != "-" {
		return fmt.Sprintf("%s, %s ago", Time(t), Age(ago))
	}
	return Time(t)
}

// Line keeps a message on one line and free of terminal escapes, whatever arguments it quotes.
func Line(s string) string { return printable.Line(strings.TrimSpace(s)) }

// Plain is anybody's bytes on one line, with a question mark for each rune that is not plain.
func Plain(b []byte) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, Line(string(b)))
}
