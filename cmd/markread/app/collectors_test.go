package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ticker's metrics have the number of times that it was collected.
type ticker struct {
	desc *prometheus.Desc
	n    float64
}

func (c *ticker) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *ticker) Collect(ch chan<- prometheus.Metric) {
	c.n++
	for _, label := range []string{"a", "b"} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, c.n, label)
	}
}

// Scrapes every second share what one of them has collected; scrapes every 5 s do not.
func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &ticker{desc: prometheus.NewDesc("n", "n", []string{"label"}, nil)}
		c := &cached{Collector: inner}
		scrape := func(want float64) {
			t.Helper()
			metrics := make(chan prometheus.Metric, 9)
			c.Collect(metrics)
			if len(metrics) != 2 || inner.n != want {
				t.Errorf("%d metrics, collected %v times; want %v", len(metrics), inner.n, want)
			}
		}
		for i := range 8 {
			scrape(float64(1 + i/4))
			time.Sleep(time.Second)
		}
		for i := range 3 {
			scrape(float64(3 + i))
			time.Sleep(5 * time.Second)
		}
	})
}

// The metrics of the process are in the registry, with usable values.
func TestRegistry(t *testing.T) {
	worker := &ticker{desc: prometheus.NewDesc("worker", "worker", []string{"label"}, nil)}
	registry := newRegistry(worker)
	for range 2 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, f := range families {
			got[f.GetName()] = true
		}
		for _, name := range []string{"worker", "go_goroutines", "process_start_time_seconds",
			"process_cpu_seconds_total", "process_resident_memory_bytes"} {
			if !got[name] {
				t.Errorf("%s is missing", name)
			}
		}
	}
}
