package console

import (
	"strings"
	"time"
	"unicode"

	"markread/consumer/printable"
)

// Source is what the console shows. *worker.Worker implements it.
type Source interface {
	// State is a snapshot. It must not wait for anything but short locks.
	State() State
	// Held is State's part of that name, alone: cheap, for a probe that asks every second.
	Held() []Hold
	// Healthy is nil while the dispatch and the group loop turn, else says which has stopped. It
	// must not wait at all.
	Healthy() error
	// Ready reports whether the worker is a member of its group. A hold does not make it unready.
	Ready() bool
}

// State is a worker's state as /api/state shows it; fields and their order are part of the
// contract. A nil pointer is shown as null: the value does not exist (yet). It contains no account.
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

// Group is the membership. Member and Generation are nil while the worker is not a member. Assigned
// of the group's Partitions, over all topics, are this worker's.
type Group struct {
	Name       string  `json:"name"`
	Member     *string `json:"member"`
	Generation *int32  `json:"generation"`
	Assigned   int     `json:"assigned"`
	Partitions int     `json:"partitions"`
	// Outside is since when the worker is in no generation, for the page; zero: it is in one, or it
	// is not known.
	OutsideSince time.Time `json:"-"`
}

// Hold is one reason why no calls are made now.
type Hold struct {
	Reason      string     `json:"reason"` // one of the contract's
	Since       time.Time  `json:"since"`
	Detail      string     `json:"detail"`        // what was seen, in words for people
	Do          string     `json:"do"`            // what to do about it
	NextProbeAt *time.Time `json:"next_probe_at"` // nil: it has no probes, or none is due

	// The page shows Detail in its parts.
	Lane     string `json:"-"` // that is held; "": all
	Meaning  string `json:"-"`
	Observed string `json:"-"`
}

// Quota is the state of the call quota. With rate 0 there is none: Share, Limit and Cooling are
// nil.
type Quota struct {
	Rate     int  `json:"rate"`      // calls a second for the whole group
	Share    *int `json:"share"`     // of this worker
	Limit    *int `json:"limit"`     // what of the share is used now
	InFlight int  `json:"in_flight"` // calls sent and not answered
	Cooling  *int `json:"cooling"`   // permits that wait for their second to pass
}

// Lanes are the two ways in.
type Lanes struct {
	Live     Lane `json:"live"`
	Backfill Lane `json:"backfill"`
}

// Lane is what waits in memory in one lane, calls in flight included.
type Lane struct {
	Conversations int `json:"conversations"`
	Events        int `json:"events"`
	// OldestSeconds is the age of the oldest event that a commit waits for, since its event time
	// (its arrival if it has none); 0: nothing waits.
	OldestSeconds float64 `json:"oldest_seconds"`
}

// Totals count since the process started, over both lanes: received = outcomes + waiting +
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

// Partition is one assigned partition. Committed is nil as long as nothing was ever committed,
// HighWatermark while the end of the log is not known, and Lag also while it would read 0 although
// records may be unread.
type Partition struct {
	Topic            string      `json:"topic"`
	Partition        int         `json:"partition"`
	Committed        *int64      `json:"committed"`
	HighWatermark    *int64      `json:"high_watermark"`
	Lag              *int64      `json:"lag"`
	OldestUnfinished *Unfinished `json:"oldest_unfinished"`
	Unreadable       *Unreadable `json:"unreadable"` // nil: the partition can be read
}

// Unfinished is the oldest unfinished event of a partition, which the committed offset waits for.
type Unfinished struct {
	Offset     int64   `json:"offset"`
	AgeSeconds float64 `json:"age_seconds"` // since its event time, or its arrival if it has none
	Attempts   int     `json:"attempts"`
	WaitsFor   string  `json:"waits_for"` // see waits
}

// Unreadable says since when and why a partition can't be read.
type Unreadable struct {
	Since  time.Time `json:"since"`  // the last good fetch, else when the generation began
	Offset *int64    `json:"offset"` // the next to be read; nil: not known
	Reason string    `json:"reason"`
	Do     string    `json:"-"` // the remedy, for the page
}

// maxReason is the most bytes of a reason that are shown.
const maxReason = 500

// normal returns the state as it is shown: empty lists instead of null, times in UTC and whole
// milliseconds.
func (s State) normalized() State {
	s.StartedAt = roundUTC(s.StartedAt)
	s.Group.OutsideSince = roundUTC(s.Group.OutsideSince)
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

// plain makes text that may quote a broker one line of bounded length, without control characters
// and without characters that change the direction of writing.
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

// normal returns holds as they are shown.
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
