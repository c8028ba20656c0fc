package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/admin"
	"markread/consumer/backfill"
	"markread/consumer/event"
	"markread/worker/format"
)

// backfillCommand publishes files of read states.
type backfillCommand struct {
	Files    []string `arg:"" optional:"" name:"file" help:"backfill_file_help"`
	Rejects  *string  `placeholder:"FILE" help:"rejects_help"`
	ReadTime *string  `placeholder:"T|now" help:"backfill_read_time_help"`
	DryRun   dryRun   `help:"Read, check and count only: publish nothing, keep no state, need no brokers."`
	Resume   bool     `help:"Continue an interrupted run over the same files."`

	Kafka               config.KafkaFlags `embed:"" group:"Kafka:"`
	config.BackfillFlag `embed:"" group:"Topics and group:"`
	config.GroupFlag    `embed:"" group:"Topics and group:"`
	config.RateFlag     `embed:"" group:"Worker:"`
	Log                 config.LogFlags `embed:"" group:"Log:"`
}

// dryRun is a flag that makes --brokers optional.
type dryRun bool

// BeforeApply is a hook of kong's. Kong calls it if the flag is on the command line.
func (dryRun) BeforeApply(parsed *kong.Context) error {
	for _, f := range parsed.Flags() {
		if f.Name == "brokers" {
			f.Required = false
		}
	}
	return nil
}

func (*backfillCommand) Help() string {
	return `A table's header has the names Report_Account, Peer_Account and MsgReadTime (seconds
since 1970), in any order; other columns are ignored. Rows without a time need --read-time. Rows of
one conversation become one record, with the largest time. Rows that are not valid events are
counted, and the exit status is 3.

    markread backfill --brokers localhost:9092 --dry-run states.csv.gz
    markread backfill --brokers localhost:9092 --rejects rejects.ndjson states.csv.gz
    markread backfill --brokers localhost:9092 --rejects rejects.ndjson --resume states.csv.gz
    gpg -d states.csv.gpg | markread backfill --brokers localhost:9092 -

Its progress is kept beside the first file, in FILE.markread-resume, until all is published.` +
		variablesHelp
}

// backfillMemory is the run's soft memory limit. A full window takes 222 MiB, of which the garbage
// collector has to scan hardly anything.
const backfillMemory = 264 << 20

func (c *backfillCommand) validate(env config.Environment) error {
	switch {
	case len(c.Files) == 0:
		return config.Usagef("no FILE given: name files of CSV or JSON lines, or - for standard " +
			"input")
	case bool(c.DryRun) && c.Resume:
		return config.Usagef("--dry-run and --resume exclude each other")
	case c.BackfillTopic == "":
		return config.Usagef("--backfill-topic must not be empty: the rows are published there")
	case c.BackfillTopic == app.DevTopics.Live, c.BackfillTopic == app.DevTopics.DeadLetter:
		return config.Usagef("--backfill-topic %s: this topic is for live events or dead letters; "+
			"name the --backfill-topic of the workers", c.BackfillTopic)
	case c.Rejects != nil && *c.Rejects == "":
		return config.Usagef("--rejects must not be empty")
	case c.Rejects != nil && *c.Rejects == "-":
		return config.Usagef("--rejects -: rejects are written to a file: name one (/dev/stderr " +
			"shows them)")
	}
	if _, err := c.defaultReadTime(time.Now()); err != nil {
		return err
	}
	err := cmp.Or(c.BackfillFlag.Check(), c.GroupFlag.Check(), c.RateFlag.Check())
	if err == nil && !bool(c.DryRun) {
		err = c.Kafka.Check(env)
	}
	return err
}

// defaultReadTime returns the read time, in seconds since 1970, of rows without one, for a run that
// began at the given time; 0 without --read-time.
func (c *backfillCommand) defaultReadTime(began time.Time) (int64, error) {
	switch {
	case c.ReadTime == nil:
		return 0, nil
	case *c.ReadTime == "now":
		return began.Unix(), nil
	}
	t, err := checkReadFlags("reader", "peer", c.ReadTime)
	return value(t), err
}

func (c *backfillCommand) run(ctx context.Context, p *process) error {
	began := time.Now()
	if err := c.validate(p.env); err != nil {
		return err
	}
	job, err := c.prepare(ctx, p, began)
	if err != nil {
		return err
	}
	defer job.release()
	p.begin(c.Log)
	job.Log = p.log
	if job.previousBrokers != nil {
		p.log.Warn().Strs("before", job.previousBrokers).
			Msg("the interrupted run had other --brokers: its records must be in this cluster, too")
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(min(backfillMemory, debug.SetMemoryLimit(-1))))

	view := &backfillView{job: job, rate: c.Rate, group: c.Group, topic: c.BackfillTopic,
		began: began}
	if !c.DryRun {
		if view.client, err = c.Kafka.Open(p.env, p.log); err != nil {
			return err
		}
		defer view.client.Close()
		if err := c.prepareTopic(ctx, job, view); err != nil {
			return err
		}
		job.To = view.client.Publisher(c.BackfillTopic)
	}
	if terminal.Is(p.stdin) && slices.Contains(c.Files, backfill.Stdin) {
		p.log.Info().Msg("reading rows from the terminal; Ctrl-D ends")
	}
	stop := view.show(ctx, p)
	done, err := backfill.Run(ctx, job.Options)
	stop()
	if err != nil {
		return job.explainFailure(done, err)
	}
	if _, err := fmt.Fprintln(p.stdout, view.summary(ctx, done)); err != nil {
		return err
	}
	view.warn(p)
	if done.Rejected > 0 {
		return &rejectedError{"rejected " + format.CountOf(done.Rejected,
			"row") + job.rejectsHint()}
	}
	return nil
}

// prepareTopic checks, before anything is read, that a broker responds and that the topic exists.
// If that fails, it leaves no state behind.
func (c *backfillCommand) prepareTopic(ctx context.Context, job *backfillJob,
	view *backfillView) (err error) {
	if err := job.Begin(); err != nil {
		return err
	}
	defer func() {
		if err != nil && !c.Resume {
			err = errors.Join(err, job.StateFile.Remove())
		}
	}()
	if err := view.client.Ping(ctx); err != nil {
		return interruptedOr(ctx, err)
	}
	missing, err := admin.MissingTopics(ctx, view.client, event.Topics{Backfill: c.BackfillTopic})
	switch {
	case err != nil:
		return interruptedOr(ctx, err)
	case len(missing) > 0:
		return fmt.Errorf("topic %q (--backfill-topic) does not exist; `markread run "+
			"--create-topics` creates it", c.BackfillTopic)
	}
	if err := view.checkWritable(ctx); err != nil {
		return err
	}
	if err := job.checkTopic(ctx, view.client); err != nil {
		return err
	}
	view.countWaiting(ctx)
	return interruptedOr(ctx, nil)
}

// interruptedOr returns err, or backfill.ErrInterrupted if an operator has stopped the command.
func interruptedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return backfill.ErrInterrupted
	}
	return err
}
