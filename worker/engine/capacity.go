package engine

import (
	"markread/consumer/event"
	"markread/worker/hold"
)

// Bounds of what is in memory, beside --max-pending: unsettled events, at 24 bytes each; and the records that a letter needs or may need,
// which may be of any size. An event of two accounts, a time and the recommended key takes about 60 bytes of the 512 that it has.
const (
	defaultMaxEvents     = 8_000_000
	minRecordBytes       = 64 << 20
	bytesPerConversation = 512
)

// load is what takes memory.
type load struct {
	conversations int // those in the backlog, and letters
	events        int // that are not settled; damaged records that can't be told apart are one
	bytes         int // of records
}

func (l load) plus(other load) load {
	return load{l.conversations + other.conversations, l.events + other.events, l.bytes + other.bytes}
}

// atMost cuts each part off at the bound's.
func (l load) atMost(bound load) load {
	return load{min(l.conversations, bound.conversations), min(l.events, bound.events), min(l.bytes, bound.bytes)}
}

// half is at least one conversation.
func (l load) half() load { return load{(l.conversations + 1) / 2, l.events / 2, l.bytes / 2} }

// below reports whether there is room in the bound for more.
func (l load) below(bound load) bool {
	return l.conversations < bound.conversations && l.events < bound.events && l.bytes < bound.bytes
}

// load is what a lane takes.
func (c *Engine) load(lane event.Lane) load {
	letters := c.letters.reserved[lane]
	return load{
		conversations: c.backlog.Conversations(int(lane)) + letters.letters,
		events:        int(c.counts[lane].Unsettled() - letters.unread),
		bytes:         c.backlog.Bytes(int(lane)) + letters.bytes,
	}
}

// HasCapacity says whether a lane may fetch on. Backfill stops at half of each bound, and more than that is never held against live (what is
// fetched at once may be more than was free), so that live events never wait behind a full backfill. While a lane is held for rejections, what
// waits in it must not stop the other one: then each has half of the bounds for itself.
func (c *Engine) HasCapacity(lane event.Lane) bool {
	if c.backlog == nil {
		return false
	}
	o := &c.options
	full := load{o.MaxPending, o.MaxEvents, max(minRecordBytes, o.MaxPending*bytesPerConversation)}
	live, backfill := c.load(event.Live), c.load(event.Backfill)
	switch {
	case c.holds.Held(hold.Rejections, int(event.Live)), c.holds.Held(hold.Rejections, int(event.Backfill)):
		return c.load(lane).below(full.half())
	case lane == event.Backfill:
		return live.plus(backfill).below(full.half())
	default:
		return live.plus(backfill.atMost(full.half())).below(full)
	}
}
