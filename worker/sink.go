package worker

import (
	"context"
	"time"

	"markread/consumer/event"
)

// sink receives the fetched events.
type sink struct{ *dispatcher }

// WaitForCapacity blocks while the lane has no capacity in memory.
func (s sink) WaitForCapacity(ctx context.Context, lane event.Lane) error {
	for {
		s.mu.Lock()
		if s.engine.HasCapacity(lane) {
			s.mu.Unlock()
			return ctx.Err()
		}
		if s.capacityFreed[lane] == nil {
			s.capacityFreed[lane] = make(chan struct{})
		}
		capacity := s.capacityFreed[lane]
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-capacity:
		}
	}
}

// Behind implements consumer.Sink.
func (s sink) Behind(lane event.Lane, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine.Behind(lane, n)
	if n < 0 {
		s.changed(s.start(time.Now()))
	}
}

// Deliver adds a batch to the backlog.
func (s sink) Deliver(events []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.engine.Receive(now, events)
	s.changed(s.start(now))
}
