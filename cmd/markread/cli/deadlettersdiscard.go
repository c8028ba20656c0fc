package cli

import (
	"context"
	"fmt"
	"io"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// lettersDiscardCommand gives letters up.
type lettersDiscardCommand struct {
	IDs                   []string `arg:"" optional:"" name:"id" help:"Only these letters, such as 0:17."`
	filterFlags           `embed:""`
	State                 string `enum:"open,parked,all" default:"open" help:"Letters in this state: open; with --parked also parked, or all."`
	All                   bool   `help:"All open letters; needed without another filter."`
	confirmFlags          `embed:""`
	JSON                  bool `name:"json" help:"Print what was done as one line of JSON."`
	config.DeadLetterFlag `embed:"" group:"Topics and group:"`
	officeFlags           `embed:""`
}

// Help is kong's: what follows the summary.
func (*lettersDiscardCommand) Help() string {
	return `Letters that are discarded are neither counted as open nor replayed any more. They stay on the topic, as long as its retention is, and
"ls --state discarded" and "show" find them. It can't be undone, but for "show --event", whose event can be emitted again.

    markread dead-letters discard --brokers kafka-1:9092 --class invalid --until 7d --dry-run
    markread dead-letters discard --brokers kafka-1:9092 0:17 --yes` + filterHelp + variablesHelp
}

// validate returns the filter that the flags describe.
func (c *lettersDiscardCommand) validate(p *process) (deadletter.Filter, error) {
	filter, err := c.chosen(c.IDs, c.State, func() error { return c.officeFlags.validate(p.env) },
		c.DeadLetterFlag.Check)
	if err != nil {
		return filter, err
	}
	narrows := c.narrows() || len(c.IDs) > 0 || c.State == deadletter.Parked.String()
	switch {
	case !narrows && !c.All:
		return filter, config.Usagef("discard needs a filter such as --class or --until, the " +
			"letters' IDs, or --all")
	case narrows && c.All:
		return filter, config.Usagef("--all is for all letters: leave it out, or the filters")
	}
	return filter, c.confirmFlags.validate(p)
}

func (c *lettersDiscardCommand) run(ctx context.Context, p *process) error {
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
		if err := d.mayChange(ctx, c.DeadLetterTopic); err != nil {
			return err
		}
	}
	fold := deadletter.NewIndex(c.MaxReplays, filter)
	found, unknown, err := d.choose(ctx, fold, filter, unresolvedStates(c.State, c.Parked))
	if err != nil {
		return err
	}
	found = deadletter.Oldest(found, c.limit())
	r := discardReport{DryRun: c.DryRun, Letters: len(found), Unread: unknown}
	if !c.Parked {
		r.Parked = len(fold.Find(deadletter.Parked))
	}
	d.explainIDs(fold, filter, found)
	if len(found) == 0 || c.DryRun {
		return d.end(r.print(p.stdout, c.JSON))
	}
	yes, err := c.confirmed(ctx, p,
		"discard "+format.CountOf(int64(len(found)), "letter")+r.note()+"?")
	if err != nil {
		return err
	}
	if !yes {
		if c.JSON {
			return d.end(printJSON(p.stdout, discardReport{Parked: r.Parked, Unread: r.Unread}))
		}
		_, err := fmt.Fprintln(p.stdout, "nothing was discarded")
		return d.end(err)
	}
	all := len(found)
	if !c.Yes {
		if found, err = d.still(ctx, deadletter.NewIndex(c.MaxReplays, filter), found,
			filter.IDs); err != nil {
			return plainly(ctx, err)
		}
	}
	progress := terminal.NewWorkProgress(p.stderr, "discarded", len(found))
	done, err := d.Discard(ctx, found, d.kafka.Publisher(c.DeadLetterTopic), progress.Show)
	progress.End()
	r.begun, r.Letters, r.Gone = true, done.Letters, done.Gone+all-len(found)
	r.Unread += done.Unread
	if printed := r.print(p.stdout, c.JSON); err == nil {
		return d.end(printed)
	}
	return endedEarly(ctx, err, done.Letters, all, done.Unresolved, "may be discarded nevertheless")
}

// discardReport is what was discarded, or would be.
type discardReport struct {
	DryRun  bool `json:"dry_run"`
	Letters int  `json:"letters"`
	Parked  int  `json:"parked"`
	Gone    int  `json:"gone"`
	Unread  int  `json:"unread,omitempty"`
	begun   bool
}

func (r *discardReport) note() (note string) {
	if r.Gone > 0 {
		note += "; " + goneNote(r.Gone)
	}
	if r.Unread > 0 {
		note += "; " + unreadNote(r.Unread)
	}
	if r.Parked > 0 {
		note += "; " + parkedNote(r.Parked)
	}
	return note
}

func (r *discardReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	text := "discarded " + format.CountOf(int64(r.Letters), "letter")
	switch {
	case r.DryRun && r.Letters > 0:
		text = "would discard " + format.CountOf(int64(r.Letters), "letter")
	case r.Letters == 0 && !r.begun:
		text = "nothing to discard: no letter that is open matches"
	}
	_, err := fmt.Fprintln(w, text+r.note())
	return err
}
