package console

import (
	"strings"
	"time"
	"unicode"
)

// Source is what the console shows. *worker.Worker implements it.
type Source interface {
	// State is a snapshot. It must not wait for anything but short locks.
	State() State
	// Held is State's part of that name, alone: cheap, for a probe that asks every second.
	Held() []Hold
	// Healthy is nil while the dispatch and the group loop turn, else says which has stopped. It must not wait at all.
	Healthy() error
	// Ready reports whether the worker is a member of its group. A hold does not make it unready.
	Ready() bool
}

// State is a worker's state as /api/state shows it. Field names and their order are part of the contract with its readers; a nil pointer is
// shown as null: the value does not exist (yet). It contains no account.
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
type Group struct {
	Name       string  `json:"name"`
	Member     *string `json:"member"`
	Generation *int32  `json:"generation"`
	// Assigned of the group's Partitions, over all topics, are this worker's.
	Assigned   int `json:"assigned"`
	Partitions int `json:"partitions"`
	// Outside is since when the worker is in no generation; zero: it is in one, or it is not known. Only the page shows it.
	Outside time.Time `json:"-"`
}

// Hold is one reason why no calls are made now.
type Hold struct {
	// Reason is one of the contract's: outage credentials throttled rejections dead-letter membership quota paused.
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	// Detail is what was seen, Do what to do about it, in words for people.
	Detail string `json:"detail"`
	Do     string `json:"do"`
	// NextProbeAt is when the service is tried next; nil: this hold has no probes, or none is due.
	NextProbeAt *time.Time `json:"next_probe_at"`

	// The page shows Detail in its parts: which lane is held (empty: all), what this hold is, and what
	// was seen.
	Lane    string `json:"-"`
	Meaning string `json:"-"`
	Seen    string `json:"-"`
}

// Quota is the state of the call quota. With rate 0 there is none: Share, Limit and Cooling are nil.
type Quota struct {
	// Rate is calls a second for the whole group, Share this worker's part, Limit what of the share is used now.
	Rate  int  `json:"rate"`
	Share *int `json:"share"`
	Limit *int `json:"limit"`
	// InFlight calls have been sent and not answered; Cooling permits wait for their second to pass.
	InFlight int  `json:"in_flight"`
	Cooling  *int `json:"cooling"`
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
	// OldestSeconds is the age of the oldest that a commit waits for, since its event time (its arrival if it has none); 0: nothing waits.
	OldestSeconds float64 `json:"oldest_seconds"`
}

// Totals count since the process started, over both lanes: received = the outcomes + what waits + returned.
type Totals struct {
	Received     int64 `json:"received"`
	Applied      int64 `json:"applied"`
	Collapsed    int64 `json:"collapsed"`
	Superseded   int64 `json:"superseded"`
	DeadLettered int64 `json:"dead_lettered"`
	Returned     int64 `json:"returned"`
	Calls        int64 `json:"calls"`
}

// Partition is one assigned partition. Committed is nil as long as nothing was ever committed;
// HighWatermark is nil while the end of the log is not known, and Lag also while it would read 0 although
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

// Unfinished is the oldest event of a partition that has not reached its end: the one that the committed offset waits for.
type Unfinished struct {
	Offset int64 `json:"offset"`
	// AgeSeconds is the time since the event (its event time, or its arrival if it has none).
	AgeSeconds float64 `json:"age_seconds"`
	Attempts   int     `json:"attempts"`
	// WaitsFor is one of the contract's: quota call retry hold dead-letter.
	WaitsFor string `json:"waits_for"`
}

// Unreadable says since when and why a partition can't be read.
type Unreadable struct {
	// Since is the last good fetch, or the beginning of the generation if there was none.
	Since time.Time `json:"since"`
	// Offset is the next to be read; nil: not known.
	Offset *int64 `json:"offset"`
	Reason string `json:"reason"`
	// Do is the remedy. Only the page shows it.
	Do string `json:"-"`
}

// maxReason is the most bytes of a reason that are shown.
const maxReason = 500

// normal returns the state as it is shown: empty lists instead of null, times in UTC and whole milliseconds.
func (s State) normal() State {
	s.StartedAt = shown(s.StartedAt)
	s.Group.Outside = shown(s.Group.Outside)
	s.Held = normal(s.Held)
	s.Partitions = append([]Partition{}, s.Partitions...)
	for i, p := range s.Partitions {
		if p.Unreadable != nil {
			u := *p.Unreadable
			u.Since, u.Reason = shown(u.Since), plain(u.Reason)
			s.Partitions[i].Unreadable = &u
		}
	}
	return s
}

// plain makes text that may quote a broker harmless: one line of bounded length, without control
// characters and without characters that change the direction of writing.
func plain(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// normal returns holds as they are shown.
func normal(held []Hold) []Hold {
	list := make([]Hold, 0, len(held))
	for _, h := range held {
		h.Since = shown(h.Since)
		if h.NextProbeAt != nil {
			h.NextProbeAt = new(shown(*h.NextProbeAt))
		}
		list = append(list, h)
	}
	return list
}

func shown(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
