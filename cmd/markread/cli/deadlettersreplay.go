package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// replayCommand publishes the events of dead letters again.
type replayCommand struct {
	selectionFlags `embed:""`

	Lane string `enum:"live,backfill" default:"backfill" help:"Publish to --topic (live) or --backfill-topic."`

	confirmFlags `embed:""`

	JSON bool `name:"json" help:"Print what was done as one line of JSON."`

	config.TopicsFlags `embed:"" group:"Topics and group:"`
	storeFlags         `embed:""`
}

func (*replayCommand) Help() string {
	return `Fix the cause first. Without filters, all open dead letters are replayed: published to
the backfill topic with the time when the user read, so that later messages stay unread, and then
resolved. Dead letters of one conversation become one event, with the largest T. Invalid events are
checked again. Events that are still invalid, and dead letters without their value, stay open; then
the exit status is 3.

Replaying is harmless: it does not lower what a newer event has set meanwhile. A replay that was
interrupted, even killed, has lost no dead letter: run it again. A few dead letters may then be
replayed twice, and two replays at the same time do all of it twice: the second event of a
conversation collapses with the first, or finds it applied. If an event fails again, its new dead
letter has one replay more; after --max-replays it is parked.

    markread dead-letters replay --brokers kafka-1:9092 --code 90048 --dry-run
    markread dead-letters replay --brokers kafka-1:9092 --code 90048 --limit 10 --yes
    markread dead-letters replay --brokers kafka-1:9092 0:17 4:1711` + filterHelp + variablesHelp
}

// target returns the topic to publish to.
func (c *replayCommand) target() string {
	if c.Lane == "live" {
		return c.Topic
	}
	return c.BackfillTopic
}

// validate returns the filter that the flags describe.
func (c *replayCommand) validate(p *process) (deadletter.Filter, error) {
	filter, err := c.selection(cmp.Or(c.storeFlags.validate(p.env), c.TopicsFlags.Check()))
	if err == nil && c.target() == "" {
		err = config.Usagef("--backfill-topic is empty: use --lane live, or name a topic")
	}
	return filter, cmp.Or(err, c.confirmFlags.validate(p))
}

func (c *replayCommand) run(ctx context.Context, p *process) error {
	filter, err := c.validate(p)
	if err != nil {
		return err
	}
	d, err := c.open(ctx, p, c.DeadLetterTopic)
	if err != nil {
		return err
	}
	defer d.kafka.Close()
	selected, err := d.selectEntries(ctx, &c.selectionFlags, c.MaxReplays, filter, time.Now(),
		c.DryRun, c.target())
	if err != nil {
		return err
	}
	job := selected.NewJob(c.limit())
	r := replayReport{To: c.target(), DryRun: c.DryRun, Report: job.Report}
	d.warnSkippedIDs(selected.Index, filter, selected.Entries)
	if job.Planned() == 0 || c.DryRun {
		return d.finish(r.finish(p, c.JSON, nil))
	}
	yes, err := c.confirmed(ctx, p, r.question())
	if err != nil {
		return err
	}
	if !yes {
		if c.JSON {
			r.Letters, r.Conversations = 0, 0
			return d.finish(r.print(p, true))
		}
		_, err := fmt.Fprintln(p.stdout, "nothing was replayed")
		return d.finish(err)
	}
	if !c.Yes {
		if err := job.Recheck(ctx); err != nil {
			return explainError(ctx, err)
		}
	}
	show, end := terminal.CountProgress(p.stderr, "replayed", job.Plan.Letters())
	err = job.Run(ctx, time.Now, d.kafka.Publisher(c.target()),
		d.kafka.Publisher(c.DeadLetterTopic), show)
	end()
	r.started, r.Report = true, job.Report
	return d.finish(r.finish(p, c.JSON,
		incompleteError(ctx, err, r.Letters, job.Planned(), r.StillOpen.Unresolved,
			"may have been published and would be replayed once more, which is harmless")))
}

// replayReport is what a replay did, or would do.
type replayReport struct {
	To     string `json:"topic"`
	DryRun bool   `json:"dry_run"`
	deadletter.Report
	started bool
}

// description counts the dead letters and names their target topic.
func (r *replayReport) description() string {
	return fmt.Sprintf("%s of %s to %s", format.CountOf(r.Letters, "dead letter"),
		format.CountOf(r.Conversations, "conversation"), r.To)
}

func (r *replayReport) question() string {
	text := "replay " + r.description()
	if notes := r.notes(); notes != "" {
		text += " (" + notes + ")"
	}
	return text + "?"
}

// notes counts what is not replayed, with reasons.
func (r *replayReport) notes() string {
	return strings.Join(append(stillOpenReasons(r.StillOpen), skippedReasons(r.Skipped)...), "; ")
}

func stillOpenReasons(s deadletter.StillOpen) []string {
	return formatReasons(reason{s.Invalid, "can't: the record is not a valid event"},
		reason{s.ValueOmitted, "can't: the value was omitted as too large or damaged"},
		reason{s.TooLarge, "can't: the topic refuses the record as too large"},
		reason{s.Refused, "can't: the topic refuses the record, because it is compacted and the " +
			"record has no key, or because of its time"})
}

// finish prints the report, and returns the command's error.
func (r *replayReport) finish(p *process, asJSON bool, failed error) error {
	if err := cmp.Or(failed, r.print(p, asJSON)); err != nil {
		return err
	}
	if n := r.StillOpen.Rejected(); n > 0 {
		verb := " stay open: "
		if n == 1 {
			verb = " stays open: "
		}
		return &rejectedError{format.Count(n, "dead letter") + verb +
			strings.Join(stillOpenReasons(r.StillOpen), "; ")}
	}
	return nil
}

func (r *replayReport) print(p *process, asJSON bool) error {
	if asJSON {
		return printJSON(p.stdout, r)
	}
	text := "replayed " + r.description()
	switch {
	case r.DryRun && r.Letters > 0:
		text = "would replay " + r.description()
	case r.Letters == 0 && !r.started:
		text = "nothing to replay: no open dead letter matches that can be replayed"
	}
	if notes := r.notes(); notes != "" {
		text += "; " + notes
	}
	_, err := fmt.Fprintln(p.stdout, text)
	return err
}
