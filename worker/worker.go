// Package worker turns mark-read events into API calls: it fetches and collapses events, calls no
// faster than the quota allows, retries calls that may succeed later, and writes dead letters for
// the other events.
//
// Package engine makes the decisions; it has no clock, no goroutine and no I/O, so that it can be
// tested and simulated. Worker carries the decisions out: it holds the lock, makes the calls,
// writes the dead letters and commits. Package console shows its state. Worker does not know the
// Kafka protocol (package consumer) or HTTP (package imclient).
//
// Goroutines. Run waits for every goroutine that it starts. For each generation, serve owns the
// fetchers, one dispatcher, one goroutine for each call in flight, and one each for writing dead
// letters, committing, watching the key and watching for stalled offsets. Fetchers, and calls that
// end, start the next calls themselves: see dispatcher. At a revoke or a shutdown the fetchers and
// the dispatcher end first; calls and dead letters in flight then have DrainTimeout; the last
// commit follows. The doc of cmd/markread/app describes the complete order of a shutdown, from the
// signal to the exit.
//
// Non-obvious:
//   - Everything about events belongs to a generation and is dropped with it. Everything about the
//     server (permits, holds, recently applied read times) belongs to the process and stays.
//   - A call that a shutdown or a revoke interrupts is neither a failure nor an attempt.
//   - The step that settles a call also returns its permit, under the same lock: no reader sees a
//     state in between.
package worker

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/logthrottle"
	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/engine"
)

// Caller makes one API call. *imclient.Client implements it.
type Caller interface {
	// MarkRead sends at most one request. It returns nil, an *imclient.Error, the cause of ctx's
	// end, or the error of ctx's lease (imclient.WithLease).
	MarkRead(ctx context.Context, read imclient.Read) error
	// Now is the later of our clock and the server's.
	Now() time.Time
	// KeyChanged reports whether the current key differs from the key of the last signature. It may
	// read a file.
	KeyChanged() bool
}

// Options configure a worker. All must be set except where noted.
type Options struct {
	Kafka  *kafkaclient.Client
	IM     Caller
	Topics event.Topics
	Group  string

	Rate        int // calls per second of the whole group; 0: no quota
	MaxInFlight int // calls in flight; only with Rate 0
	MaxPending  int // conversations in memory at which fetching pauses
	MaxRejected int // per cent of a lane's last 500 outcomes that may be rejected or invalid
	Attempts    int // counted failures after which an event becomes a dead letter
	Backoff     imclient.Backoff

	MaxReplays int // replays after which a dead letter is parked, which is logged; 0: never

	CallTimeout time.Duration // of one call; no call is in flight for longer
	CommitEvery time.Duration
	// how long a revoke or a shutdown waits for calls and dead letters in flight
	DrainTimeout time.Duration

	// more settings for the metric setting_info than group and topics, by flag without dashes; no
	// secret, address, user or account
	Settings map[string]string

	Log             zerolog.Logger
	Version, Commit string // shown in the state; may be empty
}

// maxSilence is how long the worker stays ready between two generations, and how long a loop may
// not iterate before it counts as unhealthy.
const maxSilence = 60 * time.Second

// Worker is one member of the group. It implements console.Source and prometheus.Collector.
type Worker struct {
	options Options
	metrics *metrics
	started time.Time

	mu            sync.Mutex
	engine        *engine.Engine
	generation    *consumer.Generation         // nil between generations
	lost          map[string]int64             // of earlier generations, by topic
	retention     map[string]time.Duration     // by topic; a missing one is not known
	groupSize     int                          // partitions of the group's last generation
	memberID      string                       // in the group's last generation; "": none yet
	capacityFreed map[event.Lane]chan struct{} // closed when the lane has capacity

	uncleanStop error // what the last generation left undone; only Run and serve use it

	member         atomic.Bool     // within a generation
	throttled      logthrottle.Log // for log lines of repeated failures
	wake           chan struct{}   // the dispatcher or the drain rechecks
	lettersWaiting chan struct{}   // dead letters wait to be written
	// when the dispatch or group loop last iterated, Unix ns; 0: never
	lastAlive    atomic.Int64
	outsideSince atomic.Int64 // when the last generation ended, Unix ns; 0: none has
}

