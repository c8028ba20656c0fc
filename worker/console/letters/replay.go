package letters

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"markread/consumer/deadletter"
	"markread/worker/console/overview"
	"markread/worker/console/respond"
)

const (
	maxPlans    = 10
	maxPlanned  = 500_000 // dead letters of all plans in memory, unless one alone has more
	planAge     = 10 * time.Minute
	planTimeout = 2 * time.Minute
	retryPlan   = 5 * time.Second
)

// replays holds the plans, and the replay that runs or ran last.
type replays struct {
	mu      sync.Mutex
	plans   []*plan // oldest first
	current *plan
	closed  bool       // Run has ended
	started chan *plan // to Run; has space for one, and only one is running
}

// plan is a replay from its plan to its end.
type plan struct {
	id     string
	made   time.Time
	filter Filter
	job    *deadletter.Job
	// since start, guarded by replays.mu
	progress Progress
	stopped  context.Context // ends when somebody stops the replay
	stop     context.CancelFunc
}

// Progress is the state of a replay, for the page.
type Progress struct {
	State         string         `json:"state"`   // running, done, stopped or failed
	Letters       int            `json:"letters"` // resolved
	Of            int            `json:"of"`
	Conversations int            `json:"conversations"` // published
	To            string         `json:"to"`            // the topic
	StartedAt     time.Time      `json:"started_at"`
	EndedAt       *time.Time     `json:"ended_at"`
	By            string         `json:"by"`
	StoppedBy     string         `json:"stopped_by"`
	Error         string         `json:"error"`
	Obstacles     map[string]int `json:"obstacles"` // they stay open, by reason
	Gone          int            `json:"gone"`      // resolved by others meanwhile
	Unread        int            `json:"unread"`
}

// Progress returns the Progress of the replay that runs or ran last; nil: none.
func (l *Letters) Progress() any {
	l.replays.mu.Lock()
	defer l.replays.mu.Unlock()
	if l.replays.current == nil {
		return nil
	}
	return l.replays.current.progress
}

// planned is the response to a request for a plan.
type planned struct {
	Plan          string         `json:"plan"` // "": nothing can be replayed
	Letters       int            `json:"letters"`
	Conversations int            `json:"conversations"`
	Minutes       *float64       `json:"minutes"`   // of the group's quota; nil: no limit
	Obstacles     map[string]int `json:"obstacles"` // they stay open, by reason
	ParkedSkipped int            `json:"parked_skipped"`
	UnreadSkipped int            `json:"unread_skipped"` // they may be resolved
	To            string         `json:"to"`
	ExpiresAt     time.Time      `json:"expires_at"`
}

// plan plans the replay of the dead letters of a filter.
func (l *Letters) plan(w http.ResponseWriter, r *http.Request) (any, error) {
	var f Filter
	if err := respond.ReadJSON(w, r, &f); err != nil {
		return nil, err
	}
	now := time.Now()
	filter, states, err := f.parse(now)
	if err != nil {
		return nil, err
	}
	selection := deadletter.Selection{Filter: filter, MaxReplays: l.MaxReplays,
		Open:   slices.Contains(states, deadletter.Open),
		Parked: slices.Contains(states, deadletter.Parked)}
	if !selection.Open && !selection.Parked {
		return nil, respond.BadRequest("only dead letters that are open or parked can "+
			"be replayed, not %s ones", f.State)
	}
	if err := take(r.Context(), l.plans, 0); err != nil {
		return nil, respond.Busy(retryPlan,
			"another replay is being planned; try again in some seconds")
	}
	defer func() { <-l.plans }()
	allow(w, planTimeout+stallTimeout)
	ctx, cancel := context.WithTimeout(r.Context(), planTimeout)
	defer cancel()
	if err := l.CheckWritable(ctx, l.ReplayTo); err != nil {
		return nil, err
	}
	store := &deadletter.Store{Topic: l.Topic, Name: l.Name}
	selected, err := store.Select(ctx, selection, now)
	if err != nil {
		return nil, err
	}
	p := &plan{made: time.Now(), filter: f, job: selected.NewJob(0)}
	report := p.job.Report
	response := planned{Letters: report.Letters, Conversations: report.Conversations,
		Obstacles: obstaclesOf(report.StillOpen), ParkedSkipped: report.Parked,
		UnreadSkipped: report.Unread,
		To:            l.ReplayTo, ExpiresAt: p.made.Add(planAge).UTC()}
	if rate := l.Rate(); rate > 0 && !math.IsInf(rate, 0) {
		response.Minutes = new(float64(report.Conversations) / rate / 60)
	}
	if report.Letters > 0 {
		p.id = newID()
		response.Plan = p.id
		l.replays.keep(p)
	}
	return response, nil
}

