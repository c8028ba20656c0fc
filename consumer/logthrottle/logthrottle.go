// Package logthrottle keeps a failure that repeats from flooding the log: a broker that is away
// fails two dozen fetches several times a second. Of the lines of one kind it lets one pass in each
// interval; the field "repeated" of the next one says how many were left out since.
//
// It writes no lines of its own: what was left out after the last line of a kind is told by the
// next failure of that kind, however much later, or never. Who needs to know when something ended
// logs the end. Memory is bounded: beyond a number of kinds, all new ones are thinned together.
package logthrottle

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	interval = 10 * time.Second
	maxKinds = 100
)

// Log thins lines by their kind. The zero value is ready. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	kinds map[string]kindState
}

// kindState is what is known of one kind.
type kindState struct {
	last     time.Time // when a line passed
	repeated int       // lines left out since then
}

// Pass returns line if one of this kind may be written now, with the field "repeated" if some were
// left out before it; else nil, which zerolog writes nowhere. Call it before the line is filled in:
//
//	l.Pass("commit "+code, log.Warn()).Err(err).Msg("a commit failed")
//
// A kind is what tells one failure from another: a few words and a code, not a text from elsewhere.
func (l *Log) Pass(kind string, line *zerolog.Event) *zerolog.Event {
	if !line.Enabled() {
		return nil // its level is not written, so it is not left out either
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds = map[string]kindState{}
	}
	p, known := l.kinds[kind]
	if !known && len(l.kinds) >= maxKinds {
		kind = ""
		p = l.kinds[kind]
	}
	now := time.Now()
	if now.Sub(p.last) < interval {
		p.repeated++
		l.kinds[kind] = p
		return line.Discard()
	}
	l.kinds[kind] = kindState{last: now}
	if p.repeated > 0 {
		line.Int("repeated", p.repeated)
	}
	return line
}
