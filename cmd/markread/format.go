package main

import (
	"fmt"
	"markread/consumer/printable"
	"strconv"
	"strings"
	"time"
)

// ranges writes numbers in ascending order as "0-3, 5".
func ranges(numbers []int) string {
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

// thousands writes a number as "12,345".
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func number64(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

func ageOf(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return age(time.Duration(*seconds * float64(time.Second)))
}

// age writes a duration with the two units that matter.
func age(d time.Duration) string {
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

// number is a count with its noun: "1 event", "2 events".
func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func perSecond(rate int) string {
	if rate == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d calls a second", rate)
}

// moment writes a time for people.
func moment(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// momentAgo is moment with its distance.
func momentAgo(t, now time.Time) string {
	if ago := now.Sub(t); ago >= 0 && moment(t) != "-" {
		return fmt.Sprintf("%s, %s ago", moment(t), age(ago))
	}
	return moment(t)
}

// oneLine keeps a message on one line and free of terminal escapes, whatever arguments it quotes.
func oneLine(s string) string { return printable.Line(strings.TrimSpace(s)) }

// plainLine is anybody's bytes on one line, with a question mark for each rune that is not plain.
func plainLine(b []byte) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, oneLine(string(b)))
}
