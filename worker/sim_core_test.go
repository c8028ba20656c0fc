package worker

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
	"markread/worker/quota"
)

// newCore returns a real core.
func (h *hands) newCore() *core {
	return &core{
		attempts: h.attempts, maxPending: h.maxPending, maxEvents: h.maxEvents,
		backoff: imclient.NewBackoff(h.backoffInitial, h.backoffMost),
		jitter: func(id string, failures int) float64 {
			return h.part(dieJitter, uint64(talkOf(id)), uint64(failures))
		},
		topics: event.Topics{Live: "mark-read", Backfill: "mark-read-backfill"},
		log:    zerolog.Nop(), seen: nobody{},
		quota: quota.New(), holds: hold.New(h.maxRejected), memory: backlog.NewMemory(),
	}
}

func (h *hands) pause() {
	if h.core == nil {
		return
	}
	h.shadow.holds.operator = true
	h.core.pause(h.time())
	h.watchHolds()
}

func (h *hands) resume(accept bool) {
	if h.core == nil {
		return
	}
	v := &h.shadow.holds
	v.operator = false
	if accept {
		v.cause, v.accepted = "accepts", true
	}
	h.core.resume(h.time(), accept)
	h.watchHolds()
	v.cause = ""
	h.after(operatorActs)
}

func (h *hands) shareGiven(share int) {
	h.shadow.holds.share = share
	h.core.share(h.time(), share, 1)
	h.watchHolds()
}

// lookAtKey is what Worker.watchKey does each second.
func (h *hands) lookAtKey() {
	if h.gen == nil || h.frozenUntil > h.now || !h.core.holds.Held(hold.Credentials, hold.All) || !h.signer.mended(h.world) {
		return
	}
	h.signer.current, h.signer.anew = nil, true
	for i := range h.shadow.holds.active {
		if a := &h.shadow.holds.active[i]; a.reason == hold.Credentials {
			a.notBefore = 0
		}
	}
	h.tally.keysChanged++
	h.core.holds.KeyChanged(h.time())
	h.after(operatorActs)
}

var errRefused = errors.New("the topic refuses")

// wrote tells the core what became of letters, and says whether the next try must wait.
func (h *hands) wrote(batch []*letter, acked []bool, cut bool) bool {
	failures := make([]error, len(batch))
	for i := range batch {
		switch {
		case acked[i]:
			h.shadow.writtenRefs += uint64(len(batch[i].refs))
		case cut:
			failures[i] = context.Canceled
		default:
			failures[i] = errRefused
		}
	}
	v := &h.shadow.holds
	v.cause, h.shadow.writing = "letter written", true
	refuses := h.core.wrote(h.time(), batch, failures)
	h.watchHolds()
	v.cause, h.shadow.writing = "", false
	return refuses
}
