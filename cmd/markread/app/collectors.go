package app

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry returns a registry of the process's and Go's metrics, and of others such as a
// worker's.
func newRegistry(others ...prometheus.Collector) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(others...)
	registry.MustRegister(collectors.NewGoCollector(), &cached{
		Collector: collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})})
	return registry
}

// cacheFor is less than the usual intervals of scrapes: these find fresh values.
const cacheFor = 4 * time.Second

// cached collects metrics once in cacheFor. Those of the process come from /proc, where reading
// them costs half as much as everything else in a scrape. Their values must not change later.
type cached struct {
	prometheus.Collector

	mu      sync.Mutex
	at      time.Time
	metrics []prometheus.Metric
}

// Collect implements prometheus.Collector.
func (c *cached) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.at) >= cacheFor {
		fresh := make(chan prometheus.Metric)
		go func() {
			defer close(fresh)
			c.Collector.Collect(fresh)
		}()
		c.at, c.metrics = now, nil
		for m := range fresh {
			c.metrics = append(c.metrics, m)
		}
	}
	for _, m := range c.metrics {
		ch <- m
	}
}
