package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"markread/consumer"
	"markread/consumer/backfill"
)

// backfillCommand publishes files of read states.
type backfillCommand struct {
	Files    []string `arg:"" optional:"" name:"file" help:"CSV with a header, or one JSON object a line, compressed with gzip or zstd or not; - is standard input."`
	Rejects  *string  `placeholder:"FILE" help:"Write the rows that are no events there, with their line and the reason, one JSON object a line."`
	ReadTime *int64   `placeholder:"SECONDS" help:"Rows without MsgReadTime: everything up to this second since 1970 has been read; without it, up to when the run began."`
	DryRun   dryRun   `name:"dry-run" help:"Read, check and count only: publish nothing, keep no state, need no brokers."`
	Resume   bool     `help:"Go on where an interrupted run over the same files had got to."`

	Kafka             kafkaFlags `embed:"" group:"Kafka:"`
	backfillTopicFlag `embed:"" group:"Topics and group:"`
	groupFlag         `embed:"" group:"Topics and group:"`
	rateFlag          `embed:"" group:"Worker:"`
	Log               logFlags `embed:"" group:"Log:"`
}

// dryRun is a flag with which no brokers need be named.
type dryRun bool

// BeforeApply is kong's: it is called when the flag is on the command line.
func (dryRun) BeforeApply(parsed *kong.Context) error {
	for _, f := range parsed.Flags() {
		if f.Name == "brokers" {
			f.Required = false
		}
	}
	return nil
}

// Help is kong's: what follows the summary.
func (*backfillCommand) Help() string {
	return `A table's header has the names Report_Account, Peer_Account and, if there are read times, MsgReadTime (seconds since 1970), in any order among
others. Rows of one conversation become one record, with the largest time. Rows that are no events are counted, and the exit status is 3.

    markread backfill --brokers localhost:9092 --dry-run states.csv.gz
    markread backfill --brokers localhost:9092 --rejects rejects.ndjson states.csv.gz
    markread backfill --brokers localhost:9092 --rejects rejects.ndjson --resume states.csv.gz
    psql -c 'COPY (SELECT …) TO STDOUT CSV HEADER' | markread backfill --brokers localhost:9092 -

How far it got is kept beside the first file, in FILE.markread-resume, until all is published.` + variablesHelp
}

// backfillMemory is what the run's memory is held to: its window is 216 MiB when it is full, and hardly any of it is what the collector has to
// look at.
const backfillMemory = 256 << 20

func (c *backfillCommand) validate(env environment) error {
	switch {
	case len(c.Files) == 0:
		return usagef("no FILE given: name files of CSV or JSON lines, or - for standard input")
	case bool(c.DryRun) && c.Resume:
		return usagef("--dry-run has no effect on what --resume goes on with: leave one of them out")
	case c.BackfillTopic == "":
		return usagef("--backfill-topic must not be empty: the rows are published there")
	case c.Rejects != nil && *c.Rejects == "":
		return usagef("--rejects must not be empty")
	}
	if c.ReadTime != nil {
		if err := checkRead("reader", "peer", c.ReadTime); err != nil {
			return err
		}
	}
	checks := []func() error{c.backfillTopicFlag.validate, c.groupFlag.validate, c.rateFlag.validate}
	if !c.DryRun {
		checks = append(checks, func() error { return c.Kafka.validate(env) })
	}
	return firstError(checks...)
}

func (c *backfillCommand) run(ctx context.Context, p *process) error {
	began := time.Now()
	if err := c.validate(p.env); err != nil {
		return err
	}
	options, err := consumer.Options{}, error(nil)
	if !c.DryRun {
		if options, err = c.Kafka.options(p.env); err != nil {
			return err
		}
	}
	job, err := c.prepare(p, began)
	if err != nil {
		return err
	}
	if job.Rejects != nil {
		defer job.Rejects.Close() // Run has written everything to it
	}
	p.begin(c.Log)
	job.Log = p.log
	if job.otherBrokers != nil {
		p.log.Warn().Strs("before", job.otherBrokers).Msg("the interrupted run had other --brokers: what it has published must be in this cluster, too")
	}
	p.takeStandardLog(nil)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(min(backfillMemory, debug.SetMemoryLimit(-1))))

	view := &backfillView{job: job, rate: c.Rate, group: c.Group, topic: c.BackfillTopic, began: began}
	if !c.DryRun {
		c.Kafka.warn(p)
		options.Log = p.log
		if view.client, err = consumer.New(options); err != nil {
			return usagef("--brokers: %v", err)
		}
		defer view.client.Close()
		if err := c.begin(ctx, job, view); err != nil {
			return err
		}
		job.To = view.client.Publisher(c.BackfillTopic)
	}
	stop := view.show(ctx, p)
	done, err := backfill.Run(ctx, job.Options)
	stop()
	if err != nil {
		return job.failed(done, err)
	}
	if _, err := fmt.Fprintln(p.stdout, view.summary(ctx, done)); err != nil {
		return err
	}
	if done.Rejected > 0 {
		return &rejectedError{"rejected " + number64(done.Rejected, "row") + job.whereRejected()}
	}
	return nil
}

// begin makes sure that there are brokers and the topic before anything is read, and leaves no state behind if there are not.
func (c *backfillCommand) begin(ctx context.Context, job *backfillJob, view *backfillView) (err error) {
	if err := job.Begin(); err != nil {
		return err
	}
	defer func() {
		if err != nil && !c.Resume {
			err = errors.Join(err, job.Forget())
		}
	}()
	if err := view.client.Reach(ctx); err != nil {
		return stopped(ctx, err)
	}
	missing, err := view.client.MissingTopics(ctx, consumer.Topics{Live: c.BackfillTopic, Backfill: c.BackfillTopic, DeadLetter: c.BackfillTopic})
	switch {
	case err != nil:
		return stopped(ctx, err)
	case len(missing) > 0:
		return fmt.Errorf("topic %q (--backfill-topic) does not exist; `markread run --create-topics` makes it", c.BackfillTopic)
	}
	view.look(ctx)
	return stopped(ctx, nil)
}

