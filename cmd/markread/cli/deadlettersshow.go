package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/deadletter"
	"markread/worker/format"
)

// showCommand shows one dead letter.
type showCommand struct {
	ID    string `arg:"" name:"id" placeholder:"ID" help:"The dead letter's partition and offset, such as 0:17."`
	Event bool   `help:"Print only its event, as a line to edit and to pass to \"markread emit\"."`
	JSON  bool   `name:"json" help:"Print one line of JSON, as ls --json does, with the headers."`

	config.DeadLetterFlag `embed:"" group:"Topics and group:"`
	storeFlags            `embed:""`
}

func (*showCommand) Help() string {
	return `It shows the dead letter's content, the meaning of its code, the remedy, its state, and
other dead letters with its key. With --event it prints only the event: MsgReadTime is the time when
the user read, so that the event can be edited and emitted at any later time. The dead letter itself
stays open until it is discarded. If the value is not a JSON object, --event prints it on one line,
with a warning. If no time is known, MsgReadTime is "unknown", which emit refuses, and the exit
status is 3. Edit the event in steps, not in a pipe, whose status is its last command's:

    markread dead-letters show 0:17 --brokers kafka-1:9092
    markread dead-letters show 0:17 --event >event.json &&
        sed s/alcie/alice/ event.json >edited.json &&
        markread emit <edited.json && markread dead-letters discard 0:17 --yes` + variablesHelp
}

func (c *showCommand) run(ctx context.Context, p *process) error {
	id, ok := deadletter.ParseID(c.ID)
	switch {
	case !ok:
		return config.Usagef("ID %q is not PARTITION:OFFSET, such as 0:17", c.ID)
	case c.Event && c.JSON:
		return config.Usagef("--event and --json exclude each other")
	}
	if err := cmp.Or(c.storeFlags.validate(p.env), c.DeadLetterFlag.Check()); err != nil {
		return err
	}
	d, err := c.open(ctx, p, c.DeadLetterTopic)
	if err != nil {
		return err
	}
	defer d.kafka.Close()
	view, err := d.Show(ctx, id, c.MaxReplays)
	switch {
	case err != nil:
		return explainError(ctx, err)
	case c.JSON:
		_, err = p.stdout.Write(append(view.AppendJSON(nil, true), '\n'))
	case c.Event:
		err = p.printEvent(view)
	default:
		err = printDeadLetter(p.stdout, view, time.Now())
	}
	return d.finish(err)
}

// printEvent prints a dead letter's event for editing.
func (p *process) printEvent(view *deadletter.View) error {
	if view.Omitted != "" {
		return fmt.Errorf("dead letter %s has no event: its value of %s bytes was omitted, "+
			"because it was too large or damaged; its origin is %s",
			view.ID, displayText(view.Omitted), formatOrigin(view))
	}
	if view.Record.Value == nil {
		return fmt.Errorf("dead letter %s has no event: its value is null; its origin is %s",
			view.ID, formatOrigin(view))
	}
	line, form := view.Editable()
	if form == deadletter.Raw {
		line = bytes.TrimSpace([]byte(format.Plain(line)))
		if len(line) == 0 { // emit would read no line, and report no error
			return fmt.Errorf("dead letter %s has no event: its value is empty; its origin is %s",
				view.ID, formatOrigin(view))
		}
		p.log.Warn().Str("letter", view.ID.String()).
			Msg("the value is not a JSON object; printed on one line")
	}
	if _, err := p.stdout.Write(append(line, '\n')); err != nil {
		return err
	}
	if form == deadletter.NoReadTime {
		return &rejectedError{fmt.Sprintf("dead letter %s has no read time: replace \"unknown\" "+
			"with a MsgReadTime (seconds since 1970), or emit refuses it", view.ID)}
	}
	return nil
}

// Limits of what is shown of a dead letter; --json has all.
const (
	maxShownValue   = 4000 // bytes
	maxShownText    = 1000 // bytes, of any other text
	maxShownHeaders = 50
)

