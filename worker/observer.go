package worker

import (
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/engine"
	"markread/worker/hold"
)

// observer counts and logs what the engine does. The log has one line when a hold begins, one when
// it ends, and one for each new cause meanwhile. A server that asks for a short pause again and
// again would cause many: of these one a minute is logged, with the number of those left out.
type observer struct {
	*metrics
	log        zerolog.Logger
	maxReplays int // replays after which a letter is parked; 0: none is

	logged     time.Time // when a short pause was logged last
	skipped    int       // short pauses since then
	suppressed bool      // the active pause was not logged

	slowdownLogged bool      // it was logged that the limit is below the share
	fullSince      time.Time // since when it no longer is; zero: it is
}

const (
	shortPause = time.Minute
	// how long the whole share must have been free until that is logged
	recoveredAfter = time.Minute
)

// CallRetried logs at debug level: failures of the service show in the holds and the metrics.
func (o *observer) CallRetried(c *engine.Call, failure *imclient.Error, attempts, failures int32) {
	if line := o.log.Debug(); line.Enabled() {
		withRecord(line, c.Record()).Str("code", failure.Label).Int32("attempts", attempts).
			Int32("failures", failures).Msg("a call failed; it is retried")
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
		Int("attempts", l.Attempts).Int("collapsed", l.Collapsed).Str("reason", l.Message).
		Msg("dead-lettered")
}

// withRecord adds a record's place to a log line.
func withRecord(line *zerolog.Event, r event.Record) *zerolog.Event {
	return line.Str("topic", r.Topic).Int("partition", r.Partition).Int64("offset", r.Offset)
}

// Limit logs when the server slows us down, and when that has been over for a while.
func (o *observer) Limit(now time.Time, limit, share int) {
	switch {
	case limit >= share && !o.slowdownLogged, share == 0:
		return
	case limit < share:
		o.fullSince = time.Time{}
		if !o.slowdownLogged {
			o.slowdownLogged = true
			o.log.Warn().Int("limit", limit).Int("share", share).Str("do", hold.Throttled.Do()).
				Msg("the server answers that there are too many calls: slowed down; " +
					"the limit grows back when it takes more")
		}
	case o.fullSince.IsZero():
		o.fullSince = now
	case now.Sub(o.fullSince) >= recoveredAfter:
		o.slowdownLogged = false
		o.log.Info().Int("share", share).Msg("the server takes as many calls as before")
	}
}

// HoldsChanged logs what changed.
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
			ended(h).Msg("no longer held: calls go on")
		default:
			ended(h).Str("still", string(active[0].Reason)).
				Msg("no longer held for this reason, but still for another one")
		}
	}
	for _, h := range change.Dropped {
		ended(h).Msg("a hold is given up with the partitions: their next owner finds out anew")
	}
}

// logBegun logs a hold, unless it is one of many short pauses.
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
	line.Msgf("calls are held: %s; events wait, nothing is dead-lettered because of it", h.Reason)
}

// withHold adds a hold to a log line.
func withHold(line *zerolog.Event, h hold.Hold) *zerolog.Event {
	line.Str("reason", string(h.Reason))
	if h.Lane != hold.All {
		line.Stringer("lane", event.Lane(h.Lane))
	}
	return line
}
