package preflight

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"markread/worker/format"
)

// Finding is the result of one check.
type Finding struct {
	Check   string `json:"check"`   // what was checked, from a closed list
	Subject string `json:"subject"` // which of several; "": there is only one
	Result  Grade  `json:"result"`
	Found   string `json:"found"`
	Do      string `json:"do"` // the remedy; "": there is nothing to do
}

// Grade is the result of a check.
type Grade string

// The results, the most urgent first.
const (
	IsWrong      Grade = "wrong"       // a worker would not work, or not correctly
	IsWarning    Grade = "warning"     // a worker would work, but something may go wrong later
	IsNotChecked Grade = "not_checked" // the check was not possible
	IsOK         Grade = "ok"
)

var grades = []Grade{IsWrong, IsWarning, IsNotChecked, IsOK}

// Findings is a list of results.
type Findings []Finding

// Add appends findings.
func (f *Findings) Add(more ...Finding) { *f = append(*f, more...) }

// Wrong returns a finding that is wrong.
func Wrong(check, subject, found, do string) Finding {
	return Finding{check, subject, IsWrong, found, do}
}

// Warning returns a finding that is a warning.
func Warning(check, subject, found, do string) Finding {
	return Finding{check, subject, IsWarning, found, do}
}

// NotChecked returns a finding that a check was not possible; found is the reason.
func NotChecked(check, subject, found, do string) Finding {
	return Finding{check, subject, IsNotChecked, found, do}
}

// Good returns a finding that is ok.
func Good(check, subject, found string) Finding { return Finding{check, subject, IsOK, found, ""} }

// Report is what `markread check --json` prints; deploy/OPERATIONS.md documents its names.
type Report struct {
	At         time.Time `json:"at"`
	OK         bool      `json:"ok"` // nothing is wrong
	Wrong      int       `json:"wrong"`
	Warnings   int       `json:"warnings"`
	NotChecked int       `json:"not_checked"`
	Checks     Findings  `json:"checks"`
}

// ReportOf returns a report of all findings, the most urgent first.
func ReportOf(at time.Time, parts ...Findings) *Report {
	r := &Report{At: at.UTC().Truncate(time.Millisecond), Checks: Findings{}}
	count := map[Grade]int{}
	for _, f := range slices.Concat(parts...) {
		count[f.Result]++
		f.Subject, f.Found, f.Do = format.Line(f.Subject), format.Line(f.Found), format.Line(f.Do)
		r.Checks = append(r.Checks, f)
	}
	slices.SortStableFunc(r.Checks, func(a, b Finding) int {
		return cmp.Compare(slices.Index(grades, a.Result), slices.Index(grades, b.Result))
	})
	r.OK, r.Wrong = count[IsWrong] == 0, count[IsWrong]
	r.Warnings, r.NotChecked = count[IsWarning], count[IsNotChecked]
	return r
}

// Name returns the check and its subject.
func (f Finding) Name() string { return strings.TrimSpace(f.Check + " " + f.Subject) }

// Line is one line of the report's text: findings of one check that are equal except for their
// subjects.
type Line struct {
	Finding
	Subjects []string
	Alone    bool // it is the only line of its check
}

// Name returns the check and its subjects.
func (l Line) Name() string {
	return Finding{Check: l.Check, Subject: strings.Join(l.Subjects, ", ")}.Name()
}

// Lines returns the findings as lines; equal findings share a line.
func (r *Report) Lines() (lines []Line) {
	of := map[string]int{} // lines of each check
	for _, f := range r.Checks {
		i := slices.IndexFunc(lines, func(l Line) bool {
			return l.Check == f.Check && l.Result == f.Result && l.Found == f.Found && l.Do == f.Do
		})
		if i < 0 {
			i = len(lines)
			lines = append(lines, Line{Finding: f})
			of[f.Check]++
		}
		lines[i].Subjects = append(lines[i].Subjects, f.Subject)
	}
	for i, l := range lines {
		lines[i].Alone = of[l.Check] == 1
	}
	return lines
}
