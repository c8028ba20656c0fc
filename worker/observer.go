package worker

import (
	"math/bits"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/consumer/logthrottle"
	"markread/imclient"
	"markread/worker/engine"
	"markread/worker/hold"
)

// observer counts and logs what the engine does. It logs one line when a hold begins, one when it
// ends, and one for each new cause meanwhile. A server that repeatedly asks for a short pause would
// cause many lines: of these it logs one per minute, with the number of omitted ones.
type observer struct {
	*metrics
	log        zerolog.Logger
	throttled  logthrottle.Log
	maxReplays int // replays after which a dead letter is parked; 0: never

	exemplarAt [2][65]int64 // Unix seconds of the last exemplar, by lane and bits of the age

	logged     time.Time // when a short pause was last logged
	skipped    int       // short pauses omitted since then
	suppressed bool      // the active pause was not logged

	slowdownLogged bool // a limit below the share was logged
	// since when the limit has been the whole share again; zero: it is below
	fullSince time.Time
}

const (
	shortPause = time.Minute
	// how long the whole share must be available before that is logged
	recoveredAfter = time.Minute
	// the objective: a live event finishes within this time
	lateAfter = 5 * time.Second
)

// EventFinished observes an event's age, and logs that a live event was applied late; a dead letter
// has a line of its own.
func (o *observer) EventFinished(lane event.Lane, age time.Duration, c *engine.Call) {
	if c == nil {
		o.observeAge(lane, age, "")
		return
	}
	o.observeAge(lane, age, o.exemplar(lane, age, c.Traceparent))
	if lane == event.Live && age > lateAfter {
		o.logLate(age, c)
	}
}

// exemplar returns the ID of a sampled trace, or "" if there is none, or if ages of this magnitude
// had one in this second: an exemplar costs as much as fifty observations.
func (o *observer) exemplar(lane event.Lane, age time.Duration, t event.Traceparent) string {
	if !t.Sampled() {
		return ""
	}
	last, second := &o.exemplarAt[lane][bits.Len64(uint64(max(0, age)))], time.Now().Unix()
	if *last == second {
		return ""
	}
	*last = second
	return t.TraceID()
}

// logLate logs that a live event was applied late, throttled: after an outage very many are.
func (o *observer) logLate(age time.Duration, c *engine.Call) {
	line := withRecord(o.throttled.Pass("late", o.log.Info()), c.Position())
	withTrace(line, c.Traceparent).Float64("age_seconds", age.Seconds()).
		Int32("collapsed", c.Settled).Int32("attempts", c.Attempts).Int32("failures", c.Failures).
		Msg("a live event finished late")
}

// CallRetried logs at debug level only: holds and metrics show that the service fails.
func (o *observer) CallRetried(c *engine.Call, failure *imclient.Error, attempts, failures int32) {
	if line := o.log.Debug(); line.Enabled() {
		withRecord(line, c.Record()).Str("code", failure.Label).Int32("attempts", attempts).
			Int32("failures", failures).Msg("a call failed; retrying")
	}
}

// LetterWritten counts and logs a dead letter.
func (o *observer) LetterWritten(l *engine.Letter) {
	o.letters.WithLabelValues(l.Class, codeLabel(l.Code)).Inc()
	line := o.log.Warn()
	if o.maxReplays > 0 && l.Event.Replays >= o.maxReplays {
		line.Bool("parked", true)
	}
	withRecord(line, l.Event.Record).Str("class", l.Class).Str("code", l.Code).
		Int("attempts", l.Attempts).Int("collapsed", l.Collapsed).Str("reason", l.Reason)
	if l.Do != "" {
		line.Str("do", l.Do)
	}
	line.Msg("dead-lettered")
}

// withRecord adds a record's topic, partition and offset to a log line, and the ID of its trace.
func withRecord(line *zerolog.Event, r event.Record) *zerolog.Event {
	line.Str("topic", r.Topic).Int("partition", r.Partition).Int64("offset", r.Offset)
	return withTrace(line, r.Traceparent())
}

// withTrace adds the ID of a trace, if there is one, to a log line.
func withTrace(line *zerolog.Event, t event.Traceparent) *zerolog.Event {
	if id := t.TraceID(); id != "" {
		line.Str("trace_id", id)
	}
	return line
}

// Limit logs when the server reduces our limit, and when the limit has been back at the share for
// recoveredAfter.
func (o *observer) Limit(now time.Time, limit, share int) {
	switch {
	case limit >= share && !o.slowdownLogged, share == 0:
		return
	case limit < share:
		o.fullSince = time.Time{}
		if !o.slowdownLogged {
			o.slowdownLogged = true
			o.log.Warn().Int("limit", limit).Int("share", share).
				Str("do", "nothing for the first 5 minutes: the limit grows back. If it recurs, "+
					"find what else calls the API for this app, and lower --rate by its share").
				Msg("rate limit reduced: the server refuses calls because there are too many")
		}
	case o.fullSince.IsZero():
		o.fullSince = now
	case now.Sub(o.fullSince) >= recoveredAfter:
		o.slowdownLogged = false
		o.log.Info().Int("share", share).Msg("rate limit fully recovered")
	}
}

// HoldsChanged logs each change of the holds.
func (o *observer) HoldsChanged(now time.Time, change hold.Change, active []hold.Hold) {
	for _, h := range change.Begun {
		o.logBegun(now, h)
	}
	for _, h := range change.CauseChanged {
		withHold(o.log.Warn(), h).Str("detail", h.Detail).Str("do", h.Do).
			Msg("calls are still held, now for another cause")
	}
	ended := func(h hold.Hold) *zerolog.Event {
		return withHold(o.log.Info(), h).Int64("held_ms", now.Sub(h.Since).Milliseconds())
	}
	for _, h := range change.Ended {
		switch {
		case h.Reason == hold.Throttled && o.suppressed:
		case len(active) == 0:
			ended(h).Msg("no longer held: calls resume")
		default:
			ended(h).Str("still", string(active[0].Reason)).
				Msg("no longer held for this reason, but still for another one")
		}
	}
	for _, h := range change.Dropped {
		ended(h).Msg("hold dropped: partitions revoked; the next owner re-evaluates")
	}
}

// logBegun logs that a hold began, unless it is one of many short pauses.
func (o *observer) logBegun(now time.Time, h hold.Hold) {
	line := withHold(o.log.Warn(), h).Str("detail", h.Detail).Str("do", h.Do)
	if h.Reason == hold.Throttled {
		short := h.NextProbe.Sub(now) < shortPause
		if o.suppressed = short && !o.logged.IsZero() &&
			now.Sub(o.logged) < shortPause; o.suppressed {
			o.skipped++
			return
		}
		if o.skipped > 0 {
			line.Int("repeated", o.skipped)
		}
		o.logged, o.skipped = now, 0
	}
	line.Msg("calls are held; events wait, nothing is dead-lettered because of it")
}

// withHold adds a hold's reason, lane and code to a log line, and who paused it, why, and who ended
// it.
func withHold(line *zerolog.Event, h hold.Hold) *zerolog.Event {
	line.Str("reason", string(h.Reason))
	if h.Lane != hold.All {
		line.Stringer("lane", event.Lane(h.Lane))
	}
	for _, f := range [...]struct{ name, text string }{
		{"code", h.Code}, {"by", h.By}, {"why", h.Why}, {"ended_by", h.EndedBy},
	} {
		if f.text != "" {
			line.Str(f.name, f.text)
		}
	}
	return line
}
