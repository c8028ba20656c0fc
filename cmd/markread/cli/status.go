package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/cheggaaa/pb/v3/termutil"
	"github.com/rs/zerolog"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/worker/console"
	"markread/worker/format"
	"markread/worker/groupstatus"
)

// statusCommand shows the status of a whole group, from Kafka.
type statusCommand struct {
	AdminURL *string        `name:"admin-url" placeholder:"URL" help:"status_admin_url_help"`
	JSON     bool           `name:"json" help:"Print one JSON document."`
	Watch    *watchInterval `name:"watch" placeholder:"2s" help:"status_watch_help"`

	config.KafkaFlags  `embed:"" group:"Kafka:"`
	config.GroupFlags  `embed:"" group:"Topics and group:"`
	config.ReplaysFlag `embed:"" group:"Worker:"`
	Log                config.LogFlags `embed:"" group:"Log:"`
}

func (*statusCommand) Help() string {
	return `It shows the members with their partitions and their share of the rate, the lag,
unreadable partitions, and open dead letters by class and code. All of it is read from Kafka, so it
also works when no worker responds. It reads the dead-letter topic to its end; the larger the topic,
the longer that takes. If something can't be read, it is one line on standard error, the rest is
shown, and the exit status is 1.

    markread status --brokers kafka-1:9092
    markread status --brokers kafka-1:9092 --admin-url http://127.0.0.1:8780
    markread status --brokers kafka-1:9092 --json | jq .lag.lag

The JSON document has "group", "lag", "letters", "worker" (null without --admin-url) and "errors";
what is not known is null. deploy/OPERATIONS.md documents its names.

With --watch it shows the same again and again, until Ctrl-C, and what changed since the last
refresh: events a second into each topic (IN/S) and finished (DONE/S), the change of the lag
(TREND), new dead letters and, with --admin-url, calls a second and the worker's time to drain. A
group commits once a second, so DONE/S is uneven at short intervals. Errors are part of the table,
and the next refresh tries again; the exit status is that of the last refresh. Into a pipe or a file
it writes one table after the other. On a terminal no log lines are shown; 2>FILE keeps them.

    markread status --brokers kafka-1:9092 --watch 2s` + adminHelp + variablesHelp
}

// watchInterval is the value of --watch.
type watchInterval time.Duration

// Decode parses the value. Without one, the error says what to write.
func (i *watchInterval) Decode(ctx *kong.DecodeContext) error {
	token, err := ctx.Scan.PopValue("interval")
	if err != nil {
		return errors.New("needs an interval such as 2s")
	}
	d, err := config.ParseDuration(token.String())
	if *i = watchInterval(d); err == nil && d < time.Second {
		err = errors.New("must be at least 1s")
	}
	return err
}

func (c *statusCommand) validate(env config.Environment) error {
	if c.Watch != nil && c.JSON {
		return config.Usagef("--watch shows tables, not --json: repeat `status --json` instead")
	}
	return cmp.Or(c.KafkaFlags.Check(env), c.GroupFlags.Check(), c.ReplaysFlag.Check())
}

