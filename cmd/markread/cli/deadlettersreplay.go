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

// lettersReplayCommand publishes letters again.
type lettersReplayCommand struct {
	choiceFlags        `embed:""`
	Lane               string `enum:"live,backfill" default:"backfill" help:"Where to: live is --topic, backfill is --backfill-topic."`
	confirmFlags       `embed:""`
	JSON               bool `name:"json" help:"Print what was done as one line of JSON."`
	config.TopicsFlags `embed:"" group:"Topics and group:"`
	storeFlags         `embed:""`
}

func (*lettersReplayCommand) Help() string {
	return `Mend the cause first. Without filters all open letters are replayed: published to
the backfill topic with the time when the user read, so that messages that came since stay unread,
and then resolved. Letters of one conversation become one event, with the largest T. Letters that
are no events are judged again; those that still are none, and those without their value, stay open,
and the exit status is 3.

Replaying is harmless: what a newer event has covered meanwhile is not lowered. A replay that was
interrupted, even killed, has lost no letter: run it again. A few letters may then be replayed
twice, and two replays at once do all of it twice: the second event of a conversation collapses with
the first, or finds it applied. A letter that fails again comes back with one replay more, and after
--max-replays it is parked.

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
	filter, err := c.chosen(cmp.Or(c.storeFlags.validate(p.env), c.TopicsFlags.Check()))
	if err == nil && c.target() == "" {
		err = config.Usagef("--backfill-topic is empty: there is nothing to replay to but --lane " +
			"live")
	}
	return filter, cmp.Or(err, c.confirmFlags.validate(p))
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
	index := deadletter.NewIndex(c.MaxReplays, filter)
	index.CheckReplayableAt(time.Now())
	found, left, err := d.choose(ctx, &c.choiceFlags, index, filter, c.DryRun, c.target())
	if err != nil {
		return err
	}
	plan := deadletter.PlanOf(found, c.limit())
	r := replayReport{To: c.target(),
		DryRun: c.DryRun, Letters: plan.Letters(), Conversations: len(plan.Events),
		StillOpen: stillOpen{Invalid: plan.Obstacles[deadletter.Invalid],
			ValueOmitted: plan.Obstacles[deadletter.Omitted]}, leftAlone: left}
	d.explainIDs(index, filter, found)
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
		still, err := d.still(ctx, c.MaxReplays, filter, plan.All())
		if err != nil {
			return err
		}
		plan = deadletter.PlanOf(still, 0)
	}
	show, end := terminal.WorkProgress(p.stderr, "replayed", plan.Letters())
	done, err := d.Replay(ctx, plan, time.Now, d.kafka.Publisher(c.target()),
		d.kafka.Publisher(c.DeadLetterTopic), show)
	end()
	done.Gone += all - plan.Letters()
	r.did(done)
	return d.end(r.end(p, c.JSON, endedEarly(ctx, err, done.Letters, all, done.Unresolved,
		"may have been published and would be replayed once more, which is harmless")))
}

// replayReport is what a replay did, or would do.
type replayReport struct {
	To            string    `json:"topic"`
	DryRun        bool      `json:"dry_run"`
	Letters       int       `json:"letters"`
	Conversations int       `json:"conversations"`
	StillOpen     stillOpen `json:"still_open"`
	leftAlone
	begun bool
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
	r.Gone, r.Unread = done.Gone, r.Unread+done.Unread
	r.StillOpen.Invalid += done.Changed
	r.StillOpen.TooLarge, r.StillOpen.Refused = done.TooLarge, done.Refused
	r.StillOpen.Unresolved = done.Unresolved
}

// what is the letters and where they go.
func (r *replayReport) what() string {
	return fmt.Sprintf("%s of %s to %s", format.CountOf(r.Letters, "letter"),
		format.CountOf(r.Conversations, "conversation"), r.To)
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
	return strings.Join(append(r.StillOpen.reasons(), r.leftAlone.reasons()...), "; ")
}

func (s stillOpen) reasons() []string {
	return reasonsOf(reason{s.Invalid, "can't: the record is no event"},
		reason{s.ValueOmitted, "can't: the value was left out as too large or damaged"},
		reason{s.TooLarge, "can't: the topic refuses the record as too large"},
		reason{s.Refused, "can't: the topic refuses the record, because it is compacted and the " +
			"record has no key, or for its time"})
}

// end prints the report, and returns what went wrong.
func (r *replayReport) end(p *process, asJSON bool, failed error) error {
	if err := cmp.Or(failed, r.print(p, asJSON)); err != nil {
		return err
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