// obstaclesOf returns the counts that are not 0, by the names that the command's JSON has.
func obstaclesOf(s deadletter.StillOpen) map[string]int {
	all := map[string]int{"invalid": s.Invalid, "value_omitted": s.ValueOmitted,
		"too_large": s.TooLarge, "refused": s.Refused, "unresolved": s.Unresolved}
	maps.DeleteFunc(all, func(_ string, n int) bool { return n == 0 })
	return all
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// keep adds a plan, and drops plans that are too old or too many.
func (r *replays) keep(p *plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plans = append(r.plans, p)
	r.expire()
	size := 0
	for i, p := range slices.Backward(r.plans) {
		if size += p.job.Planned(); len(r.plans)-i > maxPlans ||
			size > maxPlanned && i < len(r.plans)-1 {
			r.plans = slices.Delete(r.plans, 0, i+1)
			break
		}
	}
}

func (r *replays) expire() {
	r.plans = slices.DeleteFunc(r.plans,
		func(p *plan) bool { return time.Since(p.made) >= planAge })
}

// start starts the replay of a plan. The number of its dead letters must be repeated, as somebody
// typed it.
func (l *Letters) start(w http.ResponseWriter, r *http.Request) (any, error) {
	var request struct {
		Plan  string `json:"plan"`
		Count int    `json:"count"`
	}
	if err := respond.ReadJSON(w, r, &request); err != nil {
		return nil, err
	}
	by := l.Who(r)
	p, err := l.replays.start(request.Plan, request.Count, Progress{State: "running", By: by,
		To: l.ReplayTo, Of: request.Count, Obstacles: map[string]int{},
		StartedAt: time.Now().UTC()})
	if err == nil {
		l.record("replay", by, p.Of)
	}
	return p, err
}

func (r *replays) start(id string, count int, began Progress) (Progress, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire()
	i := slices.IndexFunc(r.plans, func(p *plan) bool { return p.id == id })
	switch {
	case i < 0:
		return began, respond.Errorf(http.StatusGone, "this plan is gone: it was made more than "+
			"10 minutes ago, was started, or newer ones have replaced it; plan again")
	case count != r.plans[i].job.Planned():
		return began, respond.BadRequest("the plan has %d dead letters, not %d; type "+
			"the number to confirm it", r.plans[i].job.Planned(), count)
	case r.closed:
		return began, respond.Errorf(http.StatusServiceUnavailable, "this console is shutting down")
	case r.running():
		return began, respond.Errorf(http.StatusConflict, "another replay is running; wait for it, "+
			"or stop it")
	}
	p := r.plans[i]
	r.plans = slices.Delete(r.plans, i, i+1)
	p.stopped, p.stop = context.WithCancel(context.Background())
	p.progress, r.current = began, p
	r.started <- p
	return began, nil
}

// endedSince reports whether a replay has ended at a time or later.
func (r *replays) endedSince(at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current != nil && r.current.progress.EndedAt != nil &&
		!r.current.progress.EndedAt.Before(at)
}

func (r *replays) running() bool {
	return r.current != nil && r.current.progress.State == "running"
}

// stop stops the running replay. The request needs no body.
func (l *Letters) stop(w http.ResponseWriter, r *http.Request) (any, error) {
	if r.ContentLength != 0 {
		if err := respond.ReadJSON(w, r, &struct{}{}); err != nil {
			return nil, err
		}
	}
	by := l.Who(r)
	p, err := l.replays.stop(by)
	if err == nil {
		l.record("stop-replay", by, p.Of)
	}
	return p, err
}

func (r *replays) stop(by string) (Progress, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running() {
		return Progress{}, respond.Errorf(http.StatusConflict, "no replay is running")
	}
	r.current.stop()
	r.current.progress.StoppedBy = by
	return r.current.progress, nil
}

func (l *Letters) record(what, by string, letters int) {
	if l.Record != nil {
		l.Record(overview.Command{At: time.Now(), What: what, By: by,
			Why: strconv.Itoa(letters)})
	}
}

// Run carries out replays until ctx ends, and then stops the one that runs, which takes at most
// some seconds, and returns nil. Call it once.
func (l *Letters) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			l.replays.close()
			return nil
		case p := <-l.replays.started:
			l.replay(ctx, p)
		}
	}
}

