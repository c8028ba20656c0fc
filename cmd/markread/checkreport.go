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
	isWrong      grade = "wrong"       // a worker would not work
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

// reportOf puts what is wrong first, and what is not right with several things alike into one line.
func reportOf(at time.Time, parts ...findings) *checkReport {
	r := &checkReport{At: at.UTC().Truncate(time.Millisecond), Checks: findings{}}
	for _, f := range slices.Concat(parts...) {
		f.Subject, f.Found, f.Do = oneLine(f.Subject), oneLine(f.Found), oneLine(f.Do)
		alike := slices.IndexFunc(r.Checks, func(g finding) bool {
			return g.Check == f.Check && g.Result == f.Result && g.Found == f.Found && g.Do == f.Do && f.Subject != ""
		})
		if alike >= 0 && f.Result != isOK {
			r.Checks[alike].Subject += ", " + f.Subject
			continue
		}
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
	if r.OK {
		return nil
	}
	var names []string
	for _, f := range r.Checks {
		if f.Result == isWrong {
			names = append(names, f.name())
		}
	}
	return errors.New("check: wrong: " + strings.Join(names, "; "))
}

// name is the check with what it is about.
func (f finding) name() string { return strings.TrimSpace(f.Check + " " + f.Subject) }

// longestName bounds the column of names: a longer one moves the rest of its line only.
const longestName = 34

// print writes the report for people: a line each, what to do below it.
func (r *checkReport) print(w io.Writer) error {
	width := 0
	for _, f := range r.Checks {
		width = max(width, min(utf8.RuneCountInString(f.name()), longestName))
	}
	var b strings.Builder
	for _, f := range r.Checks {
		fmt.Fprintf(&b, "%-11s  %-*s  %s\n", f.Result.shown(), width, f.name(), f.Found)
		if f.Do != "" {
			fmt.Fprintf(&b, "%-11s  do: %s\n", "", f.Do)
		}
	}
	fmt.Fprintf(&b, "\n%d wrong, %s, %d not checked, %d ok\n", r.Wrong, number(r.Warnings, "warning"), r.NotChecked,
		len(r.Checks)-r.Wrong-r.Warnings-r.NotChecked)
	_, err := io.WriteString(w, b.String())
	return err
}
