package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// lettersReplayCommand publishes letters again.
type lettersReplayCommand struct {
	IDs                []string `arg:"" optional:"" name:"id" help:"Only these letters, such as 0:17."`
	filterFlags        `embed:""`
	State              string `enum:"open,parked,all" default:"open" help:"Letters in this state: open; with --parked also parked, or all."`
	Lane               string `enum:"live,backfill" default:"backfill" help:"Where to: live is --topic, backfill is --backfill-topic."`
	confirmFlags       `embed:""`
	JSON               bool `name:"json" help:"Print what was done as one line of JSON."`
	config.TopicsFlags `embed:"" group:"Topics and group:"`
	officeFlags        `embed:""`
}

// Help is kong's: what follows the summary.
func (*lettersReplayCommand) Help() string {
	return `Mend the cause first. Without filters all open letters are replayed: published to the backfill topic with the time when the user read, so that
messages that came since stay unread, and then resolved. Letters of one conversation become one event, with the largest T. Letters that are no events are
judged again; those that still are none, and those without their value, stay open, and the exit status is 3.

Replaying is harmless: what a newer event has covered meanwhile is not lowered. A replay that was interrupted, even killed, has lost no letter:
run it again. A few letters may then be replayed twice, and two replays at once do all of it twice: the second event of a conversation collapses with the first, or
finds it applied. A letter that fails again comes back with one replay more, and after --max-replays it is parked.

    markread dead-letters replay --brokers kafka-1:9092 --code 90048 --dry-run
    markread dead-letters replay --brokers kafka-1:9092 --code 90048 --limit 10 --yes
    markread dead-letters replay --brokers kafka-1:9092 0:17 4:1711` + filterHelp + variablesHelp
}

// target is the topic to publish to.
func (c *lettersReplayCommand) target() string {
	if c.Lane == "live" {
		return c.Topic
	}
	return c.BackfillTopic
}

// validate returns the filter that the flags describe.
func (c *lettersReplayCommand) validate(p *process) (deadletter.Filter, error) {
	filter, err := c.chosen(c.IDs, c.State, func() error { return c.officeFlags.validate(p.env) },
		c.TopicsFlags.Check)
	if err != nil {
		return filter, err
	}
	if c.target() == "" {
		return filter, config.Usagef("--backfill-topic is empty: there is nothing to replay to " +
			"but --lane live")
	}
	return filter, c.confirmFlags.validate(p)
}

// idsOf reads the letters that a command line names; nil: none.
func idsOf(texts []string) (map[deadletter.ID]bool, error) {
	var ids map[deadletter.ID]bool
	for _, text := range texts {
		id, ok := deadletter.ParseID(text)
		if !ok {
			return nil, config.Usagef("ID %q is not PARTITION:OFFSET, such as 0:17", text)
		}
		if ids == nil {
			ids = map[deadletter.ID]bool{}
		}
		ids[id] = true
	}
	return ids, nil
}

// chosen is the filter that replay and discard have, if all checks pass. Parked letters, which came
// back from every replay, are only taken by --parked.
func (f *filterFlags) chosen(ids []string, state string, checks ...func() error) (deadletter.Filter,
	error) {
	filter, err := f.filter(time.Now())
	if err == nil {
		filter.IDs, err = idsOf(ids)
	}
	if err == nil {
		err = config.FirstError(checks...)
	}
	if err == nil && state == deadletter.Parked.String() && !f.Parked {
		err = config.Usagef("--state parked needs --parked: these letters came back from every " +
			"replay")
	}
	return filter, err
}

// choose reads the topic and returns the letters to take, and how many may be resolved unseen.
func (d *deadLetters) choose(
	ctx context.Context, fold *deadletter.Index, filter deadletter.Filter,
	states []deadletter.State,
) (found []deadletter.Entry, unknown int, err error) {
	if err := d.Find(ctx, fold); err != nil {
		return nil, 0, plainly(ctx, err)
	}
	d.warn()
	found, unknown = d.Known(fold.Find(states...), filter.IDs)
	return found, unknown, nil
}

// unresolvedStates are those of the letters that replay and discard take: state is open, parked or
// all.
func unresolvedStates(state string, parked bool) (states []deadletter.State) {
	if state != deadletter.Parked.String() {
		states = append(states, deadletter.Open)
	}
	if parked {
		states = append(states, deadletter.Parked)
	}
	return states
}

