package bench

import (
	"context"
	"slices"
	"strconv"
	"time"

	"markread/imclient/sandbox"
)

// setCPU adds the CPU time of a number of calls to the result, if the machine has it.
func (r result) setCPU(c *caller, before float64, calls int) {
	if after, err := c.cpu(); err == nil {
		r[cpuPerThousand] = (after - before) / float64(calls) * 1000
	}
}

// measureUncapped measures from the first arrival to the last. The CPU includes the start.
func measureUncapped(ctx context.Context, m *measurement) (result, error) {
	const latency = 2 * time.Millisecond
	n := m.count(uncappedEvents, 100)
	c, err := m.startCaller(ctx, m.kafka.topic,
		sandbox.Faults{Latency: sandbox.Latency{Min: latency}},
		[]string{"--rate", "0", "--max-in-flight", strconv.Itoa(inFlight)}, job{Events: n})
	if err != nil {
		return nil, err
	}
	if _, err := c.waitApplied(ctx, n); err != nil {
		return nil, err
	}
	got := result{}
	got.setCPU(c, 0, n)
	calls, err := c.arrivals()
	if err != nil {
		return nil, err
	}
	got[callsPerSecond] = float64(len(calls)-1) / between(calls).Seconds()
	return got, nil
}

// between returns the time from the first call to the last.
func between(calls []sandbox.Arrival) time.Duration {
	return calls[len(calls)-1].At.Sub(calls[0].At)
}

// warmUp is the time before a rate is steady.
func (b *bench) warmUp() time.Duration { return b.duration(3 * time.Second) }

// measureRate measures the CPU in the middle of a backlog, without the start.
func measureRate(ctx context.Context, m *measurement) (result, error) {
	c, err := m.startCaller(ctx, m.kafka.topic, sandbox.Faults{},
		[]string{"--rate", strconv.Itoa(vendorRate)}, job{Rate: vendorRate})
	if err != nil {
		return nil, err
	}
	first, err := c.waitApplied(ctx, int(m.warmUp().Seconds()*vendorRate))
	if err != nil {
		return nil, err
	}
	before, cpuErr := c.cpu()
	last, err := c.waitApplied(ctx, first+int(m.duration(steady).Seconds()*vendorRate))
	if err != nil {
		return nil, err
	}
	got := result{}
	if cpuErr == nil {
		got.setCPU(c, before, last-first)
	}
	return got, nil
}

// measureLatency produces one event after the other, each when the last one is acknowledged and its
// time has come.
func measureLatency(ctx context.Context, m *measurement) (result, error) {
	topic := m.name
	if err := m.kafka.create(ctx, topic); err != nil {
		return nil, err
	}
	c, err := m.startCaller(ctx, topic, sandbox.Faults{},
		[]string{"--rate", strconv.Itoa(vendorRate)}, job{})
	if err != nil {
		return nil, err
	}
	const perSecond = 100
	var sent, acknowledged []time.Time // by event
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	produce := func() error {
		i := len(sent)
		sent = append(sent, time.Now())
		err := m.kafka.client.ProduceSync(ctx, record(topic, i, 1_000_000, 1_000_000)).FirstErr()
		acknowledged = append(acknowledged, time.Now())
		<-tick.C
		return err
	}
	// Until the first call the side is still joining its group. What follows it is warm-up.
	err = c.wait(ctx, time.Millisecond, func() (bool, error) {
		if err := produce(); err != nil {
			return false, err
		}
		applied, err := c.applied()
		return applied > 0, err
	})
	if err != nil {
		return nil, err
	}
	first := len(acknowledged) + int(m.warmUp().Seconds()*perSecond)
	last := first + int(m.duration(steady).Seconds()*perSecond)
	for len(acknowledged) < last {
		if err := produce(); err != nil {
			return nil, err
		}
	}
	if _, err := c.waitApplied(ctx, last); err != nil {
		return nil, err
	}
	calls, err := c.arrivals()
	if err != nil {
		return nil, err
	}
	var sinceSent, sinceAcknowledged []float64
	for _, call := range calls {
		if i, err := strconv.Atoi(call.Report[1:]); err == nil && i >= first {
			sinceSent = append(sinceSent, call.At.Sub(sent[i]).Seconds()*1000)
			sinceAcknowledged = append(sinceAcknowledged,
				call.At.Sub(acknowledged[i]).Seconds()*1000)
		}
	}
	slices.Sort(sinceSent)
	slices.Sort(sinceAcknowledged)
	middle, late := len(sinceSent)/2, len(sinceSent)*99/100
	return result{p50: sinceAcknowledged[middle], p99: sinceAcknowledged[late],
		p50Sent: sinceSent[middle], p99Sent: sinceSent[late]}, nil
}

// measureIntake measures how fast a worker receives events while calls are held.
func measureIntake(ctx context.Context, m *measurement) (result, error) {
	n := m.count(intakeEvents, 10_000)
	if m.side == fetchLoop {
		p, err := m.start(ctx, m.self, "fetch", job{Brokers: m.kafka.brokers, Topic: m.kafka.topic})
		if err != nil {
			return nil, err
		}
		text, err := p.line(ctx, `fetched in (\S+) s`)
		if err != nil {
			return nil, err
		}
		took, err := time.ParseDuration(text + "s")
		return result{eventsPerSecond: float64(n) / took.Seconds()}, err
	}
	c, err := m.startCaller(ctx, m.kafka.topic, outage(0), nil, job{})
	if err != nil {
		return nil, err
	}
	// From the first poll that finds some, else from the last one that finds none: joining the group
	// is not intake. The polls are rare, as each costs the worker about a millisecond.
	began, first := time.Now(), 0
	err = c.wait(ctx, 25*time.Millisecond, func() (bool, error) {
		now := time.Now()
		sum, err := c.sum(receivedMetric)
		if first == 0 && sum < n {
			began, first = now, sum
		}
		return sum >= n, err
	})
	return result{eventsPerSecond: float64(n-first) / time.Since(began).Seconds()}, err
}
