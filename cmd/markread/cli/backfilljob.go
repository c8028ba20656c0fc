package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/consumer/backfill"
	"markread/consumer/kafkaclient"
	"markread/worker/format"
)

// backfillJob is a run with the command line that it came from.
type backfillJob struct {
	backfill.Options
	locks        []func() // each lets go of a file
	rejects      string   // "": none
	otherBrokers []string // those of the run that is gone on with, if none of them is named now
}

// release lets go of the files.
func (j *backfillJob) release() {
	if j.Rejects != nil {
		_ = j.Rejects.Close() // the run has made last what it has written
	}
	for _, unlock := range j.locks {
		unlock()
	}
}

// lock keeps other runs away from a file.
func (j *backfillJob) lock(name string) error {
	unlock, err := app.Lock(name)
	switch {
	case errors.Is(err, app.ErrInUse):
		return fmt.Errorf("%s: another markread backfill uses it: wait for its end, or stop it",
			name)
	case err != nil:
		return config.Usagef("%v", err)
	}
	j.locks = append(j.locks, unlock)
	return nil
}

// prepare looks at the files, and at what an interrupted run has left.
func (c *backfillCommand) prepare(ctx context.Context, p *process, now time.Time) (_ *backfillJob,
	err error) {
	inputs, err := backfill.Inspect(c.Files, p.stdin, c.ReadTime != nil || c.Resume)
	if err != nil {
		return nil, config.Usagef("%v", err)
	}
	job := &backfillJob{Options: backfill.Options{Inputs: inputs, Progress: new(backfill.Progress)}}
	if c.Rejects != nil {
		job.rejects = *c.Rejects
	}
	fresh := backfill.State{Began: now.UTC(), Topic: c.BackfillTopic, Brokers: c.Kafka.Brokers}
	if fresh.ReadTime, err = c.readUpTo(now); err != nil {
		return nil, err
	}
	if job.rejects != "" {
		if fresh.Rejects, err = filepath.Abs(job.rejects); err != nil {
			return nil, config.Usagef("--rejects %s: %v", job.rejects, err)
		}
	}
	defer func() {
		if err != nil {
			job.release()
		}
	}()
	if job.State, err = c.stateOf(ctx, job, fresh); err != nil {
		return nil, err
	}
	return job, c.openRejects(job, p)
}

// openRejects opens the file of rejects, which no other run uses and which is not one to read.
func (c *backfillCommand) openRejects(job *backfillJob, p *process) (err error) {
	if job.rejects == "" {
		return nil
	}
	if job.Rejects, err = backfill.OpenRejects(job.rejects, job.State.At.RejectsBytes,
		c.Resume); err != nil {
		return config.Usagef("--rejects %s: %v", job.rejects, err)
	}
	for _, name := range c.Files {
		look := func() (os.FileInfo, error) { return os.Stat(name) }
		if name == backfill.Stdin {
			f, ok := p.stdin.(*os.File)
			if !ok {
				continue
			}
			look = f.Stat
		}
		if info, err := look(); err == nil && job.Rejects.SameFile(info) {
			return config.Usagef("--rejects %s is one of the files to read", job.rejects)
		}
	}
	return job.lockRejects()
}

// lockRejects keeps other runs away from the file of rejects. If another was faster, it is that
// one's, even if this one has made it.
func (j *backfillJob) lockRejects() error {
	if !j.Rejects.Regular() {
		return nil
	}
	err := j.lock(j.rejects)
	if err != nil {
		j.Rejects.Keep()
	}
	return err
}

