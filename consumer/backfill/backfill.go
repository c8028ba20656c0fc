package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer"
)

const (
	loggedRejects = 5    // without a file of rejects
	allRejected   = 1000 // rows, after which it is said that every one was rejected
	glanceEvery   = 1024 // rows, after which the context is looked at
)

// ErrInterrupted is what Run ends with when its context does.
var ErrInterrupted = errors.New("interrupted")

// Options says what to run.
type Options struct {
	Inputs    []Input
	To        Publisher // nil: nothing is published, and no state is kept
	Rejects   *Rejects  // nil: the first are logged
	State     State     // where to begin, and what the file of the state is to say besides
	StateFile StateFile
	Window    int // chunks of 256 KiB; 0: the 184 MiB that are also the most
	Progress  *Progress
	Log       zerolog.Logger
}

// Summary is what a run did.
type Summary struct {
	Rows, Rejected int64 // of the interrupted runs before it, too
	Untimed        int64 // of the rows that were not rejected, those that had no time, and got that of the state
	Records        int64 // published, each an own conversation as long as the window held them all
	Overflowed     bool  // the window was full: a conversation may have got several records
	At             Mark  // before which everything is done
}

// run is one run.
type run struct {
	Options
	window *window
	ship   shipping
	at     Mark // before the next row
	over   bool
	first  string // reason of the first reject
}

// Run reads the inputs from the state's mark on, and publishes one record for each conversation that is in the window, when it is full or
// everything is read. It returns when each is acknowledged; then the state is gone. Otherwise the state has what is done, and the error is
// ErrInterrupted, an *InputError, or what publishing failed with.
//
// When ctx ends, what is on its way is waited for. Of inputs that can't be read again the rest of the window is published then, too.
func Run(ctx context.Context, o Options) (Summary, error) {
	r := &run{Options: o, window: newWindow(cmp.Or(o.Window, maxChunks)), at: o.State.At}
	if r.Progress == nil {
		r.Progress = new(Progress)
	}
	r.Progress.begin(o.Inputs, r.at)
	if err := o.Rejects.cut(r.at.RejectsBytes); err != nil {
		return Summary{}, fmt.Errorf("--rejects: %w", err)
	}
	// What is on its way is finished after the end of ctx; the publisher has limits of its own.
	sending, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	r.ship = shipping{to: o.To, progress: r.Progress, save: r.save, fail: fail}
	r.ship.start(sending, r.at)
	err := r.readAll(ctx, sending)
	if err == nil || errors.Is(err, ErrInterrupted) && r.StateFile == "" {
		if e := r.empty(ctx, sending); e != nil {
			err = e
		}
	}
	done := r.ship.wait()
	if cause := context.Cause(sending); cause != nil {
		err = cause
	}
	if err == nil {
		err = r.finish()
	} else if e := r.save(done); e != nil {
		err = fmt.Errorf("%w; and the state could not be saved: %w", err, e)
	}
	return Summary{r.at.Rows, r.at.Rejected, r.at.Untimed, r.Progress.Published.Load(), r.over, done}, err
}

// Begin writes the first state of a run, before anything else is done.
func (o *Options) Begin() error {
	o.State.Version, o.State.Inputs = stateVersion, nil
	for _, in := range o.Inputs {
		o.State.Inputs = append(o.State.Inputs, in.Identity)
	}
	if err := o.StateFile.save(o.State); err != nil {
		return fmt.Errorf("the run could not be resumed, because %s can't be written: %w; "+
			"copy the file into a folder that you may write to, or give it on standard input: markread backfill - < %s",
			o.StateFile, plain(err), o.Inputs[0].Name)
	}
	return nil
}

// save notes in the state that everything before a mark is done. Rejects before it must outlast whatever happens now, like the state.
func (r *run) save(at Mark) error {
	if err := r.Rejects.sync(); err != nil {
		return fmt.Errorf("--rejects: %w", err)
	}
	state := r.State
	state.At = at
	if err := r.StateFile.save(state); err != nil {
		return fmt.Errorf("state of the run: %w", err)
	}
	return nil
}

// finish makes the rejects last and removes the state.
func (r *run) finish() error {
	if err := r.Rejects.sync(); err != nil {
		return fmt.Errorf("--rejects: %w", err)
	}
	return r.StateFile.Remove()
}

// readAll reads the inputs, and publishes what the window has no room for.
func (r *run) readAll(ctx, sending context.Context) error {
	for i := r.at.Input; i < len(r.Inputs); i++ {
		in := &r.Inputs[i]
		before := r.at.Rows
		if in.stdin != nil {
			in.stdin = interruptible(ctx, in.stdin)
		}
		s, err := in.open(&r.Progress.Read)
		if errors.Is(err, ErrInterrupted) {
			return ErrInterrupted
		} else if err != nil {
			return err
		}
		if r.at.Input == i && r.at.Line > 0 { // resumed
			err = s.lines.skipTo(r.at.Offset, r.at.Line)
		}
		if err == nil {
			err = r.readFrom(ctx, sending, i, s)
		} else {
			err = &InputError{in.Name, err}
		}
		s.close()
		if err != nil {
			return err
		}
		if r.at.Rows == before && r.at.Line <= 2 {
			r.Log.Warn().Str("file", in.Name).Msg("there are no rows in it")
		}
		r.checkUnchanged(in)
		r.at.Input, r.at.Offset, r.at.Line = i+1, 0, 0
	}
	return nil
}

