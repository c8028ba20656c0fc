package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"

	"markread/cmd/markread/cli/terminal"
	"markread/consumer/admin"
	"markread/consumer/backfill"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/format"
	"markread/worker/preflight"
)

// logProgress is how often a run says how far it is where there is no terminal.
const logProgress = 5 * time.Second

// backfillView shows how far a run is, and reckons when the worker will have applied it.
type backfillView struct {
	job          *backfillJob
	rate         int
	group, topic string
	client       *kafkaclient.Client // nil: a dry run
	began        time.Time

	waiting int64         // events in the topic, at the last look; -1: not known
	failed  error         // why not
	keeps   time.Duration // the topic's retention; 0: for ever, or not known

	// when everything was read; zero: not yet. From here on: of the goroutine that shows
	ending   time.Time
	endingAt int64 // records that were published then
	lately   []rowsAt
}

// lookAtTopic finds out how long the topic keeps records. It fails if this user may not write to
// it: better now than when the files are read.
func (v *backfillView) lookAtTopic(ctx context.Context) error {
	topics, err := admin.DescribeTopics(ctx, v.client, event.Topics{Backfill: v.topic}, false)
	if err != nil || len(topics) != 1 || topics[0].Err != nil {
		return nil // then publishing will say what is wrong
	}
	if may := topics[0].May; may.Known() && !may.Has(kafkaclient.MayWrite) {
		return fmt.Errorf("this user may not write to topic %q (--backfill-topic): it needs the "+
			"permission Write of the topic", v.topic)
	}
	v.keeps, _ = preflight.Retention(topics[0])
	return nil
}

// warn says so if the topic may lose records before they are applied.
func (v *backfillView) warn(p *process) {
	left := v.untilApplied()
	// Calls take their time, and there are others, so it takes longer than reckoned.
	if v.keeps > 0 && left+left/4 > v.keeps {
		p.log.Warn().Str("topic", v.topic).Str("keeps", format.Age(v.keeps)).
			Str("applied_after", format.Age(left)).
			Msg("the topic may delete records before all are applied: raise its retention.ms now " +
				"(kafka-configs.sh), and lower it again when all are")
	}
}

// untilApplied is how long it takes to apply what waits; 0: not known.
func (v *backfillView) untilApplied() time.Duration {
	if v.waiting < 0 {
		return 0
	}
	return v.callsTake(v.waiting)
}

// callsTake is how long so many calls take; 0: not known.
func (v *backfillView) callsTake(n int64) time.Duration {
	if v.rate == 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(v.rate)
}

// look finds out how many events wait in the topic.
func (v *backfillView) look(ctx context.Context) {
	v.waiting, v.failed = -1, nil
	lags, err := admin.Lag(ctx, v.client, v.group, v.topic)
	sum := int64(0)
	for _, l := range lags {
		if sum += l.Lag - l.Finished; l.Err != nil && err == nil {
			err = fmt.Errorf("partition %d: %w", l.Partition, l.Err)
		}
	}
	if v.failed = err; err == nil {
		v.waiting = sum
	}
}

// show shows the progress until stop is called: a bar on a terminal, else lines in the log.
func (v *backfillView) show(ctx context.Context, p *process) (stop func()) {
	if v.client != nil && v.failed != nil && ctx.Err() == nil {
		p.log.Warn().Err(v.failed).Str("group", v.group).
			Msg("how many events wait is not known, so neither is when all will be applied " +
				"(--group)")
	}
	every, show, last := logProgress, func() { v.log(p) }, func() {}
	if terminal.Is(p.stderr) { // a bar of what is read, then of what is published
		out := terminal.Screen(p.stderr)
		bar := newBackfillBar(out)
		every = time.Second / 5
		show = func() { setBackfillBar(bar, v.sample()); bar.Write() }
		last = func() { bar.Finish().Write(); fmt.Fprint(out, terminal.Wipe) }
	}
	end := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() {
		defer last()
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				show()
			}
		}
	})
	return func() { close(end); shown.Wait() }
}

func newBackfillBar(out io.Writer) *pb.ProgressBar {
	bar := pb.New64(1).SetWriter(out).
		SetTemplateString(`{{string . "what"}} {{bar . "[" "=" ">" " " "]"}} {{percent .}} ` +
			`{{string . "counts"}}`)
	return bar.Set(pb.CleanOnFinish, true).Set(pb.Static, true).Start()
}

// setBackfillBar shows a sample, of which only the first parts find room on a narrow terminal: the
// bar itself should have some, too.
func setBackfillBar(bar *pb.ProgressBar, s sample) {
	const other = 10 + 1 + 12 + 1 + 7 + 1 // what, bar and percent
	bar.SetTotal(s.whole).SetCurrent(s.part)
	bar.Set("what", s.what).Set("counts", s.text(bar.Width()-other))
}

// sample is how far a run is at one rowsAt.
type sample struct {
	what        string
	part, whole int64 // whole is 0 if not known
	rows        int64
	rejected    int64
	untimed     int64
	records     int64
	published   int64
	each        float64 // rows a second, lately; 0: none is read any more
	left        time.Duration
	applied     time.Duration // 0: not known
}

