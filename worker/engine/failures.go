package engine

import (
	"cmp"
	"time"

	"markread/imclient"
	"markread/worker/backlog"
)

// mostFailures bounds the conversations whose last failure is kept. If more fail, calls are held.
const mostFailures = 256

// Failure is the last failed call of a conversation that waits for a retry.
type Failure struct {
	At      time.Time
	Code    string // its label; "": not known
	Message string // what the server returned, else what happened; it contains no secret
}

// failures keeps the last failures by conversation ID.
type failures map[string]Failure

// note keeps a failure in place of the oldest one.
func (f failures) note(now time.Time, id string, failure *imclient.Error) {
	if _, known := f[id]; !known && len(f) >= mostFailures {
		oldest, at := "", now.Add(1)
		for other, kept := range f {
			if kept.At.Before(at) {
				oldest, at = other, kept.At
			}
		}
		delete(f, oldest)
	}
	f[id] = Failure{now, failure.Label, cmp.Or(failure.Message, failure.WithoutRemedy())}
}

// lastFailure returns why the last call of a conversation failed.
func (e *Engine) lastFailure(conv *backlog.Conversation) Failure { return e.failures[conv.ID()] }
