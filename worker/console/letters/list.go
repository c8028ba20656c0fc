package letters

import (
	"context"
	"net/http"
	"slices"
	"time"

	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/printable"
	"markread/worker/console/respond"
)

const (
	pageSize      = 100
	maxOffset     = 10_000 // of a page: Search.Newest needs memory for all before it
	maxGroups     = 100    // whoever may write to the topic can create new kinds
	maxOfAccounts = 20     // dead letters shown with a conversation
)

// Filter is a filter as the page sends it; "": any.
type Filter struct {
	Class  string `json:"class"`
	Code   string `json:"code"`
	State  string `json:"state"` // a state or all; "": open
	Since  string `json:"since"` // RFC 3339, or an age such as 24h or 7d
	Until  string `json:"until"`
	Report string `json:"report"`
	Peer   string `json:"peer"`
	Offset int    `json:"offset"` // of the page; only the list uses it
}

// parse checks the filter at time now.
func (f *Filter) parse(now time.Time) (deadletter.Filter, []deadletter.State, error) {
	var states []deadletter.State
	for _, s := range deadletter.AllStates() {
		if f.State == s.String() || f.State == "all" || f.State == "" && s == deadletter.Open {
			states = append(states, s)
		}
	}
	set := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	query := deadletter.Query{Class: set(f.Class), Code: set(f.Code), Report: set(f.Report),
		Peer: set(f.Peer), Since: set(f.Since), Until: set(f.Until)}
	filter, err := query.Filter("", now)
	switch {
	case err != nil:
		return filter, nil, respond.BadRequest("%v", err)
	case len(states) == 0:
		return filter, nil, respond.BadRequest("state must be open, parked, replayed, "+
			"discarded or all, not %.50q", f.State)
	case f.Offset < 0 || f.Offset > maxOffset:
		return filter, nil, respond.BadRequest("offset must be 0 to %d: narrow the "+
			"filter, or export the list", maxOffset)
	}
	return filter, states, nil
}

// page is the response to a request for a list.
type page struct {
	At            time.Time `json:"at"`
	Total         int64     `json:"total"` // in the states of the filter
	Groups        []group   `json:"groups"`
	MoreGroups    int       `json:"more_groups"`
	Items         []Item    `json:"items"` // newest first
	More          bool      `json:"more"`
	Until         string    `json:"until"` // selects the same again, even if new ones fail meanwhile
	Command       string    `json:"command"`
	ReplayCommand string    `json:"replay_command"`
	Unread        []string  `json:"unread"`
}

// group counts the dead letters of one kind. Oldest and Newest are those in the states of the
// filter.
type group struct {
	Class     string     `json:"class"`
	Code      string     `json:"code"`
	Open      int64      `json:"open"`
	Parked    int64      `json:"parked"`
	Replayed  int64      `json:"replayed"`
	Discarded int64      `json:"discarded"`
	Oldest    *time.Time `json:"oldest"`
	Newest    *time.Time `json:"newest"`
}

// Item is a dead letter in a list. Texts that anyone may have written are shortened: accounts,
// which have at most 32 bytes in a valid event, to 256 bytes.
type Item struct {
	ID        string       `json:"id"`
	State     string       `json:"state"`
	Class     string       `json:"class"`
	Code      string       `json:"code"`
	Message   string       `json:"message"`
	FailedAt  *time.Time   `json:"failed_at"`
	Lane      string       `json:"lane"`
	Report    *string      `json:"report"`
	Peer      *string      `json:"peer"`
	ReadTime  *int64       `json:"read_time"`
	Origin    event.Origin `json:"origin"`
	Collapsed int          `json:"collapsed"`
	Replays   int          `json:"replays"`
	Attempts  int          `json:"attempts"`
}

func itemOf(l *deadletter.Letter) Item {
	account := func(a *string) *string {
		if a == nil {
			return nil
		}
		return new(printable.Truncate(*a, 256))
	}
	origin := l.Origin
	origin.Topic, origin.Group = printable.Truncate(origin.Topic, 256),
		printable.Truncate(origin.Group, 256)
	return Item{
		ID: l.ID.String(), State: l.State.String(), Class: printable.Truncate(l.Class, 60),
		Code: printable.Truncate(l.Code, 60), Message: printable.Truncate(l.Message, 1000),
		FailedAt: timeOf(l.FailedAt), Lane: printable.Truncate(l.Lane, 60),
		Report: account(l.Report), Peer: account(l.Peer), ReadTime: l.ReadTime, Origin: origin,
		Collapsed: l.Collapsed, Replays: l.Replays, Attempts: l.Attempts,
	}
}

