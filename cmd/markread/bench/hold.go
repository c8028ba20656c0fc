package bench

import (
	"context"
	"strconv"
	"time"

	"markread/imclient/sandbox"
)

// The rows that measure only workers.

const mebibyte = 1 << 20

// measureMemory starts a worker for each of the three figures.
func measureMemory(ctx context.Context, m *measurement) (result, error) {
	got := result{}
	n := m.count(pendingEvents, 1_000)
	for _, c := range []struct {
		topic, figure string
		events        int
		settle        time.Duration // a garbage collection may still be running
	}{
		{m.kafka.topic, idleMiB, 0, 10 * time.Second},
		{m.kafka.topic + "-many", pendingMiB, n, 5 * time.Second},
		{m.kafka.topic + "-one", oneMiB, n, 5 * time.Second},
	} {
		w, err := m.startCaller(ctx, c.topic, outage(0),
			[]string{"--max-pending", strconv.Itoa(2 * n)}, job{})
		if err != nil {
			return nil, err
		}
		if err := w.waitReady(ctx); err != nil {
			return nil, err
		}
		if err := w.waitReceived(ctx, c.events); err != nil {
			return nil, err
		}
		if err := m.pause(ctx, m.duration(c.settle)); err != nil {
			return nil, err
		}
		resident, err1 := w.memory("VmRSS")
		peak, err2 := w.memory("VmHWM")
		m.stopAll()
		if err1 != nil || err2 != nil {
			continue
		}
		got[c.figure] = resident / mebibyte
		if c.figure == pendingMiB {
			got[peakMiB], got[pendingBytes] = peak/mebibyte, resident/float64(n)
		}
	}
	return got, nil
}

// measureCollapse measures from the first call to the last.
func measureCollapse(ctx context.Context, m *measurement) (result, error) {
	n, conversations := m.count(collapseEvents, 10_000), m.count(collapseConversations, 200)
	c, err := m.startCaller(ctx, m.kafka.topic, sandbox.Faults{},
		[]string{"--rate", strconv.Itoa(vendorRate)}, job{})
	if err != nil {
		return nil, err
	}
	if err := c.waitReceived(ctx, n); err != nil {
		return nil, err
	}
	if err := c.wait(ctx, 250*time.Millisecond, func() (bool, error) {
		waiting, err := c.sum(backlogMetric)
		return waiting == 0, err
	}); err != nil {
		return nil, err
	}
	calls, err := c.arrivals()
	if err != nil {
		return nil, err
	}
	ideal := float64(conversations) / vendorRate
	return result{ofIdeal: between(calls).Seconds() / ideal,
		perConversation: float64(len(calls)) / float64(conversations)}, nil
}

// measureOutage begins each outage with a worker that has nothing to do, and produces at once.
func measureOutage(ctx context.Context, m *measurement) (result, error) {
	got := result{}
	for _, seconds := range outages {
		topic := m.name + "-" + strconv.Itoa(seconds)
		if err := m.kafka.create(ctx, topic); err != nil {
			return nil, err
		}
		c, err := m.startCaller(ctx, topic, sandbox.Faults{},
			[]string{"--rate", strconv.Itoa(vendorRate)}, job{})
		if err != nil {
			return nil, err
		}
		if err := c.waitReady(ctx); err != nil {
			return nil, err
		}
		length, after := m.duration(time.Duration(seconds)*time.Second), m.duration(5*time.Second)
		if err := c.setFaults(outage(length)); err != nil {
			return nil, err
		}
		end := time.Now().Add(length)
		n := m.count(outageConversations, 10)
		if err := m.kafka.produce(ctx, topic, n, n); err != nil {
			return nil, err
		}
		if err := m.pause(ctx, time.Until(end.Add(after))); err != nil {
			return nil, err
		}
		calls, err := c.arrivals()
		if err != nil {
			return nil, err
		}
		m.stopAll()
		accepted := 0
		for _, call := range calls {
			if call.Applied && !call.At.Before(end) && call.At.Before(end.Add(after)) {
				accepted++
			}
		}
		got[acceptedAfter(seconds)] = float64(accepted)
	}
	return got, nil
}

// pause waits.
func (m *measurement) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
