//go:build exam && unix

package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// examMetrics is one scrape: the value of each series by its text as Prometheus writes it.
type examMetrics map[string]float64

func examScrape(t *testing.T, admin string) examMetrics {
	t.Helper()
	out := examMetrics{}
	for line := range strings.Lines(examGet(t, admin+"/metrics")) {
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

// sum adds up the series of a metric that have all these labels, each given as name="value".
func (m examMetrics) sum(name string, labels ...string) float64 {
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

// balance checks that every event received has its outcome, and returns a line that says so.
func (m examMetrics) balance(t *testing.T) string {
	t.Helper()
	received, backlog, returned := m.sum("markread_events_received_total"), m.sum("markread_backlog_events"), m.sum("markread_events_returned_total")
	outcomes := m.sum("markread_events_total")
	examCheck(t, received == outcomes+backlog+returned, "received %v, but outcomes %v + backlog %v + returned %v", received, outcomes, backlog, returned)
	return fmt.Sprintf("received %v = applied %v + collapsed %v + superseded %v + dead-lettered %v + backlog %v + returned %v", received,
		m.sum("markread_events_total", `outcome="applied"`), m.sum("markread_events_total", `outcome="collapsed"`),
		m.sum("markread_events_total", `outcome="superseded"`), m.sum("markread_events_total", `outcome="dead_lettered"`), backlog, returned)
}