// stateOf returns what the run begins with.
func (c *backfillCommand) stateOf(ctx context.Context, job *backfillJob,
	fresh backfill.State) (backfill.State, error) {
	file := backfill.StateFileOf(job.Inputs)
	if file == "" {
		if c.Resume {
			return fresh, config.Usagef("--resume: standard input can't be read again: name a " +
				"file, or begin anew without --resume")
		}
		return fresh, nil
	}
	if c.DryRun {
		return fresh, nil
	}
	job.StateFile = file
	if err := job.lock(c.Files[0]); err != nil {
		return fresh, err
	}
	old, err := file.Load()
	switch {
	case err != nil:
		return fresh, config.Usagef("%v", err)
	case old == nil && c.Resume:
		return fresh, config.Usagef("--resume: there is no %s: a run over these files has "+
			"finished, or never began; leave --resume out to begin with the first row", file)
	case old == nil:
		return fresh, nil
	case !c.Resume && old.At == (backfill.Position{}):
		return fresh, nil // nothing was done
	case !c.Resume:
		return fresh, config.Usagef("an interrupted run has published the first %s of these "+
			"files: go on with --resume, or delete %s to begin anew",
			format.CountOf(old.At.Rows, "row"), file)
	}
	if err := old.Verify(ctx, job.Inputs); errors.Is(err, backfill.ErrInterrupted) {
		return fresh, err
	} else if err != nil {
		return fresh, config.Usagef("--resume: %v; to begin anew delete %s and leave --resume out",
			err, file)
	}
	readTime, err := c.readUpTo(old.Began) // now is when the interrupted run began
	if err != nil {
		return fresh, err
	}
	switch {
	case old.Topic != fresh.Topic:
		return fresh, config.Usagef("--resume: the interrupted run published to --backfill-topic "+
			"%s, not %s", old.Topic, fresh.Topic)
	case c.ReadTime != nil && old.ReadTime == 0:
		return fresh, config.Usagef(
			"--resume: the interrupted run had no --read-time: leave it out")
	case c.ReadTime != nil && old.ReadTime != readTime:
		return fresh, config.Usagef("--resume: the interrupted run had --read-time %d: leave it "+
			"out, or give the same", old.ReadTime)
	case old.Rejects != fresh.Rejects && old.Rejects == "":
		return fresh, config.Usagef("--resume: the interrupted run had no --rejects: leave it out")
	case old.Rejects != fresh.Rejects:
		return fresh, config.Usagef("--resume: the interrupted run had --rejects %s: give the same",
			old.Rejects)
	}
	if !slices.ContainsFunc(fresh.Brokers,
		func(b string) bool { return slices.Contains(old.Brokers, b) }) {
		job.otherBrokers = old.Brokers
	}
	old.Brokers = fresh.Brokers
	return *old, nil
}

// checkTopic makes sure that the topic still has what an interrupted run has published. A cluster
// that has lost its data, or another one, may have a topic of the same name.
func (j *backfillJob) checkTopic(ctx context.Context, client *kafkaclient.Client) error {
	extent, err := client.TopicOffsets(ctx, j.State.Topic)
	if err != nil {
		return stopped(ctx, nil) // publishing will say what is wrong
	}
	end, known := int64(0), true
	for _, p := range extent.Partitions {
		end, known = end+p.End, known && p.Err == nil
	}
	switch least := j.State.TopicEnd + j.State.Published; {
	case j.State.Published == 0:
		j.State.TopicEnd = end
	case known && end < least:
		return fmt.Errorf("--resume: topic %q has had %s so far, but had %s when the run was "+
			"interrupted: it was made again, or --brokers name another cluster; to begin anew "+
			"delete %s", j.State.Topic,
			format.CountOf(end, "record"), format.Thousands(least), j.oldFiles())
	}
	return nil
}

// whereRejected says where the rejected rows are.
func (j *backfillJob) whereRejected() string {
	if j.rejects == "" {
		return "; --rejects FILE keeps them"
	}
	return ": see " + j.rejects
}

// oldFiles are those that stand in the way of beginning anew.
func (j *backfillJob) oldFiles() string {
	if j.rejects == "" {
		return string(j.StateFile)
	}
	return fmt.Sprintf("%s and %s", j.StateFile, j.rejects)
}

// failed says how far a run got, and how it goes on.
func (j *backfillJob) failed(done backfill.Summary, err error) error {
	var input *backfill.InputError
	var unpublished kafkaclient.PublishErrors
	var position *backfill.PositionError
	switch {
	case errors.As(err, &position):
		return config.Usagef("--resume: %v: %s is damaged; to begin anew delete %s and leave "+
			"--resume out", err, j.StateFile, j.oldFiles())
	case errors.As(err, &input) && j.StateFile == "" && done.Rows == 0:
		return config.Usagef("%v", err)
	case errors.As(err, &unpublished):
		err = fmt.Errorf("not published to %s: %w", j.State.Topic, cause(err))
	}
	switch {
	case j.To == nil:
		return err
	case j.StateFile == "" && errors.Is(err, backfill.ErrInterrupted):
		return fmt.Errorf("%w: the first %s of standard input are published, and the rest was "+
			"not read", err, format.CountOf(done.Rows, "row"))
	case j.StateFile != "" && input != nil:
		return fmt.Errorf("%w; if it can be read after all go on with the same command and "+
			"--resume; else copy it again, delete %s, and begin anew: "+
			"what is published twice only costs calls", err, j.oldFiles())
	case j.StateFile == "":
		return fmt.Errorf("%w; %s are published; standard input can't be resumed, so begin anew: "+
			"what is published twice only costs calls", err, format.CountOf(done.Records, "record"))
	}
	return fmt.Errorf("%w; the first %s are done: go on with the same command and --resume", err,
		format.CountOf(done.At.Rows, "row"))
}