func (c *lettersReplayCommand) run(ctx context.Context, p *process) error {
	filter, err := c.validate(p)
	if err != nil {
		return err
	}
	d, err := c.open(ctx, p, c.DeadLetterTopic)
	if err != nil {
		return err
	}
	defer d.kafka.Close()
	if !c.DryRun {
		if err := d.mayChange(ctx, c.target(), c.DeadLetterTopic); err != nil {
			return err
		}
	}
	fold := deadletter.NewIndex(c.MaxReplays, filter)
	fold.Judge(time.Now())
	found, unknown, err := d.choose(ctx, fold, filter, unresolvedStates(c.State, c.Parked))
	if err != nil {
		return err
	}
	plan := deadletter.PlanOf(found, c.limit())
	r := replayReport{
		To: c.target(), DryRun: c.DryRun, Letters: plan.Letters(), Conversations: len(plan.Events),
		StillOpen: stillOpen{Invalid: plan.Obstacles[deadletter.Invalid],
			ValueOmitted: plan.Obstacles[deadletter.Omitted]},
		Unread: unknown,
	}
	if !c.Parked {
		r.Parked = len(fold.Find(deadletter.Parked))
	}
	d.explainIDs(fold, filter, found)
	if plan.Letters() == 0 || c.DryRun {
		return d.end(r.end(p, c.JSON, nil))
	}
	yes, err := c.confirmed(ctx, p, r.question())
	if err != nil {
		return err
	}
	if !yes {
		if c.JSON {
			r.Letters, r.Conversations = 0, 0
			return d.end(r.print(p, true))
		}
		_, err := fmt.Fprintln(p.stdout, "nothing was replayed")
		return d.end(err)
	}
	all := plan.Letters()
	if !c.Yes {
		still, err := d.still(ctx, deadletter.NewIndex(c.MaxReplays, filter), plan.All(),
			filter.IDs)
		if err != nil {
			return plainly(ctx, err)
		}
		plan = deadletter.PlanOf(still, 0)
	}
	progress := terminal.NewWorkProgress(p.stderr, "replayed", plan.Letters())
	done, err := d.Replay(ctx, plan, time.Now, d.kafka.Publisher(c.target()),
		d.kafka.Publisher(c.DeadLetterTopic), progress.Show)
	progress.End()
	done.Gone += all - plan.Letters()
	r.did(done)
	return d.end(r.end(p, c.JSON, endedEarly(ctx, err, done.Letters, all, done.Unresolved,
		"may have been published and would be replayed once more, which is harmless")))
}

// still returns those of the letters that are as they were found: somebody may have thought over
// the question for long, and others have worked on.
func (d *deadLetters) still(ctx context.Context, fold *deadletter.Index, found []deadletter.Entry,
	named map[deadletter.ID]bool) ([]deadletter.Entry, error) {
	if err := d.Find(ctx, fold); err != nil {
		return nil, err
	}
	still, _ := d.Known(fold.Still(found), named)
	return still, nil
}

// mayChange makes sure, before anything is done, that letters can be resolved, and that nothing
// will be lost by it.
func (d *deadLetters) mayChange(ctx context.Context, topics ...string) error {
	if err := admin.CheckWrite(ctx, d.kafka, topics...); err != nil {
		return plainly(ctx, err)
	}
	return plainly(ctx, admin.KeepsLetters(ctx, d.kafka, d.Name))
}

