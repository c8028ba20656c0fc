package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// discardCommand gives letters up.
type discardCommand struct {
	selectionFlags        `embed:""`
	All                   bool `help:"All open letters; needed without another filter."`
	confirmFlags          `embed:""`
	JSON                  bool `name:"json" help:"Print what was done as one line of JSON."`
	config.DeadLetterFlag `embed:"" group:"Topics and group:"`
	storeFlags            `embed:""`
}

func (*discardCommand) Help() string {
	return `Letters that are discarded are neither counted as open nor replayed any more. They
stay on the topic, as long as its retention is, and "ls --state discarded" and "show" find them. It
can't be undone, but for "show --event", whose event can be emitted again.

    markread dead-letters discard --brokers kafka-1:9092 --class invalid --until 7d --dry-run
    markread dead-letters discard --brokers kafka-1:9092 0:17 --yes` + filterHelp + variablesHelp
}

// validate returns the filter that the flags describe.
func (c *discardCommand) validate(p *process) (deadletter.Filter, error) {
	filter, err := c.selection(cmp.Or(c.storeFlags.validate(p.env), c.DeadLetterFlag.Check()))
	narrows := c.narrows() || len(c.IDs) > 0 || c.State == deadletter.Parked.String()
	switch {
	case err != nil:
		return filter, err
	case !narrows && !c.All:
		return filter, config.Usagef("discard needs a filter such as --class or --until, the " +
			"letters' IDs, or --all")
	case narrows && c.All:
		return filter, config.Usagef("--all is for all letters: leave it out, or the filters")
	}
	return filter, c.confirmFlags.validate(p)
}

func (c *discardCommand) run(ctx context.Context, p *process) error {
	filter, err := c.validate(p)
	if err != nil {
		return err
	}
	d, err := c.open(ctx, p, c.DeadLetterTopic)
	if err != nil {
		return err
	}
	defer d.kafka.Close()
	index := deadletter.NewIndex(c.MaxReplays, filter)
	found, skip, err := d.selectEntries(ctx, &c.selectionFlags, index, filter, c.DryRun)
	if err != nil {
		return err
	}
	found = deadletter.Oldest(found, c.limit())
	r := discardReport{DryRun: c.DryRun, Letters: len(found), skipped: skip}
	d.warnSkippedIDs(index, filter, found)
	if len(found) == 0 || c.DryRun {
		return d.finish(r.print(p.stdout, c.JSON))
	}
	yes, err := c.confirmed(ctx, p,
		r.withSkipped("discard "+format.CountOf(len(found), "letter"))+"?")
	if err != nil {
		return err
	}
	if !yes {
		if c.JSON {
			return d.finish(printJSON(p.stdout, discardReport{skipped: r.skipped}))
		}
		_, err := fmt.Fprintln(p.stdout, "nothing was discarded")
		return d.finish(err)
	}
	all := len(found)
	if !c.Yes {
		if found, err = d.stillUnchanged(ctx, c.MaxReplays, filter, found); err != nil {
			return err
		}
	}
	show, end := terminal.CountProgress(p.stderr, "discarded", len(found))
	done, err := d.Discard(ctx, found, d.kafka.Publisher(c.DeadLetterTopic), show)
	end()
	r.started, r.Letters, r.Gone = true, done.Letters, done.Gone+all-len(found)
	r.Unread += done.Unread
	if printed := r.print(p.stdout, c.JSON); err == nil {
		return d.finish(printed)
	}
	return incompleteError(ctx, err, done.Letters, all, done.Unresolved,
		"may be discarded nevertheless")
}

// discardReport is what was discarded, or would be.
type discardReport struct {
	DryRun  bool `json:"dry_run"`
	Letters int  `json:"letters"`
	skipped
	started bool
}

// withSkipped is the text with what was left alone.
func (r *discardReport) withSkipped(text string) string {
	return strings.Join(append([]string{text}, r.reasons()...), "; ")
}

func (r *discardReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	text := "discarded " + format.CountOf(r.Letters, "letter")
	switch {
	case r.DryRun && r.Letters > 0:
		text = "would discard " + format.CountOf(r.Letters, "letter")
	case r.Letters == 0 && !r.started:
		text = "nothing to discard: no letter that is open matches"
	}
	_, err := fmt.Fprintln(w, r.withSkipped(text))
	return err
}
