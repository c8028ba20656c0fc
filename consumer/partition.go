package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/offsets"

	"github.com/rs/zerolog"
)

// partition is one assigned partition of a generation. Only its fetcher moves it on.
type partition struct {
	event.TopicPartition
	g     *Generation
	index int // in Generation.partitions: the upper part of its Refs
	lane  event.Lane

	memory *kafkaclient.Memory // the lane's

	// The fetcher's.
	lastDelivered fingerprint // of what was delivered
	// when the log was last known to be that of the fingerprint; zero: not since a failure or a
	// pause
	verifiedAt time.Time
	wait       kafkaclient.Backoff // after a failure; it grows until a fetch is good

	fetchOffset    int64     // where the last fetch began
	beyondEndSince time.Time // since when every fetch has been out of range beyond the end
	// bytes that the next one asks for beside the usual ones, to get beyond the fingerprint's batch
	extraBytes int32

	mu            sync.Mutex
	tracker       offsets.Tracker
	highWatermark int64 // -1: not known yet
	logStart      int64 // the least that the log is known to begin at
	rangeAt       time.Time
	// the last good fetch, or when there was capacity again for one
	lastGood   time.Time
	unreadable *kafkaclient.Unreadable // nil: the partition can be read
}

// Refs have the arrival number in the lower bits.
const arrivalBits = 48

func (p *partition) ref(arrival uint64) event.Ref {
	return event.Ref(uint64(p.index)<<arrivalBits | arrival)
}

// event begins a line of the log about the partition at an offset.
func (p *partition) logEvent(level zerolog.Level, offset int64) *zerolog.Event {
	return p.g.client.Options.Log.WithLevel(level).Str("topic", p.Topic).
		Int("partition", p.Partition).Int64("offset", offset)
}

// begins takes over where the group is.
func (p *partition) initTracker(committed offsets.Commit) {
	p.tracker = offsets.New(committed.Offset, committed.Offset)
	if err := p.tracker.Inherit(committed.Metadata); err != nil {
		p.logEvent(zerolog.WarnLevel, committed.Offset).Err(err).
			Str("do", "nothing, if another program has committed for this group; else find who "+
				"has Read on the group").
			Msg("what is committed beside the offset is not ours, or damaged, and is ignored: " +
				"some calls will be repeated")
	}
}

// run fetches and delivers until ctx ends. No error ends it: the partition would stand still.
func (p *partition) run(ctx context.Context, sink Sink) {
	p.wait = kafkaclient.NewBackoff()
	for err := p.findStart(ctx); err != nil; err = p.findStart(ctx) {
		if !p.pauseAfter(ctx, err) {
			return
		}
	}
	p.wait = kafkaclient.NewBackoff()
	for p.waitForCapacity(ctx, sink) == nil {
		err := p.fetchOnce(ctx, sink)
		if errors.Is(err, kafkaclient.OffsetOutOfRange) {
			err = p.outOfRange(ctx)
		}
		if !errors.Is(err, kafkaclient.OffsetOutOfRange) {
			p.beyondEndSince = time.Time{}
		}
		if err != nil {
			p.verifiedAt = time.Time{}
			if !p.pauseAfter(ctx, err) {
				return
			}
		}
	}
}

// pauseAfter notes a failure, and waits until the next try. false: ctx has ended.
func (p *partition) pauseAfter(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	p.fetchFailed(err)
	return p.wait.Sleep(ctx)
}

// step does one fetch, and delivers what it finds.
func (p *partition) fetchOnce(ctx context.Context, sink Sink) error {
	a := kafkaclient.Following
	a.Bytes = min(a.Bytes+p.extraBytes, kafkaclient.MaxBatch)
	began, asked := time.Now(), false
	f, err := p.g.client.Fetch(ctx, p.memory, p.TopicPartition, func() int64 {
		if asked { // it has waited for memory
			p.paused(time.Since(began))
		}
		began, asked = time.Now(), true
		p.fetchOffset = p.position()
		if p.lastDelivered.known && time.Since(p.verifiedAt) > kafkaclient.SameLog {
			p.fetchOffset = p.lastDelivered.offset
		}
		return p.fetchOffset
	}, a)
	if err != nil {
		return err
	}
	defer f.Close()
	p.verifiedAt = time.Now()
	p.setLogRange(f.HighWatermark, f.LogStart)
	if f.Empty() {
		p.fetchSucceeded()
		return nil
	}
	began = time.Now()
	d, err := p.memory.Decoder(ctx)
	if err != nil {
		return err
	}
	defer p.memory.GiveBack(d)
	p.paused(time.Since(began))
	size, position := int32(len(f.Records)), p.position()
	if err = p.deliver(ctx, sink, f, d); err != nil {
		return err
	}
	p.extraBytes = 0
	if f.Next <= position { // the fingerprint's batch, and nothing of what is behind it
		p.extraBytes = 2 * size
	}
	return nil
}

// room waits until the sink takes more.
func (p *partition) waitForCapacity(ctx context.Context, sink Sink) error {
	began := time.Now()
	err := sink.WaitForCapacity(ctx, p.lane)
	if pause := time.Since(began); pause > kafkaclient.ShortPause {
		p.verifiedAt = time.Time{}
		p.paused(pause)
	}
	return err
}

// begin finds where to start: at the oldest record, if the group has committed nothing.
func (p *partition) findStart(ctx context.Context) error {
	if p.position() >= 0 {
		return p.checkInherited(ctx)
	}
	first, _, err := p.g.client.LogRange(ctx, p.Topic, p.Partition)
	if err == nil {
		p.mu.Lock()
		p.tracker = offsets.New(first, -1)
		p.mu.Unlock()
	}
	return err
}

func (p *partition) position() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.Position()
}

