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

// lettersShowCommand shows one letter.
type lettersShowCommand struct {
	ID                    string `arg:"" name:"id" placeholder:"ID" help:"The letter: its partition and offset, such as 0:17."`
	Event                 bool   `help:"Print its event alone, as a line for \"markread emit\": mend it in between."`
	JSON                  bool   `name:"json" help:"Print one line of JSON, as ls --json does, with the headers."`
	config.DeadLetterFlag `embed:"" group:"Topics and group:"`
	storeFlags            `embed:""`
}

func (*lettersShowCommand) Help() string {
	return `What the letter says, what its code means, what to do, what became of it, and other
letters with its key. With --event its event alone: MsgReadTime is filled in with the time when the
user read, so that it can be mended and emitted at any later time. The letter itself stays open
until it is discarded. Of a value that is no JSON object --event prints what is there, on one line,
and warns. If no time is known, MsgReadTime is "unknown", which emit refuses, and the exit status is
3. Mend it in steps, not in a pipe, whose status is that of its last part:

    markread dead-letters show 0:17 --brokers kafka-1:9092
    markread dead-letters show 0:17 --event >event.json && sed s/alcie/alice/ event.json >mended.json &&
        markread emit <mended.json && markread dead-letters discard 0:17 --yes` + variablesHelp
}

func (c *lettersShowCommand) run(ctx context.Context, p *process) error {
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
		return plainly(ctx, err)
	case c.JSON:
		_, err = p.stdout.Write(append(view.AppendJSON(nil, true), '\n'))
	case c.Event:
		err = p.printEvent(view)
	default:
		err = printLetter(p.stdout, view, time.Now())
	}
	return d.end(err)
}

// printEvent prints a letter's event to be mended.
func (p *process) printEvent(view *deadletter.View) error {
	if view.Omitted != "" {
		return fmt.Errorf("letter %s has no event: its value of %s bytes was left out, because "+
			"it was too large or damaged; its origin is %s",
			view.ID, shownText(view.Omitted), originOf(view))
	}
	if view.Record.Value == nil {
		return fmt.Errorf("letter %s has no event: its value is null; its origin is %s", view.ID,
			originOf(view))
	}
	line, form := view.Editable()
	if form == deadletter.Raw {
		line = bytes.TrimSpace([]byte(format.Plain(line)))
		if len(line) == 0 { // emit would find no line at all, and that nothing was wrong
			return fmt.Errorf("letter %s has no event: its value is empty; its origin is %s",
				view.ID, originOf(view))
		}
		p.log.Warn().Str("letter", view.ID.String()).
			Msg("the value is no JSON object; this is what is there, on one line")
	}
	if _, err := p.stdout.Write(append(line, '\n')); err != nil {
		return err
	}
	if form == deadletter.NoReadTime {
		return &rejectedError{fmt.Sprintf("letter %s does not say when the user read: put a "+
			"MsgReadTime (seconds since 1970) in place of \"unknown\", or emit refuses it",
			view.ID)}
	}
	return nil
}

// Bounds of what is shown of a letter; --json has all.
const (
	maxShownValue   = 4000 // bytes
	maxShownText    = 1000 // of anything else
	maxShownHeaders = 50
)

// printLetter writes a letter for people.
func printLetter(w io.Writer, v *deadletter.View, now time.Time) error {
	t := terminal.NewTable(w)
	state := v.State.String()
	if v.Resolution != nil {
		state = fmt.Sprintf("%s %s, by %s", state, format.Time(v.Resolution.Time), v.Resolution.ID)
	}
	t.Head("letter %s: %s", v.ID, state)
	text := explainKind(v.Class, v.Code)
	t.Line("  class", shownText(cmp.Or(v.Class, "?")))
	if v.Code != "" {
		t.Line("  code", shownText(v.Code))
	}
	for _, l := range []struct{ name, text string }{{"  meaning", text.meaning},
		{"  do", text.remedy}, {"  message", shownText(v.Message)}} {
		if l.text != "" {
			t.Line(l.name, l.text)
		}
	}
	t.Line("  failed",
		format.TimeAgo(v.FailedAt, now)+", after "+format.Count(v.Attempts, "counted attempt"))
	t.Line("  reader", account(v.Report))
	t.Line("  peer", account(v.Peer))
	if v.ReadTime != nil {
		t.Line("  read up to",
			fmt.Sprintf("%d (%s)", *v.ReadTime, format.Time(time.Unix(*v.ReadTime, 0))))
	}
	if v.EventTime != nil {
		t.Line("  event time", format.TimeAgo(*v.EventTime, now))
	} else {
		t.Line("  event time", "none that is valid")
	}
	t.Line("  origin", originOf(v))
	t.Line("  stands for", format.Count(v.Collapsed, "event"))
	t.Line("  replayed", format.Count(v.Replays, "time"))
	t.Line("  key", shownBytes(v.Record.Key, maxShownText))
	if v.Omitted != "" {
		t.Line("  value", fmt.Sprintf("left out: its %s bytes were too large or damaged, so it "+
			"can't be replayed", shownText(v.Omitted)))
	} else {
		t.Line("  value", shownBytes(v.Record.Value, maxShownValue))
	}
	headers := v.Record.ProducerHeaders()
	for _, h := range headers[:min(len(headers), maxShownHeaders)] {
		t.Line("  header",
			shownBytes([]byte(h.Key), maxShownText)+" = "+shownBytes(h.Value, maxShownText))
	}
	if more := len(headers) - maxShownHeaders; more > 0 {
		t.Line("  header", fmt.Sprintf("… and %d more, which --json shows", more))
	}
	if len(v.Others) > 0 {
		t.Head("")
		t.Head("%s with the same key", format.Count(len(v.Others)+v.More, "other letter"))
		if v.More > 0 {
			t.Head("  … %d older ones", v.More)
		}
	}
	for _, o := range v.Others {
		t.Line("  "+o.ID.String(), o.State.String(), shownText(o.Kind.Class),
			shownText(cmp.Or(o.Kind.Code, "-")), format.Time(o.FailedAt))
	}
	return t.End()
}

// shownText is shown for a text of a letter, which may be as long as a record.
func shownText(text string) string { return shownBytes([]byte(text), maxShownText) }

func account(name *string) string {
	if name == nil {
		return "can't be read"
	}
	return shownText(*name)
}

// originOf says where the record of a letter was read first.
func originOf(v *deadletter.View) string {
	n := func(n *int64) string {
		if n == nil {
			return "?"
		}
		return strconv.FormatInt(*n, 10)
	}
	return fmt.Sprintf("%s/%s at offset %s, by group %s, lane %s",
		shownText(cmp.Or(v.Origin.Topic, "?")), n(v.Origin.Partition), n(v.Origin.Offset),
		shownText(cmp.Or(v.Origin.Group, "?")), shownText(cmp.Or(v.Lane, "?")))
}
