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

// memoryUse is what a lane takes of memory.
type memoryUse [3]int

const (
	conversations = iota // in the backlog, and letters
	unsettled            // events; damaged records that can't be told apart are one
	recordBytes
)

func (e *Engine) memoryUse(lane event.Lane) memoryUse {
	letters := e.letters.reserved[lane]
	return memoryUse{
		conversations: e.backlog.Conversations(int(lane)) + letters.letters,
		unsettled:     int(e.counts[lane].Unsettled() - letters.notInMemory),
		recordBytes:   e.backlog.Bytes(int(lane)) + letters.bytes,
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
	pending, events := e.options.MaxPending, e.options.MaxEvents
	bytes := max(minRecordBytes, pending*bytesPerConversation)
	full, half := memoryUse{pending, events, bytes},
		memoryUse{(pending + 1) / 2, events / 2, bytes / 2}
	live, backfill := e.memoryUse(event.Live), e.memoryUse(event.Backfill)
	separate := e.holds.Held(hold.Rejections, int(event.Live)) ||
		e.holds.Held(hold.Rejections, int(event.Backfill))
	for i := range full {
		used, most := live[i]+min(backfill[i], half[i]), full[i]
		switch {
		case separate:
			used, most = e.memoryUse(lane)[i], half[i]
		case lane == event.Backfill:
			used, most = live[i]+backfill[i], half[i]
		}
		if used >= most {
			return false
		}
	}
	return true
}