// printDeadLetter prints a dead letter as text.
func printDeadLetter(w io.Writer, v *deadletter.View, now time.Time) error {
	t := terminal.NewTable(w)
	state := v.State.String()
	if v.Resolution != nil {
		state = fmt.Sprintf("%s %s, by %s", state, format.Time(v.Resolution.Time), v.Resolution.ID)
	}
	t.Textf("dead letter %s: %s", v.ID, state)
	text := explainKind(v.Class, v.Code)
	t.Row("  class", displayText(cmp.Or(v.Class, "?")))
	if v.Code != "" {
		t.Row("  code", displayText(v.Code))
	}
	for _, l := range []struct{ name, text string }{{"  meaning", text.meaning},
		{"  do", text.remedy}, {"  message", displayText(v.Message)}} {
		if l.text != "" {
			t.Row(l.name, l.text)
		}
	}
	t.Row("  failed",
		format.TimeAgo(v.FailedAt, now)+", after "+format.Count(v.Attempts, "counted attempt"))
	t.Row("  reader", account(v.Report))
	t.Row("  peer", account(v.Peer))
	if v.ReadTime != nil {
		t.Row("  read up to",
			fmt.Sprintf("%d (%s)", *v.ReadTime, format.Time(time.Unix(*v.ReadTime, 0))))
	}
	if v.EventTime != nil {
		t.Row("  event time", format.TimeAgo(*v.EventTime, now))
	} else {
		t.Row("  event time", "none that is valid")
	}
	t.Row("  origin", formatOrigin(v))
	t.Row("  stands for", format.Count(v.Collapsed, "event"))
	t.Row("  replayed", format.Count(v.Replays, "time"))
	t.Row("  key", displayBytes(v.Record.Key, maxShownText))
	if v.Omitted != "" {
		t.Row("  value", fmt.Sprintf("omitted: its %s bytes were too large or damaged, so it "+
			"can't be replayed", displayText(v.Omitted)))
	} else {
		t.Row("  value", displayBytes(v.Record.Value, maxShownValue))
	}
	headers := v.Record.ProducerHeaders()
	for _, h := range headers[:min(len(headers), maxShownHeaders)] {
		t.Row("  header",
			displayBytes([]byte(h.Key), maxShownText)+" = "+displayBytes(h.Value, maxShownText))
	}
	if more := len(headers) - maxShownHeaders; more > 0 {
		t.Row("  header", fmt.Sprintf("… and %d more, which --json shows", more))
	}
	if len(v.Others) > 0 {
		t.Textf("")
		t.Textf("%s with the same key", format.Count(len(v.Others)+v.More, "other dead letter"))
		if v.More > 0 {
			t.Textf("  … %d older ones", v.More)
		}
	}
	for _, o := range v.Others {
		t.Row("  "+o.ID.String(), o.State.String(), displayText(o.Kind.Class),
			displayText(cmp.Or(o.Kind.Code, "-")), format.Time(o.FailedAt))
	}
	return t.End()
}

// displayText is display for a text of a dead letter, which may be as long as a record.
func displayText(text string) string { return displayBytes([]byte(text), maxShownText) }

func account(name *string) string {
	if name == nil {
		return "can't be read"
	}
	return displayText(*name)
}

// formatOrigin returns where the record of a dead letter was read first.
func formatOrigin(v *deadletter.View) string {
	n := func(n *int64) string {
		if n == nil {
			return "?"
		}
		return strconv.FormatInt(*n, 10)
	}
	return fmt.Sprintf("%s/%s at offset %s, by group %s, lane %s",
		displayText(cmp.Or(v.Origin.Topic, "?")), n(v.Origin.Partition), n(v.Origin.Offset),
		displayText(cmp.Or(v.Origin.Group, "?")), displayText(cmp.Or(v.Lane, "?")))
}
