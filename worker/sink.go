package worker

import (
	"context"
	"time"

	"markread/consumer/event"
)

// sink takes in what is fetched.
type sink struct{ *Worker }

// Room blocks while the lane's share of memory is full.
func (s sink) Room(ctx context.Context, lane event.Lane) error {
	for {
		s.mu.Lock()
		if s.engine.HasCapacity(lane) {
			s.mu.Unlock()
			return ctx.Err()
		}
		if s.roomy[lane] == nil {
			s.roomy[lane] = make(chan struct{})
		}
		roomy := s.roomy[lane]
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-roomy:
		}
	}
}

// Deliver puts a batch into the backlog.
func (s sink) Deliver(events []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine.Receive(time.Now(), events)
	s.Worker.wakeWaiting()
}
