package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
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

// progressLogInterval is how often a run logs its progress if there is no terminal.
const progressLogInterval = 5 * time.Second

// backfillView shows a run's progress, and estimates when the workers will have applied its events.
type backfillView struct {
	job          *backfillJob
	rate         int
	group, topic string
	client       *kafkaclient.Client // nil: a dry run
	began        time.Time

	waiting    int64         // events in the topic, when last counted; -1: not known
	waitingErr error         // why it is not known
	retention  time.Duration // the topic's; 0: unlimited, or not known

	// The rest is used only by the goroutine that shows the progress.
	publishingSince time.Time // when everything was read; zero: not yet
	publishedBefore int64     // records that were published by then
	recent          []rowsAt
}

// checkWritable reads the topic's retention and the user's permissions. It returns an error if the
// user may not write to the topic: better now than after the files are read.
func (v *backfillView) checkWritable(ctx context.Context) error {
	topics, err := admin.DescribeTopics(ctx, v.client, event.Topics{Backfill: v.topic}, false)
	if err != nil || len(topics) != 1 || topics[0].Err != nil {
		return nil // publishing will return the error
	}
	if may := topics[0].May; may.Known() && !may.Has(kafkaclient.MayWrite) {
		return fmt.Errorf("this user may not write to topic %q (--backfill-topic): it needs the "+
			"permission Write on the topic", v.topic)
	}
	v.retention, _ = preflight.Retention(topics[0])
	return nil
}

// warn logs a warning if the topic may delete records before they are applied.
func (v *backfillView) warn(p *process) {
	left := v.untilApplied()
	// A quarter more: calls take time, and other events are called too.
	if v.retention > 0 && left+left/4 > v.retention {
		p.log.Warn().Str("topic", v.topic).Str("keeps", format.Age(v.retention)).
			Str("applied_after", format.Age(left)).
			Str("do", "raise its retention.ms now (kafka-configs.sh), and lower it again when all "+
				"are applied").
			Msg("the topic may delete records before all are applied")
	}
}

// untilApplied returns how long it takes to apply the waiting events; 0 if that is not known.
func (v *backfillView) untilApplied() time.Duration {
	if v.waiting < 0 {
		return 0
	}
	return v.timeForCalls(v.waiting)
}

// timeForCalls returns how long n calls take at the configured rate; 0 without a rate.
func (v *backfillView) timeForCalls(n int64) time.Duration {
	if v.rate == 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(v.rate)
}

// countWaiting counts the events that wait in the topic: the group's lag.
func (v *backfillView) countWaiting(ctx context.Context) {
	v.waiting, v.waitingErr = -1, nil
	lags, err := admin.Lag(ctx, v.client, v.group, v.topic)
	sum := int64(0)
	for _, l := range lags {
		if sum += l.Lag - l.Finished; l.Err != nil && err == nil {
			err = fmt.Errorf("partition %d: %w", l.Partition, l.Err)
		}
	}
	if v.waitingErr = err; err == nil {
		v.waiting = sum
	}
}

// show shows the progress until stop is called: a bar on a terminal, log lines elsewhere.
func (v *backfillView) show(ctx context.Context, p *process) (stop func()) {
	if v.client != nil && v.waitingErr != nil && ctx.Err() == nil {
		p.log.Warn().Err(v.waitingErr).Str("group", v.group).
			Msg("the number of waiting events is not known, so the time until all are applied " +
				"is not, either (--group)")
	}
	every, show, last := progressLogInterval, func() { v.log(p) }, func() {}
	if terminal.Is(p.stderr) { // a bar for reading, then for publishing
		out := terminal.Unfiltered(p.stderr)
		bar := newBackfillBar(out)
		every = time.Second / 5
		show = func() { setBackfillBar(bar, v.sample()); bar.Write() }
		last = func() { bar.Finish().Write(); fmt.Fprint(out, terminal.ClearLine) }
	}
	return terminal.Every(every, show, last)
}

func newBackfillBar(out io.Writer) *pb.ProgressBar {
	bar := pb.New64(1).SetWriter(out).
		SetTemplateString(`{{string . "what"}} {{bar . "[" "=" ">" " " "]"}} {{percent .}} ` +
			`{{string . "counts"}}`)
	return bar.Set(pb.CleanOnFinish, true).Set(pb.Static, true).Start()
}

// setBackfillBar shows a sample. On a narrow terminal only the first counts fit, so that the bar
// itself gets its space.
func setBackfillBar(bar *pb.ProgressBar, s progressSample) {
	const other = 10 + 1 + 12 + 1 + 7 + 1 // what, bar and percent
	bar.SetTotal(s.total).SetCurrent(s.current)
	bar.Set("what", s.what).Set("counts", s.text(bar.Width()-other))
}