// explainIDs says of letters that were named why they are not taken.
func (d *deadLetters) explainIDs(fold *deadletter.Index, filter deadletter.Filter,
	found []deadletter.Entry) {
	taken := map[deadletter.ID]bool{}
	for _, l := range found {
		taken[l.ID] = true
	}
	for _, id := range slices.SortedFunc(maps.Keys(filter.IDs), func(a, b deadletter.ID) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	}) {
		if taken[id] {
			if d.CutShort(id) {
				d.p.log.Warn().Str("letter", id.String()).
					Msg("taken, but it may be resolved already: its partition can't be read to " +
						"its end")
			}
			continue
		}
		why := "there is no such letter"
		if d.CutShort(id) {
			why = "it can't be read"
		}
		if state, ok := fold.State(id); ok {
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

// endedEarly says how far a command came that did not come to its end, and what may be true of
// letters of which nobody knows; nil if it did.
func endedEarly(ctx context.Context, err error, done, of, unknown int, perhaps string) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("after %s of %s; the rest is as it was", format.Thousands(int64(done)),
		format.CountOf(int64(of), "letter"))
	if unknown > 0 {
		what += fmt.Sprintf(", but %s %s", format.CountOf(int64(unknown), "letter"), perhaps)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted %s", what)
	}
	return fmt.Errorf("stopped %s: %w", what, cause(err))
}

// replayReport is what a replay did, or would do.
type replayReport struct {
	To            string    `json:"topic"`
	DryRun        bool      `json:"dry_run"`
	Letters       int       `json:"letters"`
	Conversations int       `json:"conversations"`
	StillOpen     stillOpen `json:"still_open"`
	Parked        int       `json:"parked"`
	Gone          int       `json:"gone"`
	Unread        int       `json:"unread,omitempty"`
	begun         bool
}

// stillOpen counts letters that were asked for and can't be replayed.
type stillOpen struct {
	Invalid      int `json:"invalid"`
	ValueOmitted int `json:"value_omitted"`
	TooLarge     int `json:"too_large"`
	Refused      int `json:"refused"`
	Unresolved   int `json:"unresolved"`
}

func (s stillOpen) rejected() int { return s.Invalid + s.ValueOmitted + s.TooLarge + s.Refused }

func (r *replayReport) did(done deadletter.Done) {
	r.begun, r.Letters, r.Conversations = true, done.Letters, done.Conversations
	r.StillOpen.Invalid += done.Changed
	r.Gone = done.Gone
	r.Unread += done.Unread
	r.StillOpen.TooLarge = done.TooLarge
	r.StillOpen.Refused = done.Refused
	r.StillOpen.Unresolved = done.Unresolved
}

// what is the letters and where they go.
func (r *replayReport) what() string {
	return fmt.Sprintf("%s of %s to %s", format.CountOf(int64(r.Letters), "letter"),
		format.CountOf(int64(r.Conversations), "conversation"), r.To)
}

func (r *replayReport) question() string {
	text := "replay " + r.what()
	if notes := r.notes(); notes != "" {
		text += " (" + notes + ")"
	}
	return text + "?"
}

// notes is what is not replayed, and why.
func (r *replayReport) notes() string {
	notes := r.StillOpen.reasons()
	if r.Gone > 0 {
		notes = append(notes, goneNote(r.Gone))
	}
	if r.Unread > 0 {
		notes = append(notes, unreadNote(r.Unread))
	}
	if r.Parked > 0 {
		notes = append(notes, parkedNote(r.Parked))
	}
	return strings.Join(notes, "; ")
}

func parkedNote(n int) string {
	return format.Thousands(int64(n)) + " parked, which --parked takes, too"
}

func goneNote(n int) string {
	return format.Thousands(int64(n)) +
		" left alone: resolved by another command meanwhile, or deleted"
}

func unreadNote(n int) string {
	return format.Thousands(int64(n)) +
		" left alone: their partition can't be read to its end, so they may be resolved; their " +
		"IDs take them"
}

func (s stillOpen) reasons() (reasons []string) {
	for _, r := range []struct {
		n   int
		why string
	}{
		{s.Invalid, "can't: the record is no event"},
		{s.ValueOmitted, "can't: the value was left out as too large or damaged"},
		{s.TooLarge, "can't: the topic refuses the record as too large"},
		{s.Refused, "can't: the topic refuses the record, because it is compacted and the record " +
			"has no key, or for its time"},
	} {
		if r.n > 0 {
			reasons = append(reasons, format.Thousands(int64(r.n))+" "+r.why)
		}
	}
	return reasons
}

// end prints the report, and returns what went wrong.
func (r *replayReport) end(p *process, asJSON bool, failed error) error {
	if err := r.print(p, asJSON); err != nil && failed == nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if n := r.StillOpen.rejected(); n > 0 {
		verb := " stay open: "
		if n == 1 {
			verb = " stays open: "
		}
		return &rejectedError{format.Count(n, "letter") + verb + strings.Join(r.StillOpen.reasons(),
			"; ")}
	}
	return nil
}

func (r *replayReport) print(p *process, asJSON bool) error {
	if asJSON {
		return printJSON(p.stdout, r)
	}
	text := "replayed " + r.what()
	switch {
	case r.DryRun && r.Letters > 0:
		text = "would replay " + r.what()
	case r.Letters == 0 && !r.begun:
		text = "nothing to replay: no letter that is open and matches can be replayed"
	}
	if notes := r.notes(); notes != "" {
		text += "; " + notes
	}
	_, err := fmt.Fprintln(p.stdout, text)
	return err
}
