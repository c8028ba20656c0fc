package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// line is one line of the report: a figure of markread, alone or compared with one other side.
type line struct {
	Row      string    `json:"row"`
	Figure   string    `json:"figure"`
	Markread []float64 `json:"markread"` // one for each run
	Against  string    `json:"against,omitempty"`
	Other    []float64 `json:"other,omitempty"`
	// Median is markread's; Ratio is the median of the runs' ratios. Null: not measured.
	Median *float64 `json:"median"`
	Ratio  *float64 `json:"ratio,omitempty"`
	Target string   `json:"target,omitempty"`
	Met    *bool    `json:"met,omitempty"`

	digits int
}

// compare returns the lines of a row. results are by side.
func compare(r row, sides []string, results map[string][]result) (lines []line) {
	for _, f := range r.figures {
		ours := values(results[markread], f.name)
		against := slices.Clone(sides[1:])
		if len(against) == 0 || slices.ContainsFunc(f.targets, target.absolute) {
			against = append([]string{""}, against...)
		}
		for _, side := range against {
			l := line{Row: r.name, Figure: f.name, Markread: ours, Against: side,
				Median: median(ours), digits: f.digits}
			judged := l.Median
			if side != "" {
				l.Other = values(results[side], f.name)
				l.Ratio = median(ratios(ours, l.Other))
				judged = l.Ratio
			}
			for _, t := range f.targets {
				if t.against != side {
					continue
				}
				l.Target = t.text()
				if judged != nil {
					met := t.met(*judged)
					l.Met = &met
				}
			}
			lines = append(lines, l)
		}
	}
	return lines
}

func (t target) absolute() bool { return t.against == "" }

func (t target) met(value float64) bool {
	if t.atLeast {
		return value >= t.bound
	}
	return value <= t.bound
}

func (t target) text() string {
	sign := "≤ "
	if t.atLeast {
		sign = "≥ "
	}
	return sign + strconv.FormatFloat(t.bound, 'g', -1, 64)
}

// values returns a figure of each run that has it.
func values(results []result, name string) (list []float64) {
	for _, r := range results {
		if v, ok := r[name]; ok {
			list = append(list, v)
		}
	}
	return list
}

// ratios divides the figures of the same runs; nil if one side lacks some. A latency may be
// negative: see row latency.
func ratios(a, b []float64) (list []float64) {
	if len(a) != len(b) {
		return nil
	}
	for i := range a {
		if a[i] > 0 && b[i] > 0 {
			list = append(list, a[i]/b[i])
		}
	}
	return list
}

// median returns the median, of an even number the mean of the two in the middle; nil if there is
// none.
func median(list []float64) *float64 {
	if len(list) == 0 {
		return nil
	}
	list = slices.Sorted(slices.Values(list))
	m := (list[(len(list)-1)/2] + list[len(list)/2]) / 2
	return &m
}

// report prints the lines, as a table or as one JSON document.
func (c *Command) report(out io.Writer, lines []line) error {
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Runs  int      `json:"runs"`
			Scale float64  `json:"scale"`
			CPUs  int      `json:"cpus"`
			Go    string   `json:"go"`
			Kafka []string `json:"kafka"` // empty: the embedded broker
			Lines []line   `json:"lines"`
		}{c.Runs, c.Scale, runtime.NumCPU(), runtime.Version(), append([]string{}, c.Brokers...),
			lines})
	}
	fmt.Fprintf(out, "medians of %d runs at scale %g, on %d cores, %s\n\n", c.Runs, c.Scale,
		runtime.NumCPU(), runtime.Version())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROW\tFIGURE\tMARKREAD\tAGAINST\tOTHER\tRATIO\tTARGET\tMET")
	for _, l := range lines {
		against, met := l.Against, "-"
		if against == "" {
			against = "-"
		}
		if l.Met != nil {
			met = map[bool]string{true: "yes", false: "no"}[*l.Met]
		}
		fmt.Fprintln(t, strings.Join([]string{l.Row, l.Figure, number(l.Median, l.digits), against,
			number(median(l.Other), l.digits), number(l.Ratio, 2), orDash(l.Target), met}, "\t"))
	}
	return t.Flush()
}

func number(v *float64, digits int) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', digits, 64)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// text returns a result in one line, for the progress.
func (r result) text(of row) string {
	var parts []string
	for _, f := range of.figures {
		if v, ok := r[f.name]; ok {
			parts = append(parts, f.name+" "+number(&v, f.digits))
		}
	}
	return strings.Join(parts, ", ")
}