// readFrom reads one input.
func (r *run) readFrom(ctx, sending context.Context, number int, s *source) error {
	in := &r.Inputs[number]
	for n := 0; ; n++ {
		if n%glanceEvery == 0 {
			if err := r.glance(ctx, sending); err != nil {
				return err
			}
		}
		r.at.Input, r.at.Offset, r.at.Line = number, s.lines.offset, s.lines.number
		row, event, err := s.next(time.Now) // after the row has come: standard input may be slow
		switch {
		case row.text == nil && err == io.EOF:
			return r.glance(ctx, sending)
		case row.text == nil && errors.Is(err, ErrInterrupted):
			return err
		case row.text == nil:
			return &InputError{in.Name, fmt.Errorf("behind line %d: %w", s.lines.number-1, plain(err))}
		case err != nil:
			if err := r.reject(in, row, err); err != nil {
				return err
			}
			continue
		}
		if r.window.full() {
			r.over = true
			if err := r.shipOldest(sending); err != nil {
				return err
			}
		}
		if event.readTime == 0 {
			event.readTime = r.State.ReadTime
			r.noteUntimed(in, row)
		}
		r.window.add(event.report, event.peer, event.readTime, r.at)
		r.at.Rows++
	}
}

// glance looks at what need not be looked at for each row.
func (r *run) glance(ctx, sending context.Context) error {
	r.Progress.Rows.Store(r.at.Rows)
	r.Progress.Rejected.Store(r.at.Rejected)
	r.Progress.Waiting.Store(int64(r.window.count))
	if ctx.Err() != nil {
		return ErrInterrupted
	}
	return context.Cause(sending)
}

// reject notes a bad row.
func (r *run) reject(in *Input, row row, reason error) error {
	r.at.Rows++
	r.at.Rejected++
	if r.at.Rejected == 1 {
		r.first = reason.Error()
	}
	if r.at.Rejected == allRejected && r.at.Rows == allRejected {
		r.Log.Warn().Str("file", in.Name).Str("first_reason", r.first).
			Msgf("all of the first %d rows are rejected: is it the right file? Ctrl-C stops; nothing is published yet", allRejected)
	}
	if r.Rejects != nil {
		length, err := r.Rejects.add(Reject{File: in.Name, Line: row.line, Reason: reason.Error()}, row.text)
		if err != nil {
			return fmt.Errorf("--rejects: %w", err)
		}
		r.at.RejectsBytes = length
		return nil
	}
	if r.at.Rejected <= loggedRejects {
		r.Log.Warn().Str("file", in.Name).Int64("line", row.line).Str("reason", reason.Error()).Msg("rejected")
	}
	if r.at.Rejected == loggedRejects {
		r.Log.Warn().Msg("further rejects are counted and not shown; --rejects FILE keeps all of them")
	}
	return nil
}

// noteUntimed counts a row without a time. The first is told at once, while nothing is published: a misspelled field would be one in every row.
func (r *run) noteUntimed(in *Input, row row) {
	if r.at.Untimed++; r.at.Untimed == 1 {
		r.Log.Warn().Str("file", in.Name).Int64("line", row.line).Msgf("the row has no MsgReadTime: it, and every other that has none, is marked as read up to %s "+
			"(--read-time); if there should be one, stop with Ctrl-C", r.State.ReadUpTo())
	}
}

// shipOldest publishes the chunk that was filled first.
func (r *run) shipOldest(sending context.Context) error {
	b := batch{now: time.Now(), messages: make([]consumer.Message, 0, r.window.chunks[0].entries)}
	upTo, ok := r.window.oldest(b.add)
	if !ok {
		upTo = r.at
	}
	return r.ship.send(sending, b.messages, upTo)
}

// empty publishes what is in the window.
func (r *run) empty(ctx, sending context.Context) error {
	r.Progress.Ending.Store(true)
	for r.window.count > 0 {
		if ctx.Err() != nil && r.StateFile != "" {
			return ErrInterrupted
		}
		if err := r.shipOldest(sending); err != nil {
			return err
		}
		r.Progress.Waiting.Store(int64(r.window.count))
	}
	return nil
}

// checkUnchanged warns of a file that was written to while it was read.
func (r *run) checkUnchanged(in *Input) {
	if in.stdin != nil {
		return
	}
	info, err := os.Stat(in.Name)
	if err == nil && (info.Size() != in.Identity.Size || !info.ModTime().Equal(in.Identity.Modified)) {
		r.Log.Warn().Str("file", in.Name).Msg("it was written to while it was read: rows may be missing")
	}
}