func (v *backfillView) sample() sample {
	p := v.job.Progress
	elapsed := time.Since(v.began)
	s := sample{what: "reading", part: p.Read.Load(), whole: p.Size.Load(), rows: p.Rows.Load(),
		rejected: p.Rejected.Load(), untimed: p.Untimed.Load(), records: p.Records.Load(),
		published: p.Published.Load()}
	since, done := elapsed, s.part // the time left is reckoned from these
	if p.Draining.Load() {
		if v.ending.IsZero() {
			v.ending, v.endingAt = time.Now(), s.published
		}
		s.what, s.part, s.whole = "publishing", s.published, s.records
		since, done = time.Since(v.ending), s.published-v.endingAt
	} else {
		s.each = v.speed(s.rows)
	}
	if done > 0 && s.whole > s.part {
		s.left = time.Duration(float64(since) * float64(s.whole-s.part) / float64(done))
	}
	if v.waiting >= 0 {
		s.applied = v.callsTake(v.waiting + s.records)
	}
	return s
}

// speedOver is over how many samples the speed is taken: two seconds on a terminal.
const speedOver = 10

// speed is how many rows a second were read lately.
func (v *backfillView) speed(rows int64) float64 {
	if len(v.lately) == 0 {
		v.lately = append(v.lately, rowsAt{v.began, v.job.State.At.Rows})
	}
	now := rowsAt{time.Now(), rows}
	if v.lately = append(v.lately, now); len(v.lately) > speedOver {
		v.lately = v.lately[1:]
	}
	first := v.lately[0]
	return float64(rows-first.rows) / max(0.001, now.at.Sub(first.at).Seconds())
}

// rowsAt is how many rows were read when.
type rowsAt struct {
	at   time.Time
	rows int64
}

// text writes out what finds room in so many letters, the most important first.
func (s sample) text(room int) string {
	var parts []string
	if s.left > 0 {
		parts = append(parts, format.Age(s.left)+" left")
	}
	if s.applied > 0 {
		parts = append(parts, "applied in "+format.Age(s.applied))
	}
	parts = append(parts, format.Thousands(s.rows)+" rows",
		format.Thousands(s.rejected)+" rejected")
	if s.each > 0 {
		parts = append(parts, format.Thousands(int64(s.each))+" rows/s")
	}
	parts = append(parts, format.Thousands(s.records)+" conversations")
	text := parts[0]
	for _, part := range parts[1:] {
		if len(text)+len(", ")+len(part) > room {
			break
		}
		text += ", " + part
	}
	return text
}

// log writes a line for people and programs.
func (v *backfillView) log(p *process) {
	s := v.sample()
	line := p.log.Info().Int64("rows", s.rows).Int64("rejected", s.rejected).
		Int64("conversations", s.records).Int64("published", s.published).
		Int64("rows_per_second", int64(s.each))
	if s.untimed > 0 {
		line.Int64("without_read_time", s.untimed)
	}
	if s.whole > 0 {
		line.Int64("percent", 100*s.part/s.whole)
	}
	if s.left > 0 {
		line.Str("left", format.Age(s.left))
	}
	if s.applied > 0 {
		line.Str("applied_after", format.Age(s.applied))
	}
	line.Msg(s.what)
}

// summary is the last line.
func (v *backfillView) summary(ctx context.Context, done backfill.Summary) string {
	text := v.outcome(ctx, done)
	if times := done.Times.String(); times != "" {
		text += "; " + times
	}
	if done.Untimed > 0 {
		have := " have"
		if done.Untimed == 1 {
			have = " has"
		}
		text += "; " + format.CountOf(done.Untimed, "row") + have +
			" no MsgReadTime: marked as read up to " + v.job.State.ReadUpTo()
	}
	return text
}

func (v *backfillView) outcome(ctx context.Context, done backfill.Summary) string {
	took := time.Since(v.began)
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s rejected", format.CountOf(done.Rows, "row"),
		format.Thousands(done.Rejected))
	if at := v.job.State.At.Rows; at > 0 {
		fmt.Fprintf(&b, " (the first %s by the interrupted run)", format.Thousands(at))
	}
	atMost := ""
	if done.Overflowed {
		atMost = "at most "
	}
	fmt.Fprintf(&b, ", %s%s", atMost, format.CountOf(done.Records, "conversation"))
	if v.client == nil {
		fmt.Fprintf(&b, ", in %s; nothing published (--dry-run)", format.Age(took))
		if v.rate > 0 {
			fmt.Fprintf(&b, "; %s of calls at %d a second", format.Age(v.callsTake(done.Records)),
				v.rate)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "; published %s to %s in %s", format.CountOf(done.Records, "record"), v.topic,
		format.Age(took))
	if v.rate > 0 {
		v.look(context.WithoutCancel(ctx))
	}
	if v.waiting >= 0 && v.rate > 0 {
		left := v.untilApplied()
		fmt.Fprintf(&b, "; all applied in about %s, at %s, if the group has %s to itself: %s "+
			"waiting", format.Age(left), time.Now().Add(left).UTC().Format("2006-01-02 15:04 MST"),
			format.Rate(v.rate), format.CountOf(v.waiting, "event"))
	}
	return b.String()
}
