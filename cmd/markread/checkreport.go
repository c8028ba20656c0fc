package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// finding is what one check has found.
type finding struct {
	Check   string `json:"check"`   // what was looked at, of a closed list
	Subject string `json:"subject"` // which one of several; "": there is one
	Result  grade  `json:"result"`
	Found   string `json:"found"`
	Do      string `json:"do"` // what an operator should do; "": nothing
}

// grade is how a check ended.
type grade string

// The results, the most urgent first.
const (
	isWrong      grade = "wrong"       // a worker would not work, or not rightly
	isWarning    grade = "warning"     // it would, but for how long?
	isNotChecked grade = "not_checked" // it could not be found out
	isOK         grade = "ok"
)

var grades = []grade{isWrong, isWarning, isNotChecked, isOK}

// shown is the result as a person reads it.
func (g grade) shown() string {
	switch g {
	case isWrong:
		return "WRONG"
	case isNotChecked:
		return "not checked"
	default:
		return string(g)
	}
}

type findings []finding

func (f *findings) add(more ...finding) { *f = append(*f, more...) }

func wrong(check, subject, found, do string) finding {
	return finding{check, subject, isWrong, found, do}
}
func warning(check, subject, found, do string) finding {
	return finding{check, subject, isWarning, found, do}
}
func notChecked(check, subject, found, do string) finding {
	return finding{check, subject, isNotChecked, found, do}
}
func ok(check, subject, found string) finding { return finding{check, subject, isOK, found, ""} }

// checkReport is what `markread check --json` prints; README.md documents its names.
type checkReport struct {
	At         time.Time `json:"at"`
	OK         bool      `json:"ok"` // nothing is wrong
	Wrong      int       `json:"wrong"`
	Warnings   int       `json:"warnings"`
	NotChecked int       `json:"not_checked"`
	Checks     findings  `json:"checks"`
}

// reportOf puts what is wrong first.
func reportOf(at time.Time, parts ...findings) *checkReport {
	r := &checkReport{At: at.UTC().Truncate(time.Millisecond), Checks: findings{}}
	for _, f := range slices.Concat(parts...) {
		f.Subject, f.Found, f.Do = oneLine(f.Subject), oneLine(f.Found), oneLine(f.Do)
		r.Checks = append(r.Checks, f)
	}
	slices.SortStableFunc(r.Checks, func(a, b finding) int {
		return cmp.Compare(slices.Index(grades, a.Result), slices.Index(grades, b.Result))
	})
	for _, f := range r.Checks {
		switch f.Result {
		case isWrong:
			r.Wrong++
		case isWarning:
			r.Warnings++
		case isNotChecked:
			r.NotChecked++
		}
	}
	r.OK = r.Wrong == 0
	return r
}

// failure is the error for the exit status: what is wrong, in short.
func (r *checkReport) failure() error {
	var names []string
	for _, l := range r.lines() {
		if l.Result == isWrong {
			names = append(names, l.name())
		}
	}
	if names == nil {
		return nil
	}
	return errors.New("check: wrong: " + strings.Join(names, "; "))
}

// name is the check with what it is about.
func (f finding) name() string { return strings.TrimSpace(f.Check + " " + f.Subject) }

// checkLine is what people read of one or more findings that say the same of several things.
type checkLine struct {
	finding
	subjects []string
	all      bool // nothing else is said of others
}

// lines are the findings with those in one that are alike.
func (r *checkReport) lines() (lines []checkLine) {
	for _, f := range r.Checks {
		i := slices.IndexFunc(lines, func(l checkLine) bool {
			return l.Check == f.Check && l.Result == f.Result && l.Found == f.Found && l.Do == f.Do
		})
		if i < 0 {
			i = len(lines)
			lines = append(lines, checkLine{finding: f})
		}
		lines[i].subjects = append(lines[i].subjects, f.Subject)
	}
	for i, l := range lines {
		others := func(m checkLine) bool { return m.Check == l.Check }
		lines[i].all = !slices.ContainsFunc(lines[:i], others) && !slices.ContainsFunc(lines[i+1:], others)
	}
	return lines
}

// longestName bounds the column of names: a longer one moves the rest of its line only.
const longestName = 34

// name is the check with what it is about. Where there is nothing to mend, and nothing else is said of others, how many there are is enough.
func (l checkLine) name() string {
	name := finding{Check: l.Check, Subject: strings.Join(l.subjects, ", ")}.name()
	if l.Do == "" && l.all && len(l.subjects) > 1 && utf8.RuneCountInString(name) > longestName {
		return fmt.Sprintf("%s (%d)", l.Check, len(l.subjects))
	}
	return name
}

// print writes the report for people: a line each, what to do below it.
func (r *checkReport) print(w io.Writer) error {
	width, count := 0, map[grade]int{}
	lines := r.lines()
	for _, l := range lines {
		width = max(width, min(utf8.RuneCountInString(l.name()), longestName))
		count[l.Result]++
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-11s  %-*s  %s\n", l.Result.shown(), width, l.name(), l.Found)
		if l.Do != "" {
			fmt.Fprintf(&b, "%-11s  do: %s\n", "", l.Do)
		}
	}
	fmt.Fprintf(&b, "\n%d wrong, %s, %d not checked, %d ok\n", count[isWrong], number(count[isWarning], "warning"), count[isNotChecked], count[isOK])
	_, err := io.WriteString(w, b.String())
	return err
}