// stopped is the error, or that an operator has stopped the command.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return backfill.ErrInterrupted
	}
	return err
}

// backfillJob is a run with the command line that it came from.
type backfillJob struct {
	backfill.Options
	rejects      string   // "": none
	otherBrokers []string // those of the run that is gone on with, if none of them is named now
}

// prepare looks at the files, and at what an interrupted run has left. Its errors are wrong usage.
func (c *backfillCommand) prepare(p *process, now time.Time) (*backfillJob, error) {
	inputs, err := backfill.Look(c.Files, p.stdin)
	if err != nil {
		return nil, usagef("%v", err)
	}
	job := &backfillJob{Options: backfill.Options{Inputs: inputs, Progress: new(backfill.Progress)}}
	if c.Rejects != nil {
		job.rejects = *c.Rejects
	}
	fresh := backfill.State{Began: now.UTC(), Topic: c.BackfillTopic, Brokers: c.Kafka.Brokers, ReadTime: now.Unix()}
	if c.ReadTime != nil {
		fresh.ReadTime = *c.ReadTime
	}
	if job.rejects != "" {
		if fresh.Rejects, err = filepath.Abs(job.rejects); err != nil {
			return nil, usagef("--rejects %s: %v", job.rejects, err)
		}
	}
	if job.State, err = c.stateOf(job, fresh); err != nil {
		return nil, err
	}
	if job.rejects != "" {
		if job.Rejects, err = backfill.OpenRejects(job.rejects, job.State.At.RejectsBytes); err != nil {
			return nil, usagef("--rejects %s: %v", job.rejects, err)
		}
		for _, in := range c.Files {
			if in != backfill.Stdin && job.Rejects.Same(in) {
				return nil, usagef("--rejects %s is one of the files to read", job.rejects)
			}
		}
	}
	return job, nil
}

// stateOf returns what the run begins with.
func (c *backfillCommand) stateOf(job *backfillJob, fresh backfill.State) (backfill.State, error) {
	file := backfill.StateFile(job.Inputs)
	if file == "" {
		if c.Resume {
			return fresh, usagef("--resume: standard input can't be read again: name a file, or begin anew without --resume")
		}
		return fresh, nil
	}
	if c.DryRun {
		return fresh, nil
	}
	job.StateFile = file
	old, err := backfill.LoadState(file)
	switch {
	case err != nil:
		return fresh, usagef("%v", err)
	case old == nil && c.Resume:
		return fresh, usagef("--resume: there is no %s: a run over these files has finished, or never began; leave --resume out to begin with the first row", file)
	case old == nil:
		return fresh, nil
	case !c.Resume && old.At == (backfill.Mark{}):
		return fresh, nil // nothing was done
	case !c.Resume:
		return fresh, usagef("an interrupted run has published the first %s of these files: go on with --resume, or delete %s to begin anew",
			number64(old.At.Rows, "row"), file)
	}
	if err := old.Same(job.Inputs); err != nil {
		return fresh, usagef("--resume: %v; to begin anew delete %s and leave --resume out", err, file)
	}
	switch {
	case old.Topic != fresh.Topic:
		return fresh, usagef("--resume: the interrupted run published to --backfill-topic %s, not %s", old.Topic, fresh.Topic)
	case c.ReadTime != nil && old.ReadTime != fresh.ReadTime:
		return fresh, usagef("--resume: the interrupted run had --read-time %d, not %d", old.ReadTime, fresh.ReadTime)
	case old.Rejects != fresh.Rejects && old.Rejects == "":
		return fresh, usagef("--resume: the interrupted run had no --rejects: leave it out")
	case old.Rejects != fresh.Rejects:
		return fresh, usagef("--resume: the interrupted run had --rejects %s: give the same", old.Rejects)
	}
	if !slices.ContainsFunc(fresh.Brokers, func(b string) bool { return slices.Contains(old.Brokers, b) }) {
		job.otherBrokers = old.Brokers
	}
	old.Brokers = fresh.Brokers
	return *old, nil
}

// whereRejected says where the rejected rows are.
func (j *backfillJob) whereRejected() string {
	if j.rejects == "" {
		return "; --rejects FILE keeps them"
	}
	return ": see " + j.rejects
}

// failed says how far a run got, and how it goes on.
func (j *backfillJob) failed(done backfill.Summary, err error) error {
	var input *backfill.InputError
	switch {
	case errors.As(err, &input) && j.StateFile == "" && done.Rows == 0:
		return usagef("%v", err)
	case errors.As(err, &input), errors.Is(err, backfill.ErrInterrupted), j.To == nil:
	default:
		err = fmt.Errorf("not published to %s: %w", j.State.Topic, cause(err))
	}
	switch {
	case j.To == nil:
		return err
	case j.StateFile == "" && errors.Is(err, backfill.ErrInterrupted):
		return fmt.Errorf("%w: the first %s of standard input are published, and the rest was not read", err, number64(done.Rows, "row"))
	case j.StateFile == "":
		return fmt.Errorf("%w; %s are published; standard input can't be resumed, so begin anew: what is published twice only costs calls", err,
			number64(done.Records, "record"))
	}
	return fmt.Errorf("%w; the first %s are done: go on with the same command and --resume", err, number64(done.At.Rows, "row"))
}
