package engine

import (
	"markread/consumer/event"
	"markread/worker/hold"
)

// Bounds of memory, beside --max-pending: unsettled events, at 24 bytes each; and the records that
// a letter needs or may need, which may be of any size. An event of two accounts, a time and the
// recommended key takes about 60 bytes of its 512.
const (
	defaultMaxEvents     = 8_000_000
	minRecordBytes       = 64 << 20
	bytesPerConversation = 512
)

// load is what takes memory.
type load struct {
	conversations int // in the backlog, and letters
	events        int // unsettled; damaged records that can't be told apart are one
	bytes         int // of records
}

func (l load) plus(m load) load {
	return load{l.conversations + m.conversations, l.events + m.events, l.bytes + m.bytes}
}

func (l load) atMost(m load) load {
	l.conversations = min(l.conversations, m.conversations)
	l.events, l.bytes = min(l.events, m.events), min(l.bytes, m.bytes)
	return l
}

// half is at least one conversation.
func (l load) half() load { return load{(l.conversations + 1) / 2, l.events / 2, l.bytes / 2} }

func (l load) below(m load) bool {
	return l.conversations < m.conversations && l.events < m.events && l.bytes < m.bytes
}

func (e *Engine) load(lane event.Lane) load {
	letters := e.letters.reserved[lane]
	return load{
		conversations: e.backlog.Conversations(int(lane)) + letters.letters,
		events:        int(e.counts[lane].Unsettled() - letters.unread),
		bytes:         e.backlog.Bytes(int(lane)) + letters.bytes,
	}
}

// HasCapacity reports whether a lane may fetch more. Backfill stops at half of each bound, and
// never counts for more than that against live (what is fetched at once may be more than was free),
// so that live events never wait behind a full backfill. While a lane is held for rejections, what
// waits in it must not stop the other one: then each has half of the bounds for itself.
func (e *Engine) HasCapacity(lane event.Lane) bool {
	if e.backlog == nil {
		return false
	}
	pending := e.options.MaxPending
	full := load{pending, e.options.MaxEvents, max(minRecordBytes, pending*bytesPerConversation)}
	live, backfill := e.load(event.Live), e.load(event.Backfill)
	switch {
	case e.holds.Held(hold.Rejections, int(event.Live)),
		e.holds.Held(hold.Rejections, int(event.Backfill)):
		return e.load(lane).below(full.half())
	case lane == event.Backfill:
		return live.plus(backfill).below(full.half())
	default:
		return live.plus(backfill.atMost(full.half())).below(full)
	}
}
