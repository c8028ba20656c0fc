package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
)

const (
	loggedRejects = 5    // logged if there is no rejects file
	allRejected   = 1000 // rows after which the log warns that all were rejected

	// bound of the wait for requests in flight: a resumed run over files sends them again
	shutdownLimit = 10 * time.Second
)

// ErrInterrupted is the error of Run when its context ends.
var ErrInterrupted = errors.New("interrupted")

// PositionError means that an input has no row at the position of the state.
type PositionError struct {
	Name   string
	Offset int64
}

func (e *PositionError) Error() string {
	return fmt.Sprintf("%s: no row begins at byte %d, where the run is to continue",
		e.Name, e.Offset)
}

// Options configures a run.
type Options struct {
	Inputs    []Input
	To        Publisher // nil: nothing is published and no state is saved
	Rejects   *Rejects  // nil: the first rejects are logged
	State     State     // where to begin, and the other content of the state file
	StateFile StateFile
	Window    int // chunks of 256 KiB; 0: the maximum
	Progress  *Progress
	Log       zerolog.Logger
}

// Summary is the result of a run.
type Summary struct {
	Rows, Rejected int64 // including those of the interrupted runs before it
	Untimed        int64 // rows without a time that were accepted with the state's read time
	// published; one for each conversation if the window held them all
	Records    int64
	Overflowed bool     // the window was full: a conversation may have several records
	Times      Times    // of the records, including those of the interrupted runs
	At         Position // everything before it is done
}

// run is the state of one Run.
type run struct {
	Options
	window        *window
	pool          senderPool
	sent          int64    // records passed to pool
	at            Position // before the next row
	overflowed    bool
	firstReason   string // reason of the first reject
	spacesLogged  bool   // the warning about spaces around an account was logged
	roundedLogged bool   // the warning about a rounded number was logged
	// of inputs that were read to their ends; no saved position may be beyond them yet
	hashes []string
}

// Run reads the inputs from the state's position on, and publishes one record for each conversation
// in the window when the window is full or everything is read. It returns when every record is
// acknowledged, and removes the state file. If it fails, the state file has what is done, and the
// error is ErrInterrupted, an *InputError, or the publisher's error.
//
// When ctx ends, Run waits for requests in flight, at most shutdownLimit if there is a state file.
// If the inputs can't be read again, it also publishes the rest of the window.
func Run(ctx context.Context, o Options) (Summary, error) {
	r := &run{Options: o, window: newWindow(cmp.Or(o.Window, maxChunks)), at: o.State.At}
	r.hashes = make([]string, len(o.Inputs))
	copy(r.hashes, o.State.Hashes)
	r.Progress = cmp.Or(r.Progress, new(Progress))
	r.Progress.begin(o.Inputs, r.at)
	if err := o.Rejects.truncate(r.at.RejectsBytes); err != nil {
		return Summary{}, err
	}
	var watcher sync.WaitGroup
	defer watcher.Wait()
	// Requests in flight are finished after ctx has ended; the publisher has its own limits.
	// Reading stops when either context ends.
	sendCtx, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	readCtx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(sendCtx, stop)()
	if r.To != nil {
		watcher.Go(func() { r.watchShutdown(ctx, sendCtx, fail) })
	}
	r.pool = senderPool{to: o.To, progress: r.Progress, save: r.save, fail: fail, log: r.Log,
		stopped: ctx.Done(), at: r.at, times: r.State.Times, saved: time.Now()}
	r.pool.group.SetLimit(senders)
	err := r.readAll(readCtx, sendCtx)
	if err == nil || errors.Is(err, ErrInterrupted) && r.StateFile == "" {
		err = cmp.Or(r.drain(ctx, sendCtx), err)
	}
	_ = r.pool.group.Wait()                // errors went to fail
	done, times := r.pool.at, r.pool.times // of acknowledged records
	if cause := context.Cause(sendCtx); cause != nil {
		err = cause
	}
	if err != nil {
		if e := r.save(done, times); e != nil {
			err = fmt.Errorf("%w; and the state could not be saved: %w", err, e)
		}
	} else if err = r.Rejects.sync(); err == nil {
		err = r.StateFile.Remove()
	}
	return Summary{r.at.Rows, r.at.Rejected, r.at.Untimed, r.Progress.Published.Load(),
		r.overflowed, times, done}, err
}