func (c *statusCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	var worker *console.Client
	if c.AdminURL != nil {
		var err error
		if worker, err = (&adminURLFlag{c.AdminURL}).client(p.env); err != nil {
			return err
		}
	}
	p.begin(c.Log)
	log := p.log
	if c.Watch != nil && terminal.Is(p.stdout) && terminal.Is(p.stderr) {
		log = zerolog.Nop() // lines would move the table
	}
	kafka, err := c.KafkaFlags.Open(p.env, log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	collector := groupstatus.NewCollector(groupstatus.Options{Kafka: kafka,
		Worker: worker, Group: c.Group, Topics: c.Topics(), MaxReplays: c.MaxReplays,
		Reading: terminal.NewProgress(p.stderr, "reading the dead letters").Reading})
	if c.Watch != nil {
		var screen *terminal.Screen
		if terminal.Is(p.stdout) {
			screen = terminal.NewScreen(p.stdout, termutil.TerminalSize)
		}
		return watchStatus(ctx, p.stdout, screen, time.Duration(*c.Watch), collector.Report)
	}
	report := collector.Report(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if c.JSON {
		err = printDocument(p.stdout, report)
	} else {
		err = printStatus(p.stdout, report, nil)
	}
	return cmp.Or(err, errorsOf(report))
}

// errorsOf returns the errors of a report, in one line.
func errorsOf(r *groupstatus.Report) error {
	if len(r.Errors) == 0 {
		return nil
	}
	return errors.New(strings.Join(r.Errors, "; "))
}

// watchStatus shows a report at once and then at each interval until ctx ends: on the screen in
// place of the previous one or, if screen is nil, after it on stdout. The interval is from start to
// start; a report that takes longer delays the next one. Like status itself, watchStatus returns
// the errors of the last complete report.
func watchStatus(ctx context.Context, stdout io.Writer, screen *terminal.Screen,
	every time.Duration, collect func(context.Context) *groupstatus.Report) error {
	between := "\n"
	show := func(text string) error { _, err := io.WriteString(stdout, text); return err }
	var last *groupstatus.Report
	shown := changes{every: every}
	if screen != nil {
		defer screen.End()
		between, show, shown.width = "", screen.Draw, screen.Width
		// The first refresh takes seconds if no broker responds.
		if err := show(shown.head(time.Now()) + ": reading …"); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		begin, due := time.Now(), time.After(every)
		report := collect(ctx)
		if ctx.Err() != nil { // it is a part of a report
			break
		}
		shown.add(last, report, time.Since(begin))
		var text strings.Builder
		if last != nil {
			text.WriteString(between)
		}
		if err := printStatus(&text, report, &shown); err != nil {
			return err
		}
		if err := show(text.String()); err != nil {
			return err
		}
		last = report
		select {
		case <-due:
		case <-ctx.Done():
		}
	}
	if last == nil {
		return errors.New("interrupted")
	}
	return errorsOf(last)
}

// changes is what a watch shows in addition to a report.
type changes struct {
	groupstatus.Rates               // since the previous report
	every, took       time.Duration // the interval, and the time that this report took
	// writtenSince is the number of dead letters since first, the first report that counts them;
	// nil: not known.
	writtenSince *int64
	first        *groupstatus.Report
	width        func() int // of the window; nil: there is none
}

// add makes c the changes from the report last, which may be nil, to this one.
func (c *changes) add(last, report *groupstatus.Report, took time.Duration) {
	c.Rates, c.took = groupstatus.RatesOf(last, report), took
	c.writtenSince = groupstatus.RatesOf(c.first, report).Written
	if c.writtenSince == nil && report.Letters != nil && report.Letters.Reading > 0 {
		c.first = report // or its counts begin again: the topic was recreated
	}
}

// maxShownErrors bounds the errors at the top of the table.
const maxShownErrors = 5

// slowRefresh is the time from which the time that a refresh took is shown.
const slowRefresh = time.Second

// head returns the beginning of a table that is from this time.
func (c *changes) head(at time.Time) string {
	return fmt.Sprintf("%s, every %s", format.Time(at), format.Age(c.every))
}

// printHead prints the first lines of a table: when it is from, and what could not be read.
func (c *changes) printHead(t *terminal.Table, r *groupstatus.Report) {
	text := c.head(r.At)
	if c.took >= slowRefresh {
		text += ", this refresh took " + format.Age(c.took)
	}
	t.Textf("%s", text)
	for _, e := range terminal.First(t, r.Errors, maxShownErrors, "  … and %d more errors") {
		t.Textf("  ! %s", e)
	}
	t.Textf("")
}

// withRates inserts a watch's cells before the last one, which may be long.
func (c *changes) withRates(row []string, rates ...string) []string {
	if c == nil {
		return row
	}
	return slices.Insert(row, len(row)-1, rates...)
}

// topicRates returns a topic's cells IN/S, DONE/S and TREND.
func (c *changes) topicRates(topic string) []string {
	if c == nil {
		return nil
	}
	r := c.Topics[topic]
	trend, text := r.Trend(), "-"
	switch {
	case trend == nil:
	case math.Abs(*trend) < steadyTrend:
		text = "steady"
	case *trend > 0:
		text = "+" + perSecond(trend) + "/s"
	default:
		text = perSecond(trend) + "/s"
	}
	return []string{perSecond(r.In), perSecond(r.Done), text}
}

// steadyTrend is the trend, in events a second, below which a lag neither grows nor falls.
const steadyTrend = 0.5

// perSecond formats a number a second; "-" for nil.
func perSecond(n *float64) string {
	switch {
	case n == nil:
		return "-"
	case math.Abs(*n) < 9.95 && *n != math.Trunc(*n):
		return strconv.FormatFloat(*n, 'f', 1, 64)
	}
	return format.Thousands(int64(math.Round(*n)))
}

// drain returns how long the worker needs, at its present calls a second, for what is in its memory
// if no new events arrive. Like the worker's page it counts one call for each conversation.
func (c *changes) drain(r *groupstatus.Worker) string {
	waiting := r.Lanes.Live.Conversations + r.Lanes.Backfill.Conversations
	switch {
	case r.Member == nil:
		return "unknown: outside a generation the worker does not see the events in Kafka"
	case waiting == 0 && len(r.Unreadable) > 0:
		return "unknown: the unreadable events are in Kafka"
	case waiting == 0:
		return "no events wait"
	case len(r.Held) > 0: // perhaps only one lane is
		return "unknown during a hold"
	case c.Calls == nil:
		return "-"
	case *c.Calls < 0.05: // shown as 0.0
		return "unknown: no calls now"
	}
	text := "about " + format.Age(time.Duration(float64(waiting) / *c.Calls * float64(time.Second)))
	if len(r.Unreadable) > 0 {
		text += ", without the unreadable partitions"
	}
	return text
}

// written returns the numbers of new dead letters.
func (c *changes) written() string {
	if c.writtenSince == nil {
		return "-"
	}
	last := "-"
	if c.Written != nil {
		last = format.Thousands(*c.Written)
	}
	return fmt.Sprintf("%s since the last refresh, %s since %s", last,
		format.Thousands(*c.writtenSince), format.Time(c.first.At))
}
