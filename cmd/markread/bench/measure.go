package bench

import (
	"context"
	"time"
)

// startCaller starts the process of the measurement's side that makes calls: at the rate, or as
// many as 64 in flight allow.
func (m *measurement) startCaller(ctx context.Context, topic string, s *server, perSecond,
	events int) (*process, error) {
	if m.side == markread || m.side == baseline {
		flags := []string{"--rate", "200"}
		if perSecond == 0 {
			flags = []string{"--rate", "0", "--max-in-flight", "64"}
		}
		w, err := m.startWorker(ctx, topic, s, flags...)
		if err != nil {
			return nil, err
		}
		return w.process, nil
	}
	url, err := s.callURL()
	if err != nil {
		return nil, err
	}
	role := map[string]string{kafkaLoop: "loop", postLoop: "post"}[m.side]
	return m.start(ctx, m.self, role, job{Brokers: m.kafka.brokers, Topic: topic, Group: m.group,
		URL: url, Events: events, InFlight: 64, Rate: perSecond})
}

// setCPU adds the CPU time of a number of calls to the result, if the machine has it.
func (r result) setCPU(p *process, before float64, calls int) {
	if after, err := p.cpu(); err == nil {
		r[cpuPerThousand] = (after - before) / float64(calls) * 1000
	}
}

// measureUncapped measures from the first arrival to the last. The CPU includes the start.
func measureUncapped(ctx context.Context, m *measurement) (result, error) {
	s, err := m.startServer(ctx, 2*time.Millisecond)
	if err != nil {
		return nil, err
	}
	n := m.count(uncappedEvents, 100)
	p, err := m.startCaller(ctx, m.kafka.topic, s, 0, n)
	if err != nil {
		return nil, err
	}
	if err := p.wait(ctx, 20*time.Millisecond, func() (bool, error) {
		applied, err := s.applied()
		return applied >= n, err
	}); err != nil {
		return nil, err
	}
	got := result{}
	got.setCPU(p, 0, n)
	calls, err := s.arrivals()
	if err != nil {
		return nil, err
	}
	got[callsPerSecond] = float64(len(calls)-1) / calls[len(calls)-1].At.Sub(calls[0].At).Seconds()
	return got, nil
}

// warmUp is the time before a rate is steady.
func (b *bench) warmUp() time.Duration { return b.duration(3 * time.Second) }

// measureRate measures the CPU of the middle of a backlog: not the start.
func measureRate(ctx context.Context, m *measurement) (result, error) {
	s, err := m.startServer(ctx, 0)
	if err != nil {
		return nil, err
	}
	p, err := m.startCaller(ctx, m.kafka.topic, s, vendorRate, 0)
	if err != nil {
		return nil, err
	}
	// reached waits until there have been so many calls, and returns their exact number.
	reached := func(n int) (calls int, err error) {
		return calls, p.wait(ctx, 50*time.Millisecond, func() (bool, error) {
			calls, err = s.applied()
			return calls >= n, err
		})
	}
	first, err := reached(int(m.warmUp().Seconds() * vendorRate))
	if err != nil {
		return nil, err
	}
	before, cpuErr := p.cpu()
	last, err := reached(first + int(m.duration(steady).Seconds()*vendorRate))
	if err != nil {
		return nil, err
	}
	got := result{}
	if cpuErr == nil {
		got.setCPU(p, before, last-first)
	}
	return got, nil
}

// measureIntake measures how fast a worker receives events while it makes one call a second.
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
	s, err := m.startServer(ctx, 0)
	if err != nil {
		return nil, err
	}
	w, err := m.startWorker(ctx, m.kafka.topic, s, "--rate", "1")
	if err != nil {
		return nil, err
	}
	// From the first poll that finds some: joining the group is not intake.
	var began time.Time
	var first int
	// Rare polls: each costs the worker about a millisecond.
	err = w.wait(ctx, 25*time.Millisecond, func() (bool, error) {
		now := time.Now()
		received, err := w.received()
		if first == 0 && received > 0 {
			began, first = now, received
		}
		return received >= n, err
	})
	got := result{}
	if first < n { // else it was faster than the polls
		got[eventsPerSecond] = float64(n-first) / time.Since(began).Seconds()
	}
	return got, err
}
