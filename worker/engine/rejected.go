package engine

import (
	"slices"
	"time"

	"markread/consumer/event"
	"markread/imclient"
)

// mostRejected is how many rejected or invalid events are kept.
const mostRejected = 10

// Rejected is an event that the server rejected, or that is invalid. It contains accounts: it is
// not for logs or metrics.
type Rejected struct {
	At           time.Time
	Lane         event.Lane
	Topic        string
	Partition    int
	Offset       int64
	Code         string // the rejection's label; "": the event is invalid
	Message      string
	Report, Peer string // "": not known
}

// Rejected returns the newest rejected or invalid events, newest first. An event that is rejected
// several times, as during a hold, is in the list once.
func (e *Engine) Rejected() []Rejected {
	newest := slices.Clone(e.rejected)
	slices.Reverse(newest)
	return newest
}

// noteRejected remembers a rejected or invalid event.
func (e *Engine) noteRejected(r Rejected) {
	same := func(o Rejected) bool {
		return o.Topic == r.Topic && o.Partition == r.Partition && o.Offset == r.Offset
	}
	e.rejected = slices.DeleteFunc(e.rejected, same)
	if len(e.rejected) == mostRejected {
		e.rejected = append(e.rejected[:0], e.rejected[1:]...)
	}
	e.rejected = append(e.rejected, r)
}

func (e *Engine) noteInvalid(now time.Time, ev *event.Event) {
	e.noteRejected(Rejected{
		At: now, Lane: ev.Lane, Topic: ev.Record.Topic, Partition: ev.Record.Partition,
		Offset: ev.Record.Offset, Message: ev.Invalid.Error(),
		Report: shortAccount(ev.Report), Peer: shortAccount(ev.Peer),
	})
}

// shortAccount returns the beginning of an account. An account of an invalid event may be any text.
func shortAccount(account []byte) string { return string(account[:min(len(account), 64)]) }

func (e *Engine) noteRejection(now time.Time, c *Call, failure *imclient.Error) {
	r := c.Position()
	e.noteRejected(Rejected{
		At: now, Lane: event.Lane(c.Lane), Topic: r.Topic, Partition: r.Partition,
		Offset: r.Offset, Code: failure.Label, Message: failure.Error(),
		Report: c.Read.Report, Peer: c.Read.Peer,
	})
}