// watchShutdown logs that ctx has ended. It abandons requests in flight after shutdownLimit if they
// can be sent again.
func (r *run) watchShutdown(ctx, sendCtx context.Context, fail context.CancelCauseFunc) {
	select {
	case <-sendCtx.Done():
		return
	case <-ctx.Done():
	}
	if r.StateFile == "" {
		r.Log.Warn().Msg("stopping: publishing what was read; a second Ctrl-C stops immediately")
		return
	}
	r.Log.Warn().Msgf("stopping: waiting up to %s for requests in flight; "+
		"a second Ctrl-C stops immediately", shutdownLimit)
	select {
	case <-sendCtx.Done():
	case <-time.After(shutdownLimit):
		fail(ErrInterrupted)
	}
}

// Begin writes the first state of a run. It must be called before anything is published.
func (o *Options) Begin() error {
	o.State.Version, o.State.Inputs = stateVersion, nil
	for _, in := range o.Inputs {
		o.State.Inputs = append(o.State.Inputs, in.Identity)
	}
	if err := o.StateFile.save(o.State); err != nil {
		return fmt.Errorf("the run could not be resumed, because %s can't be written: %w; "+
			"copy the file into a folder that you may write to, or give it on standard input: "+
			"markread backfill - < %s", o.StateFile, withoutPath(err), o.Inputs[0].Name)
	}
	return nil
}

// save writes a state in which everything before the position is done, and the read times of the
// published records. It first syncs the rejects, because rejects before the position must be as
// durable as the state.
func (r *run) save(at Position, times Times) error {
	if err := r.Rejects.sync(); err != nil {
		return err
	}
	state := r.State
	state.Hashes, state.Times = r.hashes[:at.Input], times
	state.At, state.Published = at, state.Published+r.Progress.Published.Load()
	if err := r.StateFile.save(state); err != nil {
		return fmt.Errorf("saving the state of the run: %w", err)
	}
	return nil
}

// readAll reads the inputs, and publishes what does not fit into the window. It returns
// ErrInterrupted soon after ctx has ended.
func (r *run) readAll(ctx, sendCtx context.Context) error {
	for i := r.at.Input; i < len(r.Inputs); i++ {
		if err := r.readInput(ctx, sendCtx, i); errors.Is(err, ErrInterrupted) {
			return ErrInterrupted // decompression may have wrapped it
		} else if err != nil {
			return err
		}
		r.at.Input, r.at.Offset, r.at.Line, r.at.Read, r.at.SHA256 = i+1, 0, 0, 0, ""
	}
	return nil
}

func (r *run) readInput(ctx, sendCtx context.Context, number int) error {
	in := &r.Inputs[number]
	s, err := in.open(ctx, &r.Progress.Read)
	if err != nil {
		return err
	}
	defer s.close()
	resumed := r.at.Input == number && r.at.Line > 0
	if resumed {
		if err := s.lines.skipTo(r.at.Offset, r.at.Line); errors.Is(err, errNoRow) {
			return &PositionError{in.Name, r.at.Offset}
		} else if err != nil {
			return &InputError{in.Name, err}
		}
	}
	before := r.at.Rows
	if err := r.readRows(sendCtx, number, s); err != nil {
		return err
	}
	if r.at.Rows == before && !resumed {
		r.Log.Warn().Str("file", in.Name).Msg("the file has no rows")
	}
	r.hashes[number] = s.raw.sum()
	return s.unchanged(in)
}

func (r *run) readRows(sendCtx context.Context, number int, s *source) error {
	in := &r.Inputs[number]
	for {
		r.at.Input, r.at.Offset, r.at.Line = number, s.lines.offset, s.lines.number
		if r.at.Read != s.raw.read { // not for each row: hashing takes time
			r.at.Read, r.at.SHA256 = s.raw.read, s.raw.sum()
		}
		row, event, err := s.next(time.Now) // the time after the read, which may be slow
		switch {
		case row.text == nil && err == io.EOF:
			return nil
		case row.text == nil:
			return &InputError{in.Name, fmt.Errorf("line %d: %w", s.lines.number, withoutPath(err))}
		case err != nil:
			err = r.reject(in, row, err)
		case event.readTime == 0 && r.State.ReadTime == 0:
			err = r.reject(in, row, errUntimed)
		default:
			err = r.addToWindow(sendCtx, in, row, event)
		}
		if err != nil {
			return err
		}
		r.Progress.count(r.at, r.sent+int64(r.window.count()))
	}
}

