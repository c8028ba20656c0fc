package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// choiceFlags say which letters replay and discard take.
type choiceFlags struct {
	IDs         []string `arg:"" optional:"" name:"id" help:"Only these letters, such as 0:17."`
	filterFlags `embed:""`
	State       string `enum:"open,parked,all" default:"open" help:"Letters in this state: open; with --parked also parked, or all."`
}

// chosen is the filter of the flags, if they are valid and nothing else is wrong. Parked letters,
// which came back from every replay, are only taken by --parked.
func (f *choiceFlags) chosen(wrong error) (deadletter.Filter, error) {
	filter, err := f.filter(time.Now())
	if err != nil {
		return filter, err
	}
	for _, text := range f.IDs {
		id, ok := deadletter.ParseID(text)
		if !ok {
			return filter, config.Usagef("ID %q is not PARTITION:OFFSET, such as 0:17", text)
		}
		if filter.IDs == nil {
			filter.IDs = map[deadletter.ID]bool{}
		}
		filter.IDs[id] = true
	}
	if wrong == nil && f.State == deadletter.Parked.String() && !f.Parked {
		wrong = config.Usagef("--state parked needs --parked: these letters came back from every " +
			"replay")
	}
	return filter, wrong
}

// choose makes sure, unless for a dry run, that letters can be resolved and others written, and
// that nothing will be lost by it. Then it reads the topic and returns the letters to take.
func (d *deadLetters) choose(ctx context.Context, f *choiceFlags, index *deadletter.Index,
	filter deadletter.Filter, dryRun bool, others ...string) ([]deadletter.Entry, leftAlone,
	error) {
	if !dryRun {
		err := admin.CheckWrite(ctx, d.kafka, append(others, d.Name)...)
		if err == nil {
			err = admin.CheckCleanupPolicy(ctx, d.kafka, d.Name)
		}
		if err != nil {
			return nil, leftAlone{}, plainly(ctx, err)
		}
	}
	if err := d.Find(ctx, index); err != nil {
		return nil, leftAlone{}, plainly(ctx, err)
	}
	d.warn()
	var states []deadletter.State
	var left leftAlone
	if f.State != deadletter.Parked.String() {
		states = append(states, deadletter.Open)
	}
	if f.Parked {
		states = append(states, deadletter.Parked)
	} else {
		left.Parked = len(index.Find(deadletter.Parked))
	}
	found, unread := d.WithKnownState(index.Find(states...), filter.IDs)
	left.Unread = unread
	return found, left, nil
}

// still returns those of the letters that are as they were found: somebody may have thought over
// the question for long, and others have worked on.
func (d *deadLetters) still(ctx context.Context, maxReplays int, filter deadletter.Filter,
	found []deadletter.Entry) ([]deadletter.Entry, error) {
	index := deadletter.NewIndex(maxReplays, filter)
	if err := d.Find(ctx, index); err != nil {
		return nil, plainly(ctx, err)
	}
	still, _ := d.WithKnownState(index.Unchanged(found), filter.IDs)
	return still, nil
}

// explainIDs says of letters that were named why they are not taken.
func (d *deadLetters) explainIDs(index *deadletter.Index, filter deadletter.Filter,
	found []deadletter.Entry) {
	taken := map[deadletter.ID]bool{}
	for _, l := range found {
		taken[l.ID] = true
	}
	for _, id := range slices.SortedFunc(maps.Keys(filter.IDs), func(a, b deadletter.ID) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	}) {
		if taken[id] {
			if d.PartlyRead(id) {
				d.p.log.Warn().Str("letter", id.String()).
					Msg("taken, but it may be resolved already: its partition can't be read to " +
						"its end")
			}
			continue
		}
		why := "there is no such letter"
		if d.PartlyRead(id) {
			why = "it can't be read"
		}
		if state, ok := index.State(id); ok {
			why = "it is " + state.String()
			switch state {
			case deadletter.Parked:
				why += "; --parked takes it"
			case deadletter.Open:
				why = "another filter leaves it out"
			}
		}
		d.p.log.Warn().Str("letter", id.String()).Msg("not taken: " + why)
	}
}

// leftAlone counts letters that match and were not taken.
type leftAlone struct {
	Parked int `json:"parked"`
	Gone   int `json:"gone"`
	Unread int `json:"unread,omitempty"`
}

func (l leftAlone) reasons() []string {
	return reasonsOf(
		reason{l.Gone, "left alone: resolved by another command meanwhile, or deleted"},
		reason{l.Unread, "left alone: their partition can't be read to its end, so they may be " +
			"resolved; their IDs take them"},
		reason{l.Parked, "parked, which --parked takes, too"})
}

// reason is why so many letters are not taken.
type reason struct {
	n   int
	why string
}

// reasonsOf writes out those that there are.
func reasonsOf(all ...reason) (texts []string) {
	for _, r := range all {
		if r.n > 0 {
			texts = append(texts, format.Thousands(r.n)+" "+r.why)
		}
	}
	return texts
}

// endedEarly says how far a command came that did not come to its end, and what may be true of
// letters of which nobody knows; nil if it did.
func endedEarly(ctx context.Context, err error, done, of, unknown int, perhaps string) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("after %s of %s; the rest is as it was", format.Thousands(done),
		format.CountOf(of, "letter"))
	if unknown > 0 {
		what += fmt.Sprintf(", but %s %s", format.CountOf(unknown, "letter"), perhaps)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted %s", what)
	}
	return fmt.Errorf("stopped %s: %w", what, cause(err))
}
