package main

import (
	"cmp"
	"slices"
	"strings"
	"time"
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

// name is the check with what it is about.
func (f finding) name() string { return strings.TrimSpace(f.Check + " " + f.Subject) }

// checkLine is what people read of one or more findings that say the same of several things.
type checkLine struct {
	finding
	Subjects []string
	Alone    bool // nothing else is said of other subjects of the check
}

// name is the check with all that it is about.
func (l checkLine) name() string {
	return finding{Check: l.Check, Subject: strings.Join(l.Subjects, ", ")}.name()
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
		lines[i].Subjects = append(lines[i].Subjects, f.Subject)
	}
	for i, l := range lines {
		others := func(m checkLine) bool { return m.Check == l.Check }
		lines[i].Alone = !slices.ContainsFunc(lines[:i], others) && !slices.ContainsFunc(lines[i+1:], others)
	}
	return lines
}
