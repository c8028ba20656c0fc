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
	live := &liveEvents{kafka: m.kafka, topic: topic}
	// Until the first call the side is still joining its group. What follows it is warm-up.
	err = c.wait(ctx, time.Millisecond, func() (bool, error) {
		if err := live.produce(ctx, 1); err != nil {
			return false, err
		}
		applied, err := c.applied()
		return applied > 0, err
	})
	if err != nil {
		return nil, err
	}
	if err := live.produce(ctx, m.warmUp()); err != nil {
		return nil, err
	}
	live.first = len(live.sent)
	if err := live.produce(ctx, m.duration(steady)); err != nil {
		return nil, err
	}
	if _, err := c.waitApplied(ctx, len(live.sent)); err != nil {
		return nil, err
	}
	calls, err := c.arrivals()
	if err != nil {
		return nil, err
	}
	return live.latencies(calls), nil
}

// liveEvents are events of distinct conversations, from live.base on.
type liveEvents struct {
	kafka              *kafkaSide
	topic              string
	base, first        int         // the latencies are of the events from first on
	sent, acknowledged []time.Time // by event
}

const livePerSecond = 100

// produce produces for a time, but at least one event.
func (l *liveEvents) produce(ctx context.Context, d time.Duration) error {
	tick := time.NewTicker(time.Second / livePerSecond)
	defer tick.Stop()
	for range max(1, int(d.Seconds()*livePerSecond)) {
		i := l.base + len(l.sent)
		l.sent = append(l.sent, time.Now())
		err := l.kafka.client.ProduceSync(ctx, record(l.topic, i, 50_000_000, 50_000_000)).FirstErr()
		l.acknowledged = append(l.acknowledged, time.Now())
		if err != nil {
			return err
		}
		<-tick.C
	}
	return nil
}

// called returns how many calls are the events'.
func (l *liveEvents) called(calls []sandbox.Arrival) (n int) {
	for _, call := range calls {
		if i, err := strconv.Atoi(call.Report[1:]); err == nil && i >= l.base {
			n++
		}
	}
	return n
}

// latencies returns the figures of the events' calls.
func (l *liveEvents) latencies(calls []sandbox.Arrival) result {
	var sinceSent, sinceAcknowledged []float64
	for _, call := range calls {
		n, err := strconv.Atoi(call.Report[1:])
		if i := n - l.base; err == nil && i >= l.first && i < len(l.sent) {
			sinceSent = append(sinceSent, call.At.Sub(l.sent[i]).Seconds()*1000)
			sinceAcknowledged = append(sinceAcknowledged,
				call.At.Sub(l.acknowledged[i]).Seconds()*1000)
		}
	}
	if len(sinceSent) == 0 {
		return result{}
	}
	slices.Sort(sinceSent)
	slices.Sort(sinceAcknowledged)
	middle, late := len(sinceSent)/2, len(sinceSent)*99/100
	return result{p50: sinceAcknowledged[middle], p99: sinceAcknowledged[late],
		p50Sent: sinceSent[middle], p99Sent: sinceSent[late]}
}

// measureWatched measures calls and live events beside a large backlog.
func measureWatched(ctx context.Context, m *measurement) (result, error) {
	topic, n := m.name, m.count(watchedConversations, 1_000)
	if err := m.kafka.create(ctx, topic); err != nil {
		return nil, err
	}
	c, err := m.startCaller(ctx, topic, sandbox.Faults{},
		[]string{"--rate", strconv.Itoa(vendorRate), "--backfill-topic", m.kafka.topic,
			"--max-pending", strconv.Itoa(3 * n)}, job{})
	if err != nil {
		return nil, err
	}
	if err := c.waitReceived(ctx, n); err != nil {
		return nil, err
	}
	live := &liveEvents{kafka: m.kafka, topic: topic, base: 2 * watchedConversations}
	if err := live.produce(ctx, m.warmUp()); err != nil {
		return nil, err
	}
	live.first = len(live.sent)
	before, err := c.applied()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := live.produce(ctx, m.duration(2*steady)); err != nil {
		return nil, err
	}
	after, err := c.applied()
	if err != nil {
		return nil, err
	}
	rate := float64(after-before) / time.Since(began).Seconds()
	var calls []sandbox.Arrival
	err = c.wait(ctx, 200*time.Millisecond, func() (_ bool, err error) {
		calls, err = c.arrivals()
		return live.called(calls) >= len(live.sent), err
	})
	if err != nil {
		return nil, err
	}
	got := live.latencies(calls)
	got[callsPerSecond] = rate
	return got, nil
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
