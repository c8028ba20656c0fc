package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"markread/consumer/offsets"
)

// partition is one assigned partition for as long as its generation lasts: where it reads, and what has
// finished. Its fetcher is the only one that moves it on.
type partition struct {
	TopicPartition
	g     *Generation
	index int // in Generation.partitions: the upper part of its Refs
	lane  Lane

	mu            sync.Mutex
	tracker       offsets.Tracker
	highWatermark int64 // -1: not known yet
	marked        time.Time
}

// Refs have the arrival number in the lower bits.
const arrivalBits = 48

func (p *partition) ref(arrival uint64) Ref { return Ref(uint64(p.index)<<arrivalBits | arrival) }

// run fetches and delivers until ctx ends. No error ends it: it has nobody to go to, and the partition would
// stand still; it waits and tries again.
func (p *partition) run(ctx context.Context, sink Sink) {
	if !p.begin(ctx) {
		return
	}
	wait := newWait()
	var outside time.Time // since when every fetch has been out of range beyond the end
	for {
		if sink.Room(ctx, p.lane) != nil {
			return
		}
		position := p.position()
		f, err := p.g.client.fetch(ctx, p.Topic, p.Partition, position)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			if err = p.outOfRange(ctx, position, &outside); err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.complain(err, "fetch failed; trying again")
			if !wait.sleep(ctx) {
				return
			}
			continue
		}
		wait, outside = newWait(), time.Time{}
		if !p.deliver(ctx, sink, f) {
			return
		}
	}
}

// begin finds where to start when the group has no committed offset: at the oldest record. false: ctx ended.
func (p *partition) begin(ctx context.Context) bool {
	if p.position() >= 0 {
		return true
	}
	for wait := newWait(); ; {
		first, _, err := p.g.client.bounds(ctx, p.Topic, p.Partition)
		if err == nil {
			p.mu.Lock()
			p.tracker = offsets.New(first, -1)
			p.mu.Unlock()
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		p.complain(err, "can't find the oldest offset; trying again")
		if !wait.sleep(ctx) {
			return false
		}
	}
}

func (p *partition) position() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.Position()
}

// deliver gives what was fetched to the sink, in chunks, asking for room before each. What it does not give
// because ctx has ended was never there: the position stays before it. false: ctx ended.
func (p *partition) deliver(ctx context.Context, sink Sink, f fetched) bool {
	p.mark(f.highWatermark)
	for records := f.records; len(records) > 0; {
		if len(records) < len(f.records) && sink.Room(ctx, p.lane) != nil {
			return false
		}
		n := min(len(records), chunkLimit)
		now := p.g.now()
		events := make([]Event, n)
		for i, record := range records[:n] {
			events[i] = Decode(record, now)
			events[i].Lane = p.lane
		}
		p.mu.Lock()
		for i := range events {
			at := events[i].EventTime
			if at.IsZero() {
				at = now
			}
			events[i].Ref = p.ref(p.tracker.Add(events[i].Record.Offset, at))
		}
		p.mu.Unlock()
		sink.Deliver(events)
		clear(records[:n]) // what the sink lets go must not be kept alive by the rest of the answer
		records = records[n:]
	}
	p.mu.Lock()
	p.tracker.Skip(f.next)
	p.mu.Unlock()
	return true
}

// outOfRange finds out which way the position left the log. Behind its beginning: retention was faster, and
// what it deleted is lost. Beyond its end: it is another log, which is read from its beginning.
func (p *partition) outOfRange(ctx context.Context, position int64, outside *time.Time) error {
	first, end, err := p.g.client.bounds(ctx, p.Topic, p.Partition)
	if err != nil {
		return err
	}
	log := p.g.client.options.Log
	switch {
	case position < first:
		p.g.lose(p.Topic, first-position)
		log.Error().Str("topic", p.Topic).Int("partition", p.Partition).Int64("offset", position).Int64("next_offset", first).
			Int64("lost", first-position).Msg("retention deleted events before they were read")
		p.mu.Lock()
		p.tracker.Skip(first)
		p.mu.Unlock()
		return nil
	case position <= end:
		*outside = time.Time{}
		return fmt.Errorf("offset %d is within %d and %d, but was answered with: %w", position, first, end, kafka.OffsetOutOfRange)
	}
	if outside.IsZero() {
		*outside = time.Now()
	}
	if time.Since(*outside) < anotherLog {
		return fmt.Errorf("offset %d is beyond the log's end, %d: %w", position, end, kafka.OffsetOutOfRange)
	}
	log.Error().Str("topic", p.Topic).Int("partition", p.Partition).Int64("offset", position).Int64("end", end).
		Int64("next_offset", first).Msg("the topic was made again or cut: reading it from its beginning")
	p.mu.Lock()
	p.tracker.Reset(first)
	p.mu.Unlock()
	*outside = time.Time{}
	return nil
}

// mark notes the log's end.
func (p *partition) mark(highWatermark int64) {
	if highWatermark < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.highWatermark, p.marked = highWatermark, time.Now()
}

func (p *partition) complain(err error, message string) {
	if isLayout(err) {
		p.g.client.refresh()
	}
	if errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition) || errors.Is(err, protocol.ErrNoLeader) {
		// What kafka-go says of any topic when it can reach no broker.
		err = fmt.Errorf("no broker that leads the partition is known, or none can be reached: %w", err)
	}
	p.g.client.repeats(message+" "+p.Topic+" "+code(err)).Err(err).Str("topic", p.Topic).Int("partition", p.Partition).Msg(message)
}

func (p *partition) state() PartitionState {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PartitionState{TopicPartition: p.TopicPartition, Committed: p.tracker.Committed(), HighWatermark: p.highWatermark}
	if s.HighWatermark >= 0 && p.tracker.Position() >= 0 {
		from := s.Committed
		if from < 0 {
			from = p.tracker.Committable()
		}
		s.Lag = max(0, s.HighWatermark-from)
	}
	if n, offset, at, ok := p.tracker.Oldest(); ok {
		s.Oldest = &Oldest{Ref: p.ref(n), Offset: offset, Time: at}
	}
	return s
}
