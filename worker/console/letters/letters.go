// Package letters serves the dead letters of a group to the console: it counts, lists, shows,
// exports and replays them as HTTP handlers. It never discards any. Package deadletter does the
// work, with the code of `markread dead-letters`; package console checks who may send a request.
//
// It promises:
//   - However many viewers there are, the topic's end is read by one of them at a time, at most
//     once in refreshEvery and when a replay has ended. They share one index of 80 bytes for each
//     dead letter.
//   - Other reads of the topic are bounded in number; a request beyond that gets a 429.
//   - A replay writes only after somebody typed the number of dead letters that its plan has. One
//     runs at a time, in [Letters.Run]: it is stopped and waited for when Run's context ends. A
//     replay that is interrupted loses nothing: see package deadletter.
//   - Accounts are in responses, and in no URL and no log.
//
// Non-obvious:
//   - A plan is made, checked again and carried out by deadletter.Job, which reads the topic each
//     time: the shared index does not know which dead letters can be replayed.
//   - An export that can't be completed ends with an aborted connection, so that nobody takes a
//     part for all. One that was incomplete from the beginning says so in its name.
//   - A spreadsheet would execute a cell that begins like a formula. CSV cells of that kind begin
//     with an apostrophe that is not in the data; NDJSON is exact.
package letters

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/deadletter"
	"markread/worker/console/overview"
)

const (
	refreshEvery = 2 * time.Second // at most, from one read of the topic's end to the next
	readTimeout  = 20 * time.Second
	pageWait     = 5 * time.Second // for one of the readers of pages
	maxReads     = 2               // concurrent reads of pages, and exports
)

// Options configure a Letters. All functions are called concurrently.
type Options struct {
	Topic deadletter.Topic // *kafkaclient.Client
	Name  string           // of the dead-letter topic
	// Publisher returns a publisher to a topic.
	Publisher func(topic string) deadletter.Publisher
	// CheckWritable is called before a plan is made: see deadletter.CheckWritable.
	CheckWritable func(ctx context.Context, writeTo ...string) error

	MaxReplays  int
	AllowReplay bool           // else the routes for replays don't exist
	ReplayTo    string         // the topic
	Rate        func() float64 // calls a second of the group; 0 or NaN: no limit, or not known

	Who    func(*http.Request) string // who sent a request, for logs and the page
	Record func(overview.Command)     // adds a command to what happened; nil: nobody wants it

	// Flags and ReplayFlags are in the commands that the page shows, such as --brokers and a value;
	// the latter only in `replay`. They must contain no secret.
	Flags, ReplayFlags []string

	Log zerolog.Logger
}

// Letters serves dead letters. It is safe for concurrent use.
type Letters struct {
	Options
	pages, exports, plans chan struct{} // hold a value for each request in progress
	index                 sharedIndex
	replays               replays
}

// New returns a Letters. Replays run in [Letters.Run].
func New(o Options) *Letters {
	index := deadletter.NewIndex(o.MaxReplays, deadletter.Filter{})
	index.KeepAccounts()
	return &Letters{Options: o, pages: make(chan struct{}, maxReads),
		exports: make(chan struct{}, maxReads), plans: make(chan struct{}, 1),
		index: sharedIndex{lock: make(chan struct{}, 1), index: index,
			store: deadletter.Store{Topic: o.Topic, Name: o.Name}},
		replays: replays{started: make(chan *plan, 1)},
	}
}

// Handler returns the routes. They don't check where a request comes from.
func (l *Letters) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/dead-letters", handle(l.list))
	mux.HandleFunc("POST /api/dead-letters/show", handle(l.show))
	mux.HandleFunc("POST /api/dead-letters/export", l.export)
	if l.AllowReplay {
		mux.HandleFunc("POST /api/replay/plan", handle(l.plan))
		mux.HandleFunc("POST /api/replay/start", handle(l.start))
		mux.HandleFunc("POST /api/replay/stop", handle(l.stop))
	}
	return mux
}

// sharedIndex is the index of the topic that all viewers share.
type sharedIndex struct {
	// Holds a value while the other fields are in use. Not a mutex, because reading the topic may
	// take seconds, and a viewer may leave.
	lock    chan struct{}
	index   *deadletter.Index
	store   deadletter.Store
	began   time.Time // when the last refresh began
	at      time.Time // when it ended
	err     error     // why it failed
	unread  []string
	partial bool // a part of the topic can't be read
}

// view is what a viewer gets of the index.
type view struct {
	search  deadletter.Search
	store   *deadletter.Store // lists entries found, after the view, too
	at      time.Time         // when the topic was read
	unread  []string          // what could not be read
	partial bool              // dead letters may be missing
}

// withIndex calls use with a view of the index, which is invalid afterwards. Before, it reads what
// was appended to the topic, unless somebody has just done that, and no replay has ended since.
func (l *Letters) withIndex(ctx context.Context, filter deadletter.Filter, use func(view)) error {
	x := &l.index
	select {
	case x.lock <- struct{}{}:
		defer func() { <-x.lock }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if x.at.IsZero() || time.Since(x.at) >= refreshEvery || l.replays.endedSince(x.began) {
		began := time.Now()
		err := x.store.Find(ctx, x.index)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx) // the next viewer continues
		}
		x.began, x.at, x.err = began, time.Now(), err
		x.unread, x.partial = unreadOf(&x.store)
	}
	if x.err != nil {
		return x.err
	}
	use(view{x.index.Search(filter), x.store.Reader(), x.at, x.unread, x.partial})
	return nil
}

// Count counts the dead letters. It fails if some may be missing.
func (l *Letters) Count(ctx context.Context) (count overview.DeadLetters, err error) {
	partial, unread := false, []string{}
	err = l.withIndex(ctx, deadletter.Filter{}, func(v view) {
		partial, unread = v.partial, v.unread
		for _, c := range v.search.Counts() {
			open, _, _ := c.Of(deadletter.Open)
			parked, _, _ := c.Of(deadletter.Parked)
			count.Open, count.Parked = count.Open+open, count.Parked+parked
		}
	})
	if err == nil && partial {
		err = errors.New(unread[0])
	}
	return count, err
}

// damagedLast sorts ranges that can't be decoded, and contain no dead letter, after the others.
func damagedLast(a, b deadletter.Unread) int {
	switch {
	case a.Damaged == b.Damaged:
		return 0
	case a.Damaged:
		return 1
	}
	return -1
}

// maxUnread bounds the list of parts that can't be read.
const maxUnread = 50

// unreadOf describes what a store could not read, first that because of which dead letters may be
// missing; partial: there is such a part.
func unreadOf(s *deadletter.Store) (texts []string, partial bool) {
	unread, _ := s.Unread()
	slices.SortStableFunc(unread, damagedLast)
	texts = []string{}
	for _, u := range unread {
		partial = partial || !u.Damaged
		if len(texts) < maxUnread {
			texts = append(texts, u.Place()+": "+u.Err.Error()+"; "+u.Do())
		}
	}
	return texts, partial
}