// addToWindow adds a read state to the window.
func (r *run) addToWindow(sendCtx context.Context, in *Input, row row, event readState) error {
	if r.window.full() {
		r.overflowed = true
		if err := r.publishOldest(sendCtx); err != nil {
			return err
		}
	}
	r.warnOfAccount(in, row, event.report)
	r.warnOfAccount(in, row, event.peer)
	before := r.at // all counters of the position include the row, or none does
	if event.readTime == 0 {
		event.readTime = r.State.ReadTime
		// The first one is logged immediately, before anything is published: a misspelt field is
		// misspelt in every row.
		if r.at.Untimed++; r.at.Untimed == 1 {
			r.warn(in, row).Str("read_up_to", r.State.ReadUpTo()).
				Str("do", "if it should have one, stop with Ctrl-C").
				Msg("the row has no MsgReadTime; every row without one uses --read-time")
		}
	}
	r.window.add(event.report, event.peer, event.readTime, before)
	r.at.Rows++
	return nil
}

func (r *run) warn(in *Input, row row) *zerolog.Event {
	return r.Log.Warn().Str("file", in.Name).Int64("line", row.line)
}

// reject counts a bad row, and writes it to the rejects file or logs it.
func (r *run) reject(in *Input, row row, reason error) error {
	r.at.Rows++
	r.at.Rejected++
	if r.at.Rejected == 1 {
		r.firstReason = reason.Error()
	}
	if r.at.Rejected == allRejected && r.at.Rows == allRejected {
		r.Log.Warn().Str("file", in.Name).Str("first_reason", r.firstReason).
			Str("do", "check whether it is the right file; Ctrl-C stops").
			Msgf("all of the first %d rows were rejected; nothing is published yet", allRejected)
	}
	switch {
	case r.Rejects != nil:
		rejected := Reject{File: in.Name, Line: row.line, Reason: reason.Error()}
		length, err := r.Rejects.add(rejected, row.text)
		r.at.RejectsBytes = length
		return err
	case r.at.Rejected <= loggedRejects:
		r.warn(in, row).Str("reason", reason.Error()).Msg("rejected")
	case r.at.Rejected == loggedRejects+1:
		r.Log.Warn().
			Msg("further rejects are counted but not shown; --rejects FILE keeps all of them")
	}
	return nil
}

// errUntimed is the reason of a row without a time in a run without a read time for such rows.
var errUntimed = errors.New("it has no MsgReadTime; " +
	"--read-time T|now sets it for rows that have none")

// warnOfAccount logs the first valid account of each kind that is probably a mistake.
func (r *run) warnOfAccount(in *Input, row row, account []byte) {
	switch first, last := account[0], account[len(account)-1]; {
	case !r.spacesLogged && (first == ' ' || last == ' '):
		r.spacesLogged = true
		r.warn(in, row).Msg("an account begins or ends with a space, " +
			"which is part of it: the server may not know this account")
	case !r.roundedLogged && len(account) > 1 && strings.IndexByte(".,eE", account[1]) >= 0 &&
		rounded.Match(account):
		r.roundedLogged = true
		r.warn(in, row).Str("account", string(account)).Str("do", "export the column as text").
			Msg("an account looks like a long number that a spreadsheet has rounded: " +
				"the server may not know this account")
	}
}

// rounded matches long numbers as spreadsheets write them, and programs that store them as floats.
var rounded = regexp.MustCompile(`^[0-9](([.,][0-9]+)?[Ee][+]|[.,][0-9]+[Ee])[0-9]+$`)

// publishOldest publishes the oldest chunk of the window.
func (r *run) publishOldest(sendCtx context.Context) error {
	b := &batch{now: time.Now(), messages: make([]event.Message, 0, 8<<10)}
	var left bool
	if b.upTo, left = r.window.popOldest(b.add); !left {
		b.upTo = r.at
	}
	r.sent += int64(len(b.messages))
	return r.pool.send(sendCtx, b)
}

// drain publishes the whole window.
func (r *run) drain(ctx, sendCtx context.Context) error {
	r.Progress.Draining.Store(true)
	r.window.index = nil // nothing is added any more
	for r.window.used > 0 {
		if ctx.Err() != nil && r.StateFile != "" {
			return ErrInterrupted
		}
		if err := r.publishOldest(sendCtx); err != nil {
			return err
		}
	}
	return nil
}
