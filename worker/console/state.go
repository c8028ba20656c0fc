package console

import (
	"strings"
	"time"
	"unicode"

	"markread/consumer/printable"
	"markread/worker/console/overview"
)

// Source supplies what the console shows. *worker.Worker implements it.
type Source interface {
	// State returns a snapshot. It must not wait for anything but short locks.
	State() State
	// Held returns State's field of that name. It must be cheap, for a probe every second.
	Held() []Hold
	// Healthy returns nil while the dispatch loop and the group loop iterate, else which one has
	// stopped. It must not wait at all.
	Healthy() error
	// Ready reports whether the worker is a member of its group. A hold does not make it unready.
	Ready() bool
	// Details returns what only the worker's own process knows, for the overview. It is called
	// every second, so it must not walk the backlog.
	Details() overview.Details
}

// State is a worker's state in /api/state; fields and their order are part of the contract. A nil
// pointer is encoded as null: the value does not exist (yet). It contains no account.
type State struct {
	Version    string      `json:"version"`
	Commit     string      `json:"commit"`
	StartedAt  time.Time   `json:"started_at"`
	Ready      bool        `json:"ready"`
	Group      Group       `json:"group"`
	Held       []Hold      `json:"held"`
	Quota      Quota       `json:"quota"`
	Lanes      Lanes       `json:"lanes"`
	Totals     Totals      `json:"totals"`
	Partitions []Partition `json:"partitions"`
}

// Group is the membership. Member and Generation are nil while the worker is not a member.
// Partitions counts the group's partitions over all topics; Assigned of them are this worker's.
type Group struct {
	Name       string  `json:"name"`
	Member     *string `json:"member"`
	Generation *int32  `json:"generation"`
	Assigned   int     `json:"assigned"`
	Partitions int     `json:"partitions"`
}

// Hold is one reason why no calls are made now.
type Hold struct {
	Reason      string     `json:"reason"` // one of the contract's
	Since       time.Time  `json:"since"`
	Detail      string     `json:"detail"`        // what was observed, for people
	Do          string     `json:"do"`            // what to do about it
	NextProbeAt *time.Time `json:"next_probe_at"` // nil: it has no probes, or none is due
}

// Quota is the state of the call quota. With rate 0 there is none: Share, Limit and Cooling are
// nil.
type Quota struct {
	Rate     int  `json:"rate"`      // calls a second for the whole group
	Share    *int `json:"share"`     // this worker's share of the rate
	Limit    *int `json:"limit"`     // how much of the share is usable now
	InFlight int  `json:"in_flight"` // calls in flight
	Cooling  *int `json:"cooling"`   // permits whose second has not passed yet
}

// Lanes are the two sources of events.
type Lanes struct {
	Live     Lane `json:"live"`
	Backfill Lane `json:"backfill"`
}

// Lane counts what is in memory in one lane, calls in flight included.
type Lane struct {
	Conversations int `json:"conversations"`
	Events        int `json:"events"`
	// OldestSeconds is the age of the oldest event that a commit waits for, since its event time
	// (its arrival if it has none); 0: no event waits.
	OldestSeconds float64 `json:"oldest_seconds"`
}

// Totals are counts since the process started, over both lanes: received = outcomes + waiting +
// returned.
type Totals struct {
	Received     int64 `json:"received"`
	Applied      int64 `json:"applied"`
	Collapsed    int64 `json:"collapsed"`
	Superseded   int64 `json:"superseded"`
	DeadLettered int64 `json:"dead_lettered"`
	Returned     int64 `json:"returned"`
	Calls        int64 `json:"calls"`
}

// Partition is one assigned partition. Committed is nil until the first commit; HighWatermark is
// nil while the end of the log is unknown; Lag is also nil while it would be 0 although there may
// be unread records.
type Partition struct {
	Topic            string      `json:"topic"`
	Partition        int         `json:"partition"`
	Committed        *int64      `json:"committed"`
	HighWatermark    *int64      `json:"high_watermark"`
	Lag              *int64      `json:"lag"`
	OldestUnfinished *Unfinished `json:"oldest_unfinished"`
	Unreadable       *Unreadable `json:"unreadable"` // nil: the partition can be read
}

// Unfinished is a partition's oldest unfinished event, for which the committed offset waits.
type Unfinished struct {
	Offset     int64   `json:"offset"`
	AgeSeconds float64 `json:"age_seconds"` // since its event time, or its arrival if it has none
	Attempts   int     `json:"attempts"`
	WaitsFor   string  `json:"waits_for"` // see waits
}

// Unreadable describes since when and why a partition can't be read.
type Unreadable struct {
	Since  time.Time `json:"since"`  // the last good fetch, else when the generation began
	Offset *int64    `json:"offset"` // the next offset to read; nil: unknown
	Reason string    `json:"reason"`
}

// maxReason bounds the bytes of a reason that are shown.
const maxReason = 500

// normalized returns the state in the form that is shown: empty lists instead of null, times in UTC
// and whole milliseconds.
func (s State) normalized() State {
	s.StartedAt = roundUTC(s.StartedAt)
	s.Held = normalized(s.Held)
	s.Partitions = append([]Partition{}, s.Partitions...)
	for i, p := range s.Partitions {
		if p.Unreadable != nil {
			u := *p.Unreadable
			u.Since, u.Reason = roundUTC(u.Since), singleLine(u.Reason)
			s.Partitions[i].Unreadable = &u
		}
	}
	return s
}

// singleLine makes text that may quote a broker one line of bounded length, without control
// characters and without characters that change the direction of writing.
func singleLine(text string) string {
	if short := printable.Truncate(text, maxReason); len(short) < len(text) {
		text = short + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// normalized returns holds in the form that is shown.
func normalized(held []Hold) []Hold {
	list := make([]Hold, 0, len(held))
	for _, h := range held {
		h.Since = roundUTC(h.Since)
		if h.NextProbeAt != nil {
			h.NextProbeAt = new(roundUTC(*h.NextProbeAt))
		}
		list = append(list, h)
	}
	return list
}

func roundUTC(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
