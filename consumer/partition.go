package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/offsets"

	"github.com/rs/zerolog"
)

// partition is one assigned partition of a generation. Only its fetcher, the goroutine of run,
// advances its position.
type partition struct {
	event.TopicPartition
	g     *Generation
	index int // in Generation.partitions; the upper bits of its Refs
	lane  event.Lane

	memory *kafkaclient.Memory // shared by the lane

	// Used only by the fetcher:
	lastDelivered fingerprint // of the last delivered record
	// when the log last matched the fingerprint; zero: not verified since a failure or a pause
	verifiedAt time.Time
	wait       kafkaclient.Backoff // after a failure; grows until a fetch succeeds

	fetchOffset    int64     // the offset of the last fetch
	beyondEndSince time.Time // since when every fetch has been beyond the end of the log
	// how many bytes more than usual the next fetch requests, to get past the fingerprint's batch
	extraBytes int32
	backlogEnd int64 // the high watermark of the first fetch; 0: there was none
	behind     bool  // not everything up to backlogEnd was delivered

	mu            sync.Mutex
	tracker       offsets.Tracker
	written       offsets.Timestamps // of the delivered records
	highWatermark int64              // -1: not known yet
	logStart      int64              // the highest known log start offset
	rangeAt       time.Time
	allReadAt     time.Time // when the position was last at the end of the log; zero: never
	// when a fetch last succeeded, or when capacity became available again
	lastGood   time.Time
	unreadable *kafkaclient.Unreadable // nil: the partition can be read
}

// arrivalBits is how many of the lower bits of a Ref hold the arrival number.
const arrivalBits = 48

func (p *partition) ref(arrival uint64) event.Ref {
	return event.Ref(uint64(p.index)<<arrivalBits | arrival)
}

// logEvent returns a log event with the partition and an offset as fields.
func (p *partition) logEvent(level zerolog.Level, offset int64) *zerolog.Event {
	return p.g.client.Options.Log.WithLevel(level).Str("topic", p.Topic).
		Int("partition", p.Partition).Int64("offset", offset)
}

// initTracker starts at the committed offset, with the commit metadata if it is valid.
func (p *partition) initTracker(committed offsets.Commit) {
	p.tracker = offsets.New(committed.Offset, committed.Offset)
	if err := p.tracker.Inherit(committed.Metadata); err != nil {
		p.logEvent(zerolog.WarnLevel, committed.Offset).Err(err).
			Str("do", "nothing, if another program has committed for this group; else find out "+
				"who has the Read permission on the group").
			Msg("commit metadata is ignored: not written by markread, or damaged; " +
				"some calls will be repeated")
	}
}

// run fetches and delivers until ctx ends. No error ends it: the partition would never be read
// again.
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
			p.setBehind(sink, false) // nothing can be read for now
			p.verifiedAt = time.Time{}
			if !p.pauseAfter(ctx, err) {
				return
			}
		}
	}
}

// pauseAfter records a failure and waits for the backoff. It returns false when ctx has ended.
func (p *partition) pauseAfter(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	p.fetchFailed(err)
	return p.wait.Sleep(ctx)
}

