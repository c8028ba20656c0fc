package deadletter

import (
	"context"
	"time"

	"markread/consumer/admin"
	"markread/consumer/kafkaclient"
)

// CheckWritable checks before a replay or a discard that the user may write to the dead-letter
// topic and to the topics in writeTo, and that the dead-letter topic is not compacted, which would
// lose dead letters.
func CheckWritable(ctx context.Context, c *kafkaclient.Client, topic string,
	writeTo ...string) error {
	if err := admin.CheckWrite(ctx, c, append(writeTo, topic)...); err != nil {
		return err
	}
	return admin.CheckCleanupPolicy(ctx, c, topic)
}

// Selection is which dead letters a replay or a discard is for.
type Selection struct {
	Filter       Filter
	MaxReplays   int
	Open, Parked bool // the states
}

// Selected is the result of Select.
type Selected struct {
	Entries []Entry // oldest first
	Skipped Skipped
	Index   *Index

	store     *Store
	selection Selection
}

// Skipped counts dead letters that match the filter, but were skipped.
type Skipped struct {
	Parked int `json:"parked"`           // they are parked, and the selection excludes these
	Gone   int `json:"gone"`             // resolved by others meanwhile, or deleted
	Unread int `json:"unread,omitempty"` // their state is not known: see WithKnownState
}

// Select reads the topic and returns the selected dead letters. A time replayAt that is not zero
// checks whether they can be replayed at that time, which NewJob needs.
func (s *Store) Select(ctx context.Context, selection Selection,
	replayAt time.Time) (*Selected, error) {
	index := NewIndex(selection.MaxReplays, selection.Filter)
	index.CheckReplayableAt(replayAt)
	if err := s.Find(ctx, index); err != nil {
		return nil, err
	}
	var states []State
	var skipped Skipped
	if selection.Open {
		states = append(states, Open)
	}
	if selection.Parked {
		states = append(states, Parked)
	} else {
		skipped.Parked = len(index.Find(Parked))
	}
	var found []Entry
	found, skipped.Unread = s.WithKnownState(index.Find(states...), selection.Filter.IDs)
	return &Selected{found, skipped, index, s, selection}, nil
}

// StillUnchanged returns the entries that are still in the same state: others may have resolved
// some while the user considered a question. It reads the topic again, and reuses the slice.
func (s *Selected) StillUnchanged(ctx context.Context, entries []Entry) ([]Entry, error) {
	return s.store.stillUnchanged(ctx, s.selection, entries)
}

func (s *Store) stillUnchanged(ctx context.Context, selection Selection,
	entries []Entry) ([]Entry, error) {
	index := NewIndex(selection.MaxReplays, selection.Filter)
	if err := s.Find(ctx, index); err != nil {
		return nil, err
	}
	still, _ := s.WithKnownState(index.Unchanged(entries), selection.Filter.IDs)
	return still, nil
}

// Job is a replay, from its plan to its report. It is not safe for concurrent use, and uses the
// store of its selection.
type Job struct {
	Plan   Plan
	Report Report

	store     *Store
	selection Selection
	planned   int // dead letters
}

// Report counts what a replay would do or, once it has run, did.
type Report struct {
	Letters       int       `json:"letters"`
	Conversations int       `json:"conversations"`
	StillOpen     StillOpen `json:"still_open"`
	Skipped
}

// StillOpen counts selected dead letters that a replay leaves open.
type StillOpen struct {
	Invalid      int `json:"invalid"`
	ValueOmitted int `json:"value_omitted"`
	TooLarge     int `json:"too_large"`
	Refused      int `json:"refused"`
	Unresolved   int `json:"unresolved"`
}

// Rejected is the number of the ones that can't be replayed.
func (s StillOpen) Rejected() int { return s.Invalid + s.ValueOmitted + s.TooLarge + s.Refused }

// NewJob plans the replay of the first limit replayable dead letters of the selected; 0: of all.
func (s *Selected) NewJob(limit int) *Job {
	j := &Job{Plan: PlanOf(s.Entries, limit), store: s.store, selection: s.selection}
	j.planned = j.Plan.Letters()
	j.Report = Report{Letters: j.planned, Conversations: len(j.Plan.Events), Skipped: s.Skipped,
		StillOpen: StillOpen{Invalid: j.Plan.Obstacles[Invalid],
			ValueOmitted: j.Plan.Obstacles[Omitted]}}
	return j
}

// Planned is the number of dead letters of the plan as it was made.
func (j *Job) Planned() int { return j.planned }

// Recheck removes from the plan what has changed since it was made; see StillUnchanged. The report
// of Run counts them.
func (j *Job) Recheck(ctx context.Context) error {
	still, err := j.store.stillUnchanged(ctx, j.selection, j.Plan.All())
	if err == nil {
		j.Plan = PlanOf(still, 0)
	}
	return err
}

// Run carries out the plan once, and reports what it did: see Store.Replay.
func (j *Job) Run(ctx context.Context, now func() time.Time, events, resolutions Publisher,
	progress func(Done)) error {
	done, err := j.store.Replay(ctx, j.Plan, now, events, resolutions, progress)
	r := &j.Report
	r.Letters, r.Conversations = done.Letters, done.Conversations
	r.Gone, r.Unread = done.Gone+j.planned-j.Plan.Letters(), r.Unread+done.Unread
	r.StillOpen.Invalid += done.Changed
	r.StillOpen.TooLarge, r.StillOpen.Refused = done.TooLarge, done.Refused
	r.StillOpen.Unresolved = done.Unresolved
	return err
}