// deliver gives what was fetched to the sink, in chunks, asking for room before each. What it does
// not give because ctx has ended stays behind the position.
func (p *partition) deliver(ctx context.Context, sink Sink, f *kafkaclient.Fetched,
	d *kafkaclient.Decoder) error {
	for first := true; ; first = false {
		records, err := f.Chunk(&d.Decoder)
		if err != nil {
			return err
		}
		if first {
			same := false
			if records, same = p.lastDelivered.strip(records, p.position()); !same {
				return p.startOver(ctx)
			}
		}
		// A fingerprint alone says nothing about what is behind it.
		if f.Next > p.position() || f.Next >= f.HighWatermark {
			p.fetchSucceeded()
		}
		if len(records) == 0 && !f.Opened {
			break
		}
		if !first && p.waitForCapacity(ctx, sink) != nil {
			return ctx.Err()
		}
		now := p.g.now()
		d.Events = d.Events[:0]
		for _, r := range records {
			e := event.Decode(event.Record(r), now)
			e.Lane = p.lane
			d.Events = append(d.Events, e)
		}
		if len(records) > 0 {
			p.lastDelivered = fingerprintOf(records[len(records)-1])
		}
		if events := p.add(d.Events, now); len(events) > 0 {
			sink.Deliver(events)
		}
	}
	p.mu.Lock()
	p.tracker.Skip(f.Next)
	p.mu.Unlock()
	return nil
}

// tracked is when an event was, as the tracker keeps it.
func eventTime(e event.Event, now time.Time) time.Time {
	switch {
	case !e.EventTime.IsZero():
		return e.EventTime
	case !e.Record.Time.IsZero():
		return e.Record.Time // the header is malformed
	default:
		return now
	}
}

// add tracks what was read next, and returns the events that have not finished yet.
func (p *partition) add(events []event.Event, now time.Time) []event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	unfinished := events[:0]
	for _, e := range events {
		arrival, attempts, finished := p.tracker.Add(e.Record.Offset, eventTime(e, now))
		if e.Record.Damage != nil { // it stands for a range
			p.tracker.Skip(e.Record.Damage.Last + 1)
		}
		if finished {
			continue
		}
		e.Ref, e.Attempts = p.ref(arrival), attempts
		unfinished = append(unfinished, e)
	}
	return unfinished
}

// outOfRange finds out which way a fetch left the log. Before its beginning: retention was faster,
// and what it deleted unread is lost. Beyond its end: it is another log.
func (p *partition) outOfRange(ctx context.Context) error {
	first, end, err := p.g.client.LogRange(ctx, p.Topic, p.Partition)
	switch {
	case err != nil:
		return err
	case p.fetchOffset < first:
		p.lastDelivered = fingerprint{}
		p.skipTo(first)
		return nil
	case p.fetchOffset <= end:
		p.beyondEndSince = time.Time{}
		return fmt.Errorf("offset %d is within %d and %d, but was answered with: %w", p.fetchOffset,
			first, end, kafkaclient.OffsetOutOfRange)
	case p.beyondEndSince.IsZero():
		p.beyondEndSince = time.Now()
	case time.Since(p.beyondEndSince) >= kafkaclient.AnotherLog:
		return p.startOver(ctx)
	}
	return fmt.Errorf("offset %d is beyond the log's end, %d: %w", p.fetchOffset, end,
		kafkaclient.OffsetOutOfRange)
}

// skipTo goes on at the first offset that retention has left.
func (p *partition) skipTo(first int64) {
	p.mu.Lock()
	position := p.tracker.Position()
	lost := first - position - p.tracker.KnownFinished(first)
	p.tracker.Skip(first)
	p.mu.Unlock()
	if position >= first || lost == 0 {
		return
	}
	p.g.mu.Lock()
	p.g.lost[p.Topic] += lost
	p.g.mu.Unlock()
	p.logEvent(zerolog.ErrorLevel, position).Int64("next_offset", first).Int64("lost", lost).
		Msg("retention deleted events before they were read")
}

// startOver reads another log of the same name from its beginning.
func (p *partition) startOver(ctx context.Context) error {
	first, end, err := p.g.client.LogRange(ctx, p.Topic, p.Partition)
	if err != nil {
		return err
	}
	p.logEvent(zerolog.ErrorLevel, p.position()).Int64("end", end).Int64("next_offset", first).
		Msg("the topic was made again or cut: reading it from its beginning")
	p.lastDelivered = fingerprint{}
	p.mu.Lock()
	p.tracker.Reset(first)
	p.logStart = first
	p.mu.Unlock()
	return nil
}

// mark notes where the log begins and ends; negative: not known.
func (p *partition) setLogRange(highWatermark, logStart int64) {
	if highWatermark < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.highWatermark, p.rangeAt = highWatermark, time.Now()
	if highWatermark < p.logStart {
		p.logStart = 0 // another log
	}
	p.logStart = max(p.logStart, logStart)
}

func (p *partition) state() PartitionState {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PartitionState{TopicPartition: p.TopicPartition, Committed: p.tracker.Committed(),
		HighWatermark: -1}
	if position := p.tracker.Position(); p.highWatermark >= 0 && position >= 0 {
		from := s.Committed
		if from < 0 {
			from = p.tracker.Committable()
		}
		// of another log: nothing of this one was read
		if position > p.highWatermark && p.unreadable != nil {
			from = p.logStart
		}
		s.HighWatermark, s.Lag = p.highWatermark, max(0, p.highWatermark-from)
	}
	if n, offset, at, ok := p.tracker.Oldest(); ok {
		s.Oldest = &Oldest{Ref: p.ref(n), Offset: offset, Time: at}
	}
	if p.unreadable != nil {
		s.Unreadable = new(*p.unreadable)
	}
	return s
}