// fetchOnce performs one fetch and delivers its records.
func (p *partition) fetchOnce(ctx context.Context, sink Sink) error {
	a := kafkaclient.Following
	a.Bytes = min(a.Bytes+p.extraBytes, kafkaclient.MaxBatch)
	began, asked := time.Now(), false
	f, err := p.g.client.Fetch(ctx, p.memory, p.TopicPartition, func() int64 {
		if asked { // called again: the fetch has waited for memory
			p.paused(time.Since(began))
		}
		began, asked = time.Now(), true
		p.fetchOffset = p.position()
		if p.lastDelivered.known && time.Since(p.verifiedAt) > kafkaclient.SameLogWithin {
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
		p.setBehind(sink, false)
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
	if p.backlogEnd == 0 {
		p.backlogEnd = f.HighWatermark
	}
	// Another log may have replaced the one of the first fetch.
	p.setBehind(sink, f.Next < min(p.backlogEnd, f.HighWatermark))
	p.extraBytes = 0
	if f.Next <= position { // only the fingerprint's batch fit into the response
		p.extraBytes = 2 * size
	}
	return nil
}

// setBehind notifies the sink of a change.
func (p *partition) setBehind(sink Sink, behind bool) {
	switch {
	case behind && !p.behind:
		sink.Behind(p.lane, 1)
	case !behind && p.behind:
		sink.Behind(p.lane, -1)
	}
	p.behind = behind
}

// waitForCapacity waits until the sink has capacity. A long wait requires a new check that the log
// is still the same.
func (p *partition) waitForCapacity(ctx context.Context, sink Sink) error {
	began := time.Now()
	err := sink.WaitForCapacity(ctx, p.lane)
	if pause := time.Since(began); pause > kafkaclient.MaxSameLogPause {
		p.verifiedAt = time.Time{}
		p.paused(pause)
	}
	return err
}

// findStart determines the first offset to read: the committed one, or the oldest record if the
// group has committed nothing.
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

// deliver delivers the fetched records to the sink in chunks, and waits for capacity before each.
// When ctx ends first, the position stays before the records that were not delivered.
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
		// The fingerprint alone does not prove that the records after it can be read.
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
		d.Events = slices.Grow(d.Events[:0], len(records))[:len(records)]
		for i := range records { // in place, because an Event is large
			d.Events[i] = event.Event{Record: event.Record(records[i]), Lane: p.lane}
			d.Events[i].Decode(now)
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

// eventTime returns the time that the tracker stores for an event: the event time, or else the time
// of its record, or now.
func eventTime(e *event.Event, now time.Time) time.Time {
	switch {
	case !e.EventTime.IsZero():
		return e.EventTime
	case !e.Record.Time.IsZero():
		return e.Record.Time // the event-time header is malformed
	default:
		return now
	}
}

// add passes the events to the tracker, and returns the events that no earlier owner has finished.
func (p *partition) add(events []event.Event, now time.Time) []event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	unfinished := 0
	for i := range events {
		e := &events[i]
		p.written.Add(e.Record.Offset, e.Record.Time, p.tracker.Committed())
		arrival, attempts, finished := p.tracker.Add(e.Record.Offset, eventTime(e, now))
		if e.Record.Damage != nil { // it covers a range of offsets
			p.tracker.Skip(e.Record.Damage.Last + 1)
		}
		if finished {
			continue
		}
		e.Ref, e.Attempts = p.ref(arrival), attempts
		if unfinished < i {
			events[unfinished] = *e
		}
		unfinished++
	}
	return events[:unfinished]
}

// outOfRange handles a fetch outside of the log. An offset before the log start was deleted by
// retention, and unread records are lost. An offset that stays beyond the end for 5 s
// (LogReplacedAfter) means a recreated or truncated topic.
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
		return fmt.Errorf("offset %d is between %d and %d, but the broker responds: %w",
			p.fetchOffset, first, end, kafkaclient.OffsetOutOfRange)
	case p.beyondEndSince.IsZero():
		p.beyondEndSince = time.Now()
	case time.Since(p.beyondEndSince) >= kafkaclient.LogReplacedAfter:
		return p.startOver(ctx)
	}
	return fmt.Errorf("offset %d is beyond the log's end, %d: %w", p.fetchOffset, end,
		kafkaclient.OffsetOutOfRange)
}

// skipTo continues at first, the oldest offset that retention has kept, and counts and logs the
// lost ones.
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

// startOver continues at the beginning of the log, which has replaced the one read so far.
func (p *partition) startOver(ctx context.Context) error {
	first, end, err := p.g.client.LogRange(ctx, p.Topic, p.Partition)
	if err != nil {
		return err
	}
	p.logEvent(zerolog.ErrorLevel, p.position()).Int64("end", end).Int64("next_offset", first).
		Msg("topic recreated or truncated; reading from the beginning")
	p.lastDelivered = fingerprint{}
	p.mu.Lock()
	p.tracker.Reset(first)
	p.written.Reset()
	p.logStart = first
	p.mu.Unlock()
	return nil
}

// setLogRange stores the log's high watermark and start offset; negative: unknown.
func (p *partition) setLogRange(highWatermark, logStart int64) {
	if highWatermark < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.highWatermark, p.rangeAt = highWatermark, time.Now()
	if p.tracker.Position() == highWatermark {
		p.allReadAt = p.rangeAt.Round(0) // retention counts by the wall clock
	}
	if highWatermark < p.logStart {
		p.logStart = 0 // the log was replaced
	}
	p.logStart = max(p.logStart, logStart)
}

// state returns the partition's progress.
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
		// the log was replaced: nothing of the new one has been read
		if position > p.highWatermark && p.unreadable != nil {
			from = p.logStart
		}
		s.HighWatermark, s.Lag = p.highWatermark, max(0, p.highWatermark-from)
		s.AllRead = position >= p.highWatermark && p.unreadable == nil
	}
	if s.Written = p.written.At(p.tracker.Position()); s.Written.Before(p.allReadAt) {
		s.Written = p.allReadAt
	}
	if n, offset, at, ok := p.tracker.Oldest(); ok {
		s.Oldest = &Oldest{Ref: p.ref(n), Offset: offset, Time: at}
		s.Written = p.written.At(offset)
	}
	if p.unreadable != nil {
		s.Unreadable = new(*p.unreadable)
	}
	return s
}
