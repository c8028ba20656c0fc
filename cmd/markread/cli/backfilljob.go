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

// backfillJob is a run, with the part of its command line that errors and the report need.
type backfillJob struct {
	backfill.Options
	locks           []func() // each unlocks a file
	rejects         string   // path; "": none
	previousBrokers []string // the resumed run's --brokers, if none of them is named now
}

// release closes and unlocks the files.
func (j *backfillJob) release() {
	if j.Rejects != nil {
		_ = j.Rejects.Close() // the run has already synced what it wrote
	}
	for _, unlock := range j.locks {
		unlock()
	}
}

// lock locks a file, so that no other run uses it.
func (j *backfillJob) lock(name string) error {
	unlock, err := app.Lock(name)
	switch {
	case errors.Is(err, app.ErrInUse):
		return fmt.Errorf("%s: another markread backfill uses it: wait until it ends, or stop it",
			name)
	case err != nil:
		return config.Usagef("%v", err)
	}
	j.locks = append(j.locks, unlock)
	return nil
}

// prepare checks the files, and reads the state that an interrupted run has left.
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
	if fresh.ReadTime, err = c.defaultReadTime(now); err != nil {
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
	if job.State, err = c.initialState(ctx, job, fresh); err != nil {
		return nil, err
	}
	return job, c.openRejects(job, p)
}

// openRejects opens and locks the file of rejects. It must not be one of the input files.
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

// lockRejects locks the file of rejects, so that no other run uses it. If another run has locked
// it, the file stays in place, even if this run has created it.
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

// initialState returns the state from which the run begins: fresh, or the interrupted run's.
func (c *backfillCommand) initialState(ctx context.Context, job *backfillJob,
	fresh backfill.State) (backfill.State, error) {
	file := backfill.StateFileOf(job.Inputs)
	if file == "" {
		if c.Resume {
			return fresh, config.Usagef("--resume: standard input can't be read again: name a " +
				"file, or start again without --resume")
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
			"finished, or never began; omit --resume to begin with the first row", file)
	case old == nil:
		return fresh, nil
	case !c.Resume && old.At == (backfill.Position{}):
		return fresh, nil // nothing was done
	case !c.Resume:
		return fresh, config.Usagef("an interrupted run has published the first %s of these "+
			"files: continue with --resume, or delete %s to start again",
			format.CountOf(old.At.Rows, "row"), file)
	}
	if err := old.Verify(ctx, job.Inputs); errors.Is(err, backfill.ErrInterrupted) {
		return fresh, err
	} else if err != nil {
		return fresh, config.Usagef("--resume: %v; to start again, delete %s and omit --resume",
			err, file)
	}
	readTime, err := c.defaultReadTime(old.Began) // now is when the interrupted run began
	if err != nil {
		return fresh, err
	}
	switch {
	case old.Topic != fresh.Topic:
		return fresh, config.Usagef("--resume: the interrupted run published to --backfill-topic "+
			"%s, not %s", old.Topic, fresh.Topic)
	case c.ReadTime != nil && old.ReadTime == 0:
		return fresh, config.Usagef(
			"--resume: the interrupted run had no --read-time: omit it")
	case c.ReadTime != nil && old.ReadTime != readTime:
		return fresh, config.Usagef("--resume: the interrupted run had --read-time %d: omit it, "+
			"or give the same", old.ReadTime)
	case old.Rejects != fresh.Rejects && old.Rejects == "":
		return fresh, config.Usagef("--resume: the interrupted run had no --rejects: omit it")
	case old.Rejects != fresh.Rejects:
		return fresh, config.Usagef("--resume: the interrupted run had --rejects %s: give the same",
			old.Rejects)
	}
	if !slices.ContainsFunc(fresh.Brokers,
		func(b string) bool { return slices.Contains(old.Brokers, b) }) {
		job.previousBrokers = old.Brokers
	}
	old.Brokers = fresh.Brokers
	return *old, nil
}

// checkTopic checks that the topic still has the records that an interrupted run has published.
// Another cluster, or one that has lost its data, may have a topic of the same name.
func (j *backfillJob) checkTopic(ctx context.Context, client *kafkaclient.Client) error {
	offsets, err := client.TopicOffsets(ctx, j.State.Topic)
	if err != nil {
		return interruptedOr(ctx, nil) // publishing will return the error
	}
	end, known := int64(0), true
	for _, p := range offsets.Partitions {
		end, known = end+p.End, known && p.Err == nil
	}
	switch least := j.State.TopicEnd + j.State.Published; {
	case j.State.Published == 0:
		j.State.TopicEnd = end
	case known && end < least:
		return fmt.Errorf("--resume: topic %q has had %s so far, but had %s when the run was "+
			"interrupted: it was recreated, or --brokers name another cluster; to start again, "+
			"delete %s", j.State.Topic,
			format.CountOf(end, "record"), format.Thousands(least), j.filesToDelete())
	}
	return nil
}

// rejectsHint returns where the rejected rows are, as the end of a sentence.
func (j *backfillJob) rejectsHint() string {
	if j.rejects == "" {
		return "; --rejects FILE keeps them"
	}
	return ": see " + j.rejects
}

// filesToDelete names the files that must be deleted to start again.
func (j *backfillJob) filesToDelete() string {
	if j.rejects == "" {
		return string(j.StateFile)
	}
	return fmt.Sprintf("%s and %s", j.StateFile, j.rejects)
}

// explainFailure adds to a run's error how far it got, and how to continue.
func (j *backfillJob) explainFailure(done backfill.Summary, err error) error {
	var input *backfill.InputError
	var unpublished kafkaclient.PublishErrors
	var position *backfill.PositionError
	switch {
	case errors.As(err, &position):
		return config.Usagef("--resume: %v: %s is damaged; to start again, delete %s and omit "+
			"--resume", err, j.StateFile, j.filesToDelete())
	case errors.As(err, &input) && j.StateFile == "" && done.Rows == 0:
		return config.Usagef("%v", err)
	case errors.As(err, &unpublished):
		err = fmt.Errorf("not published to %s: %w", j.State.Topic, publishCause(err))
	}
	switch {
	case j.To == nil:
		return err
	case j.StateFile == "" && errors.Is(err, backfill.ErrInterrupted):
		return fmt.Errorf("%w: the first %s of standard input are published, and the rest was "+
			"not read", err, format.CountOf(done.Rows, "row"))
	case j.StateFile != "" && input != nil:
		return fmt.Errorf("%w; if it can be read after all, continue with the same command and "+
			"--resume; else copy it again, delete %s, and start again: records that are published "+
			"twice only cost calls", err, j.filesToDelete())
	case j.StateFile == "":
		return fmt.Errorf("%w; %s are published; standard input can't be resumed, so start again: "+
			"records that are published twice only cost calls", err,
			format.CountOf(done.Records, "record"))
	}
	return fmt.Errorf("%w; the first %s are done: continue with the same command and --resume", err,
		format.CountOf(done.At.Rows, "row"))
}
