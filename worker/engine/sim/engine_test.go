package sim

import (
	"errors"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/engine"
	"markread/worker/hold"
)

// epoch is when a simulation begins.
var epoch = time.Unix(1_700_000_000, 0)

const (
	recheckEvery  = time.Second     // at least: the dispatcher rechecks
	letterBatch   = 64              // dead letters written concurrently
	retriedWithin = 2 * time.Second // of the end of a hold: all conversations that waited for it
)

var errUnproven = errors.New("the membership is not proven")

// noObserver ignores everything.
type noObserver struct{}

func (noObserver) EventFinished(event.Lane, time.Duration, *engine.Call)   {}
func (noObserver) CallEnded(*imclient.Error, time.Duration)                {}
func (noObserver) CallRetried(*engine.Call, *imclient.Error, int32, int32) {}
func (noObserver) LetterWritten(*engine.Letter)                            {}
func (noObserver) Limit(time.Time, int, int)                               {}
func (noObserver) HoldsChanged(time.Time, hold.Change, []hold.Hold)        {}

// newEngine returns a real engine.
func (h *process) newEngine() *engine.Engine {
	return engine.New(engine.Options{
		Attempts: h.attempts, MaxPending: h.maxPending, MaxEvents: h.maxEvents,
		MaxRejected: h.maxRejected,
		Backoff:     imclient.NewBackoff(h.backoffInitial, h.backoffMost),
		Jitter: func(id string, failures int) float64 {
			return h.unit(dieJitter, uint64(conversationOf(id)), uint64(failures))
		},
		Topics:   event.Topics{Live: "mark-read", Backfill: "mark-read-backfill"},
		Observer: noObserver{},
	})
}

func (h *process) pause() {
	if h.engine == nil {
		return
	}
	h.shadow.holds.operator = true
	h.engine.Pause(h.time(), "", "")
	h.watchHolds()
}

func (h *process) resume(accept bool) {
	if h.engine == nil {
		return
	}
	v := &h.shadow.holds
	v.operator = false
	if accept {
		v.cause, v.accepted = "accepts", true
	}
	h.engine.Resume(h.time(), "", accept)
	h.watchHolds()
	v.cause = ""
	h.after(operatorActs)
}

func (h *process) setShare(share int) {
	h.shadow.holds.share = share
	h.engine.SetShare(h.time(), share)
	h.watchHolds()
}

// held reports whether the engine reports a hold of the lane for the reason.
func (h *process) held(reason hold.Reason, lane int) bool {
	return slices.ContainsFunc(h.engine.Holds(),
		func(a hold.Hold) bool { return a.Reason == reason && a.Lane == lane })
}

// inMemory returns how many conversations the engine has in memory.
func (h *process) inMemory() (n int) {
	for _, k := range h.engine.State(h.time()).Conversations {
		n += k
	}
	return n
}

// watchKey does what Worker.watchKey does each second.
func (h *process) watchKey() {
	if h.gen == nil || h.frozenUntil > h.now || !h.held(hold.Credentials, hold.All) ||
		!h.signer.keyFixed(h.world) {
		return
	}
	h.signer.current, h.signer.keyChanged = nil, true
	for i := range h.shadow.holds.active {
		if a := &h.shadow.holds.active[i]; a.reason == hold.Credentials {
			a.notBefore = 0
		}
	}
	h.stats.keysChanged++
	h.engine.KeyChanged(h.time())
	h.after(operatorActs)
}

var errRefused = errors.New("the topic refuses")

// wrote reports the results of dead letters to the engine, and returns whether the next attempt
// must wait.
func (h *process) wrote(batch []*engine.Letter, acked []bool, cut bool) bool {
	failures := make([]error, len(batch))
	for i := range batch {
		switch {
		case acked[i]:
			h.shadow.writtenRefs += uint64(len(batch[i].Refs))
		case cut:
			failures[i] = engine.ErrInterrupted
		default:
			failures[i] = errRefused
		}
	}
	v := &h.shadow.holds
	v.cause, h.shadow.writing = "letter written", true
	refuses := h.engine.LettersWritten(h.time(), batch, failures)
	h.watchHolds()
	v.cause, h.shadow.writing = "", false
	return refuses
}