// New returns a worker that is idle until Run.
func New(options Options) (*Worker, error) {
	switch o := options; { // the command line checks first, and names the flag
	case o.Kafka == nil, o.IM == nil, o.Rate < 0, o.Rate == 0 && o.MaxInFlight < 1,
		o.MaxPending < 1, o.MaxRejected < 1, o.MaxRejected > 100, o.Attempts < 1,
		o.CommitEvery <= 0, o.DrainTimeout <= 0:
		return nil, errors.New("worker: an option is not set, or out of its range")
	case o.CallTimeout <= 0, o.CallTimeout+proofMargin >= kafkaclient.SessionTimeout:
		return nil, fmt.Errorf("worker: CallTimeout is %v; with %v it must end within a session "+
			"of %v", o.CallTimeout, proofMargin, kafkaclient.SessionTimeout)
	}
	w := &Worker{
		options:        options,
		metrics:        newMetrics(),
		started:        time.Now(),
		capacityFreed:  map[event.Lane]chan struct{}{},
		lost:           map[string]int64{options.Topics.Live: 0},
		wake:           make(chan struct{}, 1),
		lettersWaiting: make(chan struct{}, 1),
	}
	w.options.Settings = withNames(options)
	if options.Topics.Backfill != "" {
		w.lost[options.Topics.Backfill] = 0
	}
	if options.Rate > 0 {
		options.MaxInFlight = 0
	}
	type attempt struct {
		id string
		n  int
	}
	seed := maphash.MakeSeed()
	w.engine = engine.New(engine.Options{
		Topics:      options.Topics,
		Attempts:    options.Attempts,
		MaxInFlight: options.MaxInFlight,
		MaxPending:  options.MaxPending,
		MaxRejected: options.MaxRejected,
		Backoff:     options.Backoff,
		Jitter: func(id string, failures int) float64 {
			return float64(maphash.Comparable(seed, attempt{id, failures})>>11) / (1 << 53)
		},
		Observer: &observer{metrics: w.metrics, log: options.Log, maxReplays: options.MaxReplays},
	})
	return w, nil
}

// Run works until ctx ends, then drains, commits and leaves the group. It returns an error if any
// of these fails, or if it can't work at all (see consumer.Consume).
func (w *Worker) Run(ctx context.Context) error {
	options := consumer.GroupOptions{
		Group:         w.options.Group,
		Topics:        w.options.Topics,
		Rate:          w.options.Rate,
		Now:           w.options.IM.Now,
		OnJoinAttempt: w.markAlive,
	}
	if w.options.Rate > 0 {
		options.Share = func(all, owned []event.TopicPartition) int {
			return engine.Share(w.options.Rate, all, owned)
		}
	}
	if err := consumer.Consume(ctx, w.options.Kafka, options, w.serve); err != nil {
		return err
	}
	if w.uncleanStop != nil {
		return fmt.Errorf("unclean stop: %w; no event is lost, some calls will be repeated",
			w.uncleanStop)
	}
	return nil
}

// The most bytes that are kept of who paused the worker, and why.
const maxBy, maxWhy = 100, 200

// Pause holds all calls of this worker until Resume. Events wait; nothing is lost. by and why are
// shown with the hold and logged; both may be empty. Another Pause updates them.
func (w *Worker) Pause(by, why string) {
	by, why = oneLine(by, maxBy), oneLine(why, maxWhy)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.engine.Pause(time.Now(), by, why)
}

// oneLine returns text from outside as one line of at most so many bytes.
func oneLine(text string, most int) string {
	return printable.Truncate(printable.Line(strings.TrimSpace(text)), most)
}

// Resume ends a pause; by is who resumes it, and may be empty. With acceptRejections it also ends
// the holds for rejections: the next 10,000 events of their lanes that are rejected or invalid
// become dead letters.
func (w *Worker) Resume(by string, acceptRejections bool) {
	by = oneLine(by, maxBy)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.engine.Resume(time.Now(), by, acceptRejections)
	w.wakeWaiting()
	notify(w.wake)
}

// Ready reports whether the worker is a member of the group, or left its last generation within the
// last maxSilence.
func (w *Worker) Ready() bool {
	left := w.outsideSince.Load()
	return w.member.Load() || left != 0 && time.Since(time.Unix(0, left)) < maxSilence
}

// Healthy returns an error that names the loop that no longer iterates, if any: within a generation
// the dispatch loop or the drain, otherwise the group loop, which retries to join. It takes no
// lock: a lock that is never released is one of the faults that it must detect.
func (w *Worker) Healthy() error {
	last := w.lastAlive.Load()
	if last == 0 {
		return nil // waiting for the brokers, before the first attempt
	}
	loop, limit := "the group loop", maxSilence+consumer.LongestJoin
	if w.member.Load() {
		loop, limit = "the dispatch loop", maxSilence
	}
	if still := time.Since(time.Unix(0, last)); still > limit {
		return fmt.Errorf("%s has not iterated for %v", loop, still.Round(time.Second))
	}
	return nil
}

func (w *Worker) markAlive() { w.lastAlive.Store(time.Now().UnixNano()) }
