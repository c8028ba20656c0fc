package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// discardCommand discards dead letters.
type discardCommand struct {
	selectionFlags        `embed:""`
	All                   bool `help:"All open dead letters; required without another filter."`
	confirmFlags          `embed:""`
	JSON                  bool `name:"json" help:"Print what was done as one line of JSON."`
	config.DeadLetterFlag `embed:"" group:"Topics and group:"`
	storeFlags            `embed:""`
}

func (*discardCommand) Help() string {
	return `Discarded dead letters are no longer counted as open, nor replayed. They stay on the
topic for its retention time, and "ls --state discarded" and "show" find them. It can't be undone,
except that the event of "show --event" can be emitted again.

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
		return filter, config.Usagef("discard needs a filter such as --class or --until, IDs, or " +
			"--all")
	case narrows && c.All:
		return filter, config.Usagef("--all is for all dead letters: omit it, or the filters")
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
	selected, err := d.selectEntries(ctx, &c.selectionFlags, c.MaxReplays, filter, time.Time{},
		c.DryRun)
	if err != nil {
		return err
	}
	found := deadletter.Oldest(selected.Entries, c.limit())
	r := discardReport{DryRun: c.DryRun, Letters: len(found), Skipped: selected.Skipped}
	d.warnSkippedIDs(selected.Index, filter, found)
	if len(found) == 0 || c.DryRun {
		return d.finish(r.print(p.stdout, c.JSON))
	}
	question := r.withSkipped("discard "+format.CountOf(len(found), "dead letter")) + "?"
	yes, err := c.confirmed(ctx, p, question)
	if err != nil {
		return err
	}
	if !yes {
		if c.JSON {
			return d.finish(printJSON(p.stdout, discardReport{Skipped: r.Skipped}))
		}
		_, err := fmt.Fprintln(p.stdout, "nothing was discarded")
		return d.finish(err)
	}
	all := len(found)
	if !c.Yes {
		if found, err = selected.StillUnchanged(ctx, found); err != nil {
			return explainError(ctx, err)
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

// discardReport counts what was discarded, or would be.
type discardReport struct {
	DryRun  bool `json:"dry_run"`
	Letters int  `json:"letters"`
	deadletter.Skipped
	started bool
}

// withSkipped returns the text, followed by the counts of skipped dead letters.
func (r *discardReport) withSkipped(text string) string {
	return strings.Join(append([]string{text}, skippedReasons(r.Skipped)...), "; ")
}

func (r *discardReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	text := "discarded " + format.CountOf(r.Letters, "dead letter")
	switch {
	case r.DryRun && r.Letters > 0:
		text = "would discard " + format.CountOf(r.Letters, "dead letter")
	case r.Letters == 0 && !r.started:
		text = "nothing to discard: no open dead letter matches"
	}
	_, err := fmt.Fprintln(w, r.withSkipped(text))
	return err
}
