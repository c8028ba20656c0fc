package engine

import (
	"markread/consumer/event"
	"markread/worker/hold"
)

// Bounds of memory, in addition to --max-pending: unsettled events, at about 10 bytes each (at most
// 25, if their times differ by years and a conversation's events are in several partitions); and
// the records that a dead letter needs or may need, which may have any size. An event of two
// accounts, a time and the recommended key takes about 40 bytes of its 512.
const (
	defaultMaxEvents     = 12_000_000
	minRecordBytes       = 64 << 20
	bytesPerConversation = 512
)

// memoryUse is what a lane uses of each bound.
type memoryUse [3]int

const (
	conversations = iota // in the backlog, and dead letters
	unsettled            // events; indistinguishable damaged records count as one
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
// never counts for more than half against live, so that live events never wait behind a full
// backfill. (One fetch may add more than was free.) While a lane is held for rejections, its
// waiting events must not stop the other lane: then each lane has half of the bounds for itself.
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
