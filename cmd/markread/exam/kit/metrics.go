//go:build exam && unix

package kit

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// Metrics is one scrape: the value of each series, by its text in Prometheus' format.
type Metrics map[string]float64

// Scrape reads the metrics of the admin server at a URL.
func Scrape(t *testing.T, admin string) Metrics {
	t.Helper()
	out := Metrics{}
	for line := range strings.Lines(Get(t, admin+"/metrics")) {
		line = strings.TrimSpace(line)
		cut := strings.LastIndexByte(line, ' ')
		if line == "" || line[0] == '#' || cut < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			t.Fatalf("metrics: %q", line)
		}
		out[line[:cut]] = value
	}
	return out
}

// Sum adds up the series of a metric that have all the labels, each given as name="value".
func (m Metrics) Sum(name string, labels ...string) float64 {
	total := 0.0
series:
	for series, value := range m {
		base, rest, _ := strings.Cut(series, "{")
		if base != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains("{"+rest, "{"+label) && !strings.Contains(rest, ","+label) {
				continue series
			}
		}
		total += value
	}
	return total
}

// Balance checks that the received events equal the outcomes, the backlog and the returned events,
// and returns the sum as a line.
func (m Metrics) Balance(t *testing.T) string {
	t.Helper()
	received, backlog, returned := m.Sum("markread_events_received_total"),
		m.Sum("markread_backlog_events"), m.Sum("markread_events_returned_total")
	outcomes := m.Sum("markread_events_total")
	Check(t, received == outcomes+backlog+returned,
		"received %v, but outcomes %v + backlog %v + returned %v", received, outcomes, backlog,
		returned)
	return fmt.Sprintf("received %v = applied %v + collapsed %v + superseded %v + dead-lettered "+
		"%v + backlog %v + returned %v", received, m.Sum("markread_events_total",
		`outcome="applied"`), m.Sum("markread_events_total", `outcome="collapsed"`),
		m.Sum("markread_events_total", `outcome="superseded"`),
		m.Sum("markread_events_total", `outcome="dead_lettered"`), backlog, returned)
}
