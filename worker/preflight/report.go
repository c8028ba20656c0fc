package preflight

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"markread/worker/format"
)

// Finding is what one check has found.
type Finding struct {
	Check   string `json:"check"`   // what was looked at, of a closed list
	Subject string `json:"subject"` // which one of several; "": there is one
	Result  Grade  `json:"result"`
	Found   string `json:"found"`
	Do      string `json:"do"` // what an operator should do; "": nothing
}

// Grade is how a check ended.
type Grade string

// The results, the most urgent first.
const (
	IsWrong      Grade = "wrong"       // a worker would not work, or not rightly
	IsWarning    Grade = "warning"     // it would, but for how long?
	IsNotChecked Grade = "not_checked" // it could not be found out
	IsOK         Grade = "ok"
)

var grades = []Grade{IsWrong, IsWarning, IsNotChecked, IsOK}

type Findings []Finding

func (f *Findings) Add(more ...Finding) { *f = append(*f, more...) }

func Wrong(check, subject, found, do string) Finding {
	return Finding{check, subject, IsWrong, found, do}
}
func Warning(check, subject, found, do string) Finding {
	return Finding{check, subject, IsWarning, found, do}
}
func NotChecked(check, subject, found, do string) Finding {
	return Finding{check, subject, IsNotChecked, found, do}
}
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

// ReportOf puts what is wrong first.
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

// Name is the check with what it is about.
func (f Finding) Name() string { return strings.TrimSpace(f.Check + " " + f.Subject) }

// Line is what people read of one or more findings that say the same of several things.
type Line struct {
	Finding
	Subjects []string
	Alone    bool // nothing else is said of other subjects of the check
}

// Name is the check with all that it is about.
func (l Line) Name() string {
	return Finding{Check: l.Check, Subject: strings.Join(l.Subjects, ", ")}.Name()
}

// Lines are the findings with those in one that are alike.
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
