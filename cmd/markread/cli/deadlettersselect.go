package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// selectionFlags select the dead letters for replay and discard.
type selectionFlags struct {
	IDs         []string `arg:"" optional:"" name:"id" help:"Only these dead letters, such as 0:17."`
	filterFlags `embed:""`

	State string `enum:"open,parked,all" default:"open" help:"Only this state: open; with --parked also parked or all."`
}

// selection returns the filter that the flags describe. wrong is an error of other flags, which is
// returned if these flags are valid. Parked dead letters, which failed again after every replay,
// are selected only with --parked.
func (f *selectionFlags) selection(wrong error) (deadletter.Filter, error) {
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
		wrong = config.Usagef("--state parked needs --parked: these dead letters failed again " +
			"after every replay")
	}
	return filter, wrong
}

// selectEntries reads the topic and returns the selected dead letters. Before that, unless for a
// dry run, it checks that the user may write to the topics: see deadletter.CheckWritable. If
// replayAt is not zero, the dead letters are checked for a replay at that time.
func (d *deadLetters) selectEntries(ctx context.Context, f *selectionFlags, maxReplays int,
	filter deadletter.Filter, replayAt time.Time, dryRun bool,
	writeTo ...string) (*deadletter.Selected, error) {
	if !dryRun {
		if err := deadletter.CheckWritable(ctx, d.kafka, d.Name, writeTo...); err != nil {
			return nil, explainError(ctx, err)
		}
	}
	selected, err := d.Select(ctx, deadletter.Selection{Filter: filter, MaxReplays: maxReplays,
		Open: f.State != deadletter.Parked.String(), Parked: f.Parked}, replayAt)
	if err != nil {
		return nil, explainError(ctx, err)
	}
	d.warnUnread()
	return selected, nil
}

// warnSkippedIDs logs why dead letters that were named by ID are skipped, or may be resolved
// already.
func (d *deadLetters) warnSkippedIDs(index *deadletter.Index, filter deadletter.Filter,
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
					Msg("dead letter selected, but it may be resolved already: its partition " +
						"can't be read to its end")
			}
			continue
		}
		line := d.p.log.Warn().Str("letter", id.String())
		why := "there is no such dead letter"
		if d.PartlyRead(id) {
			why = "it can't be read"
		}
		if state, ok := index.State(id); ok {
			why = "it is " + state.String()
			switch state {
			case deadletter.Parked:
				line.Str("do", "use --parked")
			case deadletter.Open:
				why = "another filter excludes it"
			}
		}
		line.Str("reason", why).Msg("dead letter skipped: not selected")
	}
}

func skippedReasons(s deadletter.Skipped) []string {
	return formatReasons(
		reason{s.Gone, "skipped: resolved by another command meanwhile, or deleted"},
		reason{s.Unread, "skipped: their partition can't be read to its end, so they may be " +
			"resolved; select them by ID"},
		reason{s.Parked, "skipped: parked; --parked selects them, too"})
}

// reason is a number of dead letters, and why they are skipped.
type reason struct {
	n   int
	why string
}

// formatReasons returns a text for each reason with a number above 0.
func formatReasons(all ...reason) (texts []string) {
	for _, r := range all {
		if r.n > 0 {
			texts = append(texts, format.Thousands(r.n)+" "+r.why)
		}
	}
	return texts
}

// incompleteError adds to a command's error how far it got; nil if err is nil. unknown is the
// number of dead letters with an unknown outcome, and perhaps says what may have happened to them.
func incompleteError(ctx context.Context, err error, done, of, unknown int, perhaps string) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("after %s of %s; the rest is unchanged", format.Thousands(done),
		format.CountOf(of, "dead letter"))
	if unknown > 0 {
		what += fmt.Sprintf(", but %s %s", format.CountOf(unknown, "dead letter"), perhaps)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted %s", what)
	}
	return fmt.Errorf("stopped %s: %w", what, publishCause(err))
}
