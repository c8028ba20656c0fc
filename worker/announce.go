package worker

import (
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/worker/hold"
)

// announcer writes the log's lines about holds: one when a hold begins, one when it ends, and one for each
// new cause that it has meanwhile. A server that asks for a short pause again and again would make many: of
// those one in a minute is told, which says how many were left out.
type announcer struct {
	log     zerolog.Logger
	told    time.Time // when a short pause was told last
	skipped int       // short pauses since then
	silent  bool      // the pause that is on was not told

	slowed bool      // it was told that the limit is below the share
	full   time.Time // since when it is not any more; zero: it is
}

const (
	shortPause = time.Minute
	fullFor    = time.Minute // how long the whole share must have been free until that is told
)

// limit tells when the server slows us down, and when that has been over for a while.
func (a *announcer) limit(now time.Time, limit, share int) {
	switch {
	case limit >= share && !a.slowed, share == 0:
		return
	case limit < share:
		a.full = time.Time{}
		if !a.slowed {
			a.slowed = true
			a.log.Warn().Int("limit", limit).Int("share", share).Str("do", hold.Throttled.Do()).
				Msg("the server answers that there are too many calls: slowed down; the limit grows back when it takes more")
		}
	case a.full.IsZero():
		a.full = now
	case now.Sub(a.full) >= fullFor:
		a.slowed = false
		a.log.Info().Int("share", share).Msg("the server takes as many calls as before")
	}
}

func (a *announcer) begun(now time.Time, h hold.Hold) {
	line := a.about(a.log.Warn(), h).Str("detail", h.Detail).Str("do", h.Do)
	if h.Reason == hold.Throttled {
		a.silent = h.NextProbe.Sub(now) < shortPause && !a.told.IsZero() && now.Sub(a.told) < shortPause
		if a.silent {
			a.skipped++
			return
		}
		if a.skipped > 0 {
			line.Int("repeated", a.skipped)
		}
		a.told, a.skipped = now, 0
	}
	line.Msgf("calls are held: %s; events wait, nothing is dead-lettered because of it", h.Reason)
}

func (a *announcer) shifted(h hold.Hold) {
	a.about(a.log.Warn(), h).Str("detail", h.Detail).Str("do", h.Do).Msg("calls are still held, now for another cause")
}

// ended tells that a hold is over; still are those that go on.
func (a *announcer) ended(now time.Time, h hold.Hold, still []hold.Hold) {
	if h.Reason == hold.Throttled && a.silent {
		return
	}
	line, message := a.about(a.log.Info(), h).Int64("held_ms", now.Sub(h.Since).Milliseconds()), "no longer held: calls go on"
	if len(still) > 0 {
		line, message = line.Str("still", string(still[0].Reason)), "no longer held for this reason, but still for another one"
	}
	line.Msg(message)
}

// givenUp tells that a hold ends because what would have ended it is gone.
func (a *announcer) givenUp(now time.Time, h hold.Hold) {
	a.about(a.log.Info(), h).Int64("held_ms", now.Sub(h.Since).Milliseconds()).Msg("a hold is given up with the partitions: their next owner finds out anew")
}

// about says which hold a line is about.
func (*announcer) about(line *zerolog.Event, h hold.Hold) *zerolog.Event {
	line.Str("reason", string(h.Reason))
	if h.Lane != hold.All {
		line.Stringer("lane", event.Lane(h.Lane))
	}
	return line
}
