package worker

import (
	"time"

	"github.com/rs/zerolog"

	"markread/consumer"
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
}

const shortPause = time.Minute

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
	line.Msg("calls are held; events wait, nothing is dead-lettered because of it")
}

func (a *announcer) shifted(h hold.Hold) {
	a.about(a.log.Warn(), h).Str("detail", h.Detail).Str("do", h.Do).Msg("calls are still held, now for another cause")
}

// ended tells that a hold is over; still are those that go on.
func (a *announcer) ended(now time.Time, h hold.Hold, still []hold.Hold) {
	if h.Reason == hold.Throttled && a.silent {
		return
	}
	line, message := a.about(a.log.Info(), h).Dur("held_ms", now.Sub(h.Since)), "a hold is over: calls go on"
	if len(still) > 0 {
		line, message = line.Str("still", string(still[0].Reason)), "a hold is over, another one goes on"
	}
	line.Msg(message)
}

// givenUp tells that a hold ends because what would have ended it is gone.
func (a *announcer) givenUp(now time.Time, h hold.Hold) {
	a.about(a.log.Info(), h).Dur("held_ms", now.Sub(h.Since)).Msg("a hold is given up with the partitions: their next owner finds out anew")
}

// about says which hold a line is about.
func (*announcer) about(line *zerolog.Event, h hold.Hold) *zerolog.Event {
	line.Str("reason", string(h.Reason))
	if h.Lane != hold.All {
		line.Stringer("lane", consumer.Lane(h.Lane))
	}
	return line
}
