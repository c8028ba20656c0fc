// Package logthrottle keeps repeated failures from flooding the log: an unreachable broker fails
// two dozen fetches several times a second. Of the lines of one kind it passes one per 10 s. The
// field "repeated" of the next line is the number of lines suppressed before it.
//
// It writes no lines of its own: the number of lines that were suppressed after the last line of a
// kind is reported by the next failure of that kind, however much later, or never. A caller that
// has to report when a failure ended logs that itself. Memory is bounded: beyond 100 kinds, all new
// kinds are throttled together.
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

// Log throttles lines by their kind. The zero value is ready to use. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	kinds map[string]kindState
}

// kindState is the state of one kind.
type kindState struct {
	last     time.Time // when the last line passed
	repeated int       // lines suppressed since then
}

// Pass returns line if a line of this kind may be written now, with the field "repeated" if lines
// were suppressed before it. Otherwise it returns nil, which zerolog does not write. Call it before
// the line gets its fields:
//
//	l.Pass("commit "+code, log.Warn()).Err(err).Msg("a commit failed")
//
// A kind distinguishes failures: a few words and a code, not text from other sources.
func (l *Log) Pass(kind string, line *zerolog.Event) *zerolog.Event {
	if !line.Enabled() {
		return nil // its level is disabled, so it does not count as suppressed
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