// progressSample is a run's progress at one moment.
type progressSample struct {
	what           string
	current, total int64 // bytes or records; total is 0 if not known
	rows           int64
	rejected       int64
	untimed        int64
	records        int64
	published      int64
	rowsPerSecond  float64       // over the last samples; 0: no rows are read any more
	remaining      time.Duration // 0: not known
	untilApplied   time.Duration // 0: not known
}

func (v *backfillView) sample() progressSample {
	p := v.job.Progress
	elapsed := time.Since(v.began)
	s := progressSample{what: "reading", current: p.Read.Load(), total: p.Size.Load(),
		rows: p.Rows.Load(), rejected: p.Rejected.Load(), untimed: p.Untimed.Load(),
		records: p.Records.Load(), published: p.Published.Load()}
	since, done := elapsed, s.current // for an estimate of the remaining time
	if p.Draining.Load() {
		if v.publishingSince.IsZero() {
			v.publishingSince, v.publishedBefore = time.Now(), s.published
		}
		s.what, s.current, s.total = "publishing", s.published, s.records
		since, done = time.Since(v.publishingSince), s.published-v.publishedBefore
	} else {
		s.rowsPerSecond = v.speed(s.rows)
	}
	if done > 0 && s.total > s.current {
		s.remaining = time.Duration(float64(since) * float64(s.total-s.current) / float64(done))
	}
	if v.waiting >= 0 {
		s.untilApplied = v.timeForCalls(v.waiting + s.records)
	}
	return s
}

// speedSamples is the number of samples for the speed: two seconds on a terminal.
const speedSamples = 10

// speed returns the rows a second of the last samples.
func (v *backfillView) speed(rows int64) float64 {
	if len(v.recent) == 0 {
		v.recent = append(v.recent, rowsAt{v.began, v.job.State.At.Rows})
	}
	now := rowsAt{time.Now(), rows}
	if v.recent = append(v.recent, now); len(v.recent) > speedSamples {
		v.recent = v.recent[1:]
	}
	first := v.recent[0]
	return float64(rows-first.rows) / max(0.001, now.at.Sub(first.at).Seconds())
}

// rowsAt is the number of rows that were read by a certain time.
type rowsAt struct {
	at   time.Time
	rows int64
}

// text returns the counts that fit into width characters, the most important first.
func (s progressSample) text(width int) string {
	var parts []string
	if s.remaining > 0 {
		parts = append(parts, format.Age(s.remaining)+" left")
	}
	if s.untilApplied > 0 {
		parts = append(parts, "applied in "+format.Age(s.untilApplied))
	}
	parts = append(parts, format.Thousands(s.rows)+" rows",
		format.Thousands(s.rejected)+" rejected")
	if s.rowsPerSecond > 0 {
		parts = append(parts, format.Thousands(int64(s.rowsPerSecond))+" rows/s")
	}
	parts = append(parts, format.Thousands(s.records)+" conversations")
	text := parts[0]
	for _, part := range parts[1:] {
		if len(text)+len(", ")+len(part) > width {
			break
		}
		text += ", " + part
	}
	return text
}

// log logs a sample.
func (v *backfillView) log(p *process) {
	s := v.sample()
	line := p.log.Info().Int64("rows", s.rows).Int64("rejected", s.rejected).
		Int64("conversations", s.records).Int64("published", s.published).
		Int64("rows_per_second", int64(s.rowsPerSecond))
	if s.untimed > 0 {
		line.Int64("without_read_time", s.untimed)
	}
	if s.total > 0 {
		line.Int64("percent", 100*s.current/s.total)
	}
	if s.remaining > 0 {
		line.Str("left", format.Age(s.remaining))
	}
	if s.untilApplied > 0 {
		line.Str("applied_after", format.Age(s.untilApplied))
	}
	line.Msg(s.what)
}

// summary returns the command's last line.
func (v *backfillView) summary(ctx context.Context, done backfill.Summary) string {
	text := v.result(ctx, done)
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

func (v *backfillView) result(ctx context.Context, done backfill.Summary) string {
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
			fmt.Fprintf(&b, "; %s of calls at %d a second",
				format.Age(v.timeForCalls(done.Records)), v.rate)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "; published %s to %s in %s", format.CountOf(done.Records, "record"), v.topic,
		format.Age(took))
	if v.rate > 0 {
		v.countWaiting(context.WithoutCancel(ctx))
	}
	if v.waiting >= 0 && v.rate > 0 {
		left := v.untilApplied()
		fmt.Fprintf(&b, "; all applied in about %s, at %s, if the group has %s to itself: %s "+
			"waiting", format.Age(left), time.Now().Add(left).UTC().Format("2006-01-02 15:04 MST"),
			format.Rate(v.rate), format.CountOf(v.waiting, "event"))
	}
	return b.String()
}
