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

// lsCommand counts dead letters, or lists them.
type lsCommand struct {
	filterFlags `embed:""`
	State       string `enum:"open,parked,replayed,discarded,all" default:"open" help:"Only this state: ${enum}."`
	JSON        bool   `name:"json" help:"Print each dead letter as one line of JSON, oldest first."`

	config.DeadLetterFlag `embed:"" group:"Topics and group:"`
	storeFlags            `embed:""`
}

func (*lsCommand) Help() string {
	return `It shows the number of dead letters of each class and code by state, and what to do
about them. It reads the topic to its present end, which takes about two seconds for 200,000 dead
letters.

    markread dead-letters ls --brokers kafka-1:9092
    markread dead-letters ls --brokers kafka-1:9092 --code 90048 --since 24h --json |
        jq -r .report | sort | uniq -c` + filterHelp + variablesHelp
}

func (c *lsCommand) run(ctx context.Context, p *process) error {
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
		return explainError(ctx, err)
	}
	d.warnUnread()
	states := c.states(c.State)
	if c.JSON {
		return d.finish(explainError(ctx,
			d.list(ctx, deadletter.Oldest(index.Find(states...), c.limit()))))
	}
	list := lsReport{topic: c.DeadLetterTopic, counts: index.Counts(), states: states,
		filtered: c.narrows(), unknown: index.Unknown()}
	if limit := c.limit(); limit > 0 {
		found := deadletter.Oldest(index.Find(states...), limit)
		list.counts, list.limited = index.CountsOf(found), true
	}
	return d.finish(list.print(p.stdout))
}

// list prints dead letters as lines of JSON.
func (d *deadLetters) list(ctx context.Context, found []deadletter.Entry) error {
	out := bufio.NewWriterSize(d.p.stdout, 64<<10)
	var line []byte
	err := d.List(ctx, found, func(l *deadletter.Letter) error {
		line = append(l.AppendJSON(line[:0], false), '\n')
		_, err := out.Write(line)
		return err
	})
	if err != nil {
		_ = out.Flush() // print what was read before the error
		return err
	}
	return out.Flush()
}

// lsReport is what ls prints.
type lsReport struct {
	topic    string
	counts   []deadletter.Count
	states   []deadletter.State // the selected states
	filtered bool
	limited  bool
	unknown  int64
}

// maxKindsInLs bounds the list: anyone who may write to the topic can create new kinds.
const maxKindsInLs = 50

func (r *lsReport) print(w io.Writer) error {
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
		which += ", filtered"
	}
	printStateCounts(t, which, total, r.unknown)
	if len(kinds) == 0 {
		if len(r.states) < len(deadletter.AllStates()) {
			t.Textf("none is %s; --state all shows the other states",
				strings.ReplaceAll(strings.Trim(fmt.Sprint(r.states), "[]"), " ", " or "))
		}
		return t.End()
	}
	slices.SortStableFunc(kinds, func(a, b deadletter.Count) int {
		na, _, _ := a.Of(r.states...)
		nb, _, _ := b.Of(r.states...)
		return cmp.Compare(nb, na)
	})
	t.Row("  CLASS", "CODE", "OPEN", "PARKED", "REPLAYED", "DISCARDED", "OLDEST", "NEWEST")
	for _, c := range terminal.First(t, kinds, maxKindsInLs, "  … and %d more kinds") {
		_, oldest, newest := c.Of(r.states...)
		n := groupstatus.CountsOf(c)
		t.Row("  "+display(cmp.Or(c.Class, "?")), display(cmp.Or(c.Code, "-")),
			format.Thousands(n.Open), format.Thousands(n.Parked), format.Thousands(n.Replayed),
			format.Thousands(n.Discarded), format.Time(oldest), format.Time(newest))
	}
	for _, c := range kinds[:min(len(kinds), maxKindsInLs)] {
		text := explainKind(c.Class, c.Code)
		if text.meaning == "" {
			continue
		}
		t.Textf("")
		t.Textf("%s: %s", display(strings.TrimSpace(c.Class+" "+c.Code)), text.meaning)
		t.Textf("  do: %s", text.remedy)
	}
	if slices.Contains(r.states, deadletter.Open) {
		t.Textf("")
		t.Textf("When the cause is fixed: markread dead-letters replay --dry-run, with the same " +
			"filters, shows what would be replayed")
	}
	return t.End()
}
