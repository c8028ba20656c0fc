package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/deadletter"
	"markread/worker/format"
	"markread/worker/groupstatus"
)

// lettersLsCommand counts letters, or lists them.
type lettersLsCommand struct {
	filterFlags           `embed:""`
	State                 string `enum:"open,parked,replayed,discarded,all" default:"open" help:"Only letters in this state: open, parked, replayed, discarded or all."`
	JSON                  bool   `name:"json" help:"Print each letter as one line of JSON, the oldest first."`
	config.DeadLetterFlag `embed:"" group:"Topics and group:"`
	storeFlags            `embed:""`
}

func (*lettersLsCommand) Help() string {
	return `How many letters there are of each class and code, in which state, and what to do
about them. The topic is read to its present end, which takes as long as it is large: about two
seconds for 200,000 letters.

    markread dead-letters ls --brokers kafka-1:9092
    markread dead-letters ls --brokers kafka-1:9092 --code 90048 --since 24h --json | jq -r .report | sort | uniq -c` + filterHelp + variablesHelp
}

func (c *lettersLsCommand) run(ctx context.Context, p *process) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	if err := cmp.Or(c.storeFlags.validate(p.env), c.DeadLetterFlag.Check()); err != nil {
		return err
	}
	d, err := c.open(ctx, p, c.DeadLetterTopic)
	if err != nil {
		return err
	}
	defer d.kafka.Close()
	index := deadletter.NewIndex(c.MaxReplays, filter)
	if err := d.Find(ctx, index); err != nil {
		return plainly(ctx, err)
	}
	d.warn()
	states := c.states(c.State)
	if c.JSON {
		return d.end(plainly(ctx, d.list(ctx, deadletter.Oldest(index.Find(states...), c.limit()))))
	}
	list := letterCounts{topic: c.DeadLetterTopic, counts: index.Counts(), states: states,
		filtered: c.narrows(), foreign: index.Unknown()}
	if limit := c.limit(); limit > 0 {
		found := deadletter.Oldest(index.Find(states...), limit)
		list.counts, list.limited = index.CountsOf(found), true
	}
	return d.end(list.print(p.stdout))
}

// list prints letters as lines of JSON.
func (d *deadLetters) list(ctx context.Context, found []deadletter.Entry) error {
	out := bufio.NewWriterSize(d.p.stdout, 64<<10)
	var line []byte
	err := d.List(ctx, found, func(l *deadletter.Letter) error {
		line = append(l.AppendJSON(line[:0], false), '\n')
		_, err := out.Write(line)
		return err
	})
	if err != nil {
		_ = out.Flush() // what was found is shown nevertheless
		return err
	}
	return out.Flush()
}

// letterCounts is what ls prints.
type letterCounts struct {
	topic    string
	counts   []deadletter.Count
	states   []deadletter.State // that were asked for
	filtered bool
	limited  bool
	foreign  int64
}

// maxListedKinds bounds the list: whoever may write to the topic may invent kinds.
const maxListedKinds = 50

func (r *letterCounts) print(w io.Writer) error {
	t := terminal.NewTable(w)
	var total groupstatus.StateCounts
	var kinds []deadletter.Count
	for _, c := range r.counts {
		total.Add(groupstatus.CountsOf(c))
		if n, _, _ := c.Of(r.states...); n > 0 {
			kinds = append(kinds, c)
		}
	}
	which := r.topic
	if r.limited {
		which += ", the oldest"
	} else if r.filtered {
		which += ", those that match"
	}
	lettersHead(t, which, total, r.foreign)
	if len(kinds) == 0 {
		if len(r.states) < len(deadletter.AllStates()) {
			t.Head("none is %s; --state all shows those in other states",
				strings.ReplaceAll(strings.Trim(fmt.Sprint(r.states), "[]"), " ", " or "))
		}
		return t.End()
	}
	slices.SortStableFunc(kinds, func(a, b deadletter.Count) int {
		na, _, _ := a.Of(r.states...)
		nb, _, _ := b.Of(r.states...)
		return cmp.Compare(nb, na)
	})
	t.Line("  CLASS", "CODE", "OPEN", "PARKED", "REPLAYED", "DISCARDED", "OLDEST", "NEWEST")
	for _, c := range terminal.First(t, kinds, maxListedKinds, "  … and %d more kinds") {
		_, oldest, newest := c.Of(r.states...)
		n := groupstatus.CountsOf(c)
		t.Line("  "+shown(cmp.Or(c.Class, "?")), shown(cmp.Or(c.Code, "-")),
			format.Thousands(n.Open), format.Thousands(n.Parked), format.Thousands(n.Replayed),
			format.Thousands(n.Discarded), format.Time(oldest), format.Time(newest))
	}
	for _, c := range kinds[:min(len(kinds), maxListedKinds)] {
		text := explainKind(c.Class, c.Code)
		if text.meaning == "" {
			continue
		}
		t.Head("")
		t.Head("%s: %s", shown(strings.TrimSpace(c.Class+" "+c.Code)), text.meaning)
		t.Head("  do: %s", text.remedy)
	}
	if slices.Contains(r.states, deadletter.Open) {
		t.Head("")
		t.Head("When the cause is mended: markread dead-letters replay --dry-run, with the same " +
			"filters, says what would be replayed")
	}
	return t.End()
}