// timeOf returns the time, or nil if RFC 3339 can't express it.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return new(t.UTC())
}

// list responds with groups and a page of dead letters.
func (l *Letters) list(w http.ResponseWriter, r *http.Request) (any, error) {
	var f Filter
	if err := respond.ReadJSON(w, r, &f); err != nil {
		return nil, err
	}
	now := time.Now()
	filter, states, err := f.parse(now)
	if err != nil {
		return nil, err
	}
	var p page
	items, unread, err := l.read(r.Context(), filter, f.Offset, pageSize, states, func(v view) {
		p = pageOf(v, states)
	})
	if err != nil {
		return nil, err
	}
	p.Items, p.Unread = items, append(slices.Clip(p.Unread), unread...)
	p.More = int64(f.Offset+pageSize) < p.Total
	p.Until = p.pin(filter, now)
	p.Command, p.ReplayCommand = l.commands(&f, filter.Since, p.Until)
	if len(p.Groups) > maxGroups {
		p.Groups, p.MoreGroups = p.Groups[:maxGroups], len(p.Groups)-maxGroups
	}
	return p, nil
}

// read calls use with a view of the index, and returns the items of a part of the newest dead
// letters; unread says what could not be read of them.
func (l *Letters) read(ctx context.Context, filter deadletter.Filter, skip, n int,
	states []deadletter.State, use func(view)) (items []Item, unread []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := take(ctx, l.pages, pageWait); err != nil {
		return nil, nil, err
	}
	defer func() { <-l.pages }()
	var found []deadletter.Entry
	var store *deadletter.Store
	err = l.withIndex(ctx, filter, func(v view) {
		found, store = v.search.Newest(skip, n, states...), v.store
		use(v)
	})
	if err != nil {
		return nil, nil, err
	}
	items = []Item{}
	err = store.List(ctx, found, func(letter *deadletter.Letter) error {
		items = append(items, itemOf(letter))
		return nil
	})
	unread, _ = unreadOf(store)
	return items, unread, err
}

// pageOf returns the page without its items, with all groups: those with the most dead letters in
// the states first.
func pageOf(v view, states []deadletter.State) page {
	p := page{At: v.at.UTC(), Groups: []group{}, Unread: v.unread}
	counts := v.search.Counts()
	slices.SortStableFunc(counts, func(a, b deadletter.Count) int {
		na, _, _ := a.Of(states...)
		nb, _, _ := b.Of(states...)
		return int(nb - na)
	})
	for _, c := range counts {
		n, oldest, newest := c.Of(states...)
		if n == 0 {
			continue
		}
		p.Total += n
		p.Groups = append(p.Groups, group{c.Class, c.Code, c.Letters[deadletter.Open],
			c.Letters[deadletter.Parked], c.Letters[deadletter.Replayed],
			c.Letters[deadletter.Discarded], timeOf(oldest), timeOf(newest)})
	}
	return p
}

// pin returns the time until which the counted dead letters failed. The index has microseconds, so
// it is rounded up.
func (p *page) pin(filter deadletter.Filter, now time.Time) string {
	var until time.Time
	for _, g := range p.Groups {
		if g.Newest != nil && g.Newest.After(until) {
			until = g.Newest.Add(time.Microsecond - 1)
		}
	}
	if until.IsZero() {
		if until = filter.Until; until.IsZero() {
			until = now
		}
	}
	return until.UTC().Format(time.RFC3339Nano)
}

// Conversation returns the newest dead letters of a conversation, in any state.
func (l *Letters) Conversation(ctx context.Context, report, peer string) ([]Item, error) {
	items, _, err := l.read(ctx, deadletter.Filter{Report: report, Peer: peer}, 0, maxOfAccounts,
		deadletter.AllStates(), func(view) {})
	return items, err
}