// close refuses further replays, and ends one that was started too late.
func (r *replays) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	select {
	case p := <-r.started:
		p.stop()
		p.progress.State, p.progress.EndedAt = "stopped", new(time.Now().UTC())
	default:
	}
}

// replay carries out a plan.
func (l *Letters) replay(ctx context.Context, p *plan) {
	defer context.AfterFunc(ctx, p.stop)()
	defer p.stop()
	f := p.filter
	l.Log.Info().Str("by", p.progress.By).Int("letters", p.job.Planned()).
		Int("conversations", p.job.Report.Conversations).Str("topic", l.ReplayTo).
		Str("class", f.Class).Str("code", f.Code).Str("state", f.State).Str("since", f.Since).
		Str("until", f.Until).Bool("report", f.Report != "").Bool("peer", f.Peer != "").
		Msg("replay of dead letters started")
	var report deadletter.Report
	err := p.job.Recheck(p.stopped)
	if err == nil {
		err = p.job.Run(p.stopped, time.Now, l.Publisher(l.ReplayTo), l.Publisher(l.Name),
			func(done deadletter.Done) {
				l.replays.mu.Lock()
				defer l.replays.mu.Unlock()
				p.progress.Letters, p.progress.Conversations = done.Letters, done.Conversations
			})
		report = p.job.Report
	}
	ended := l.replays.end(p, report, err)
	line := l.Log.Info()
	if ended.State == "failed" {
		line = l.Log.Warn().Err(err).Str("do", "fix the cause and replay again: no dead letter is "+
			"lost")
	}
	line.Str("by", ended.By).Str("state", ended.State).Str("stopped_by", ended.StoppedBy).
		Int("letters", ended.Letters).Int("of", ended.Of).
		Int("conversations", ended.Conversations).Str("topic", ended.To).
		Int("rejected", report.StillOpen.Rejected()).
		Int("unresolved", report.StillOpen.Unresolved).Int("gone", ended.Gone).
		Int("unread", ended.Unread).Msg("replay of dead letters ended")
}

func (r *replays) end(p *plan, report deadletter.Report, err error) Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := &p.progress
	switch {
	case err == nil:
		now.State = "done"
	case p.stopped.Err() != nil:
		now.State = "stopped"
	default:
		now.State, now.Error = "failed", err.Error()
	}
	now.EndedAt = new(time.Now().UTC())
	now.Letters, now.Conversations = report.Letters, report.Conversations
	now.Obstacles, now.Gone, now.Unread = obstaclesOf(report.StillOpen), report.Gone, report.Unread
	p.job = nil // its entries need memory
	return *now
}
