package consumer

import (
	"sync"
	"time"
)

// thin keeps a failure that repeats from flooding the log: a broker that is away fails two dozen fetches
// several times a second.
type thin struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const thinInterval = 10 * time.Second

// ok reports whether a message of this kind may be logged now. The kinds must be few.
func (t *thin) ok(kind string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if last, seen := t.last[kind]; seen && now.Sub(last) < thinInterval {
		return false
	}
	if t.last == nil {
		t.last = map[string]time.Time{}
	}
	t.last[kind] = now
	return true
}
