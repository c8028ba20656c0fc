package backfill

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// State is how far a run got, as it is kept in a file beside the first input.
type State struct {
	Version   int        `json:"version"`
	Began     time.Time  `json:"began"`
	Topic     string     `json:"topic"`
	Brokers   []string   `json:"brokers"`
	ReadTime  int64      `json:"read_time"` // of rows that have none; 0: none was given
	Rejects   string     `json:"rejects"`   // absolute path; "": none
	Inputs    []Identity `json:"inputs"`
	Hashes    []string   `json:"hashes"`              // of those before At's, to their ends
	TopicEnd  int64      `json:"topic_end"`           // records ever written to it, at first
	Published int64      `json:"published"`           // records that are acknowledged since
	Times     Times      `json:"read_times,omitzero"` // of the published records
	// Every row before At was rejected, or its conversation is acknowledged with at least its T.
	At Position `json:"at"`
}

// stateVersion is of the format of the file. Version 1 had no hash of what was read; the readers of
// version 2 would publish a read time of 0 where there is none.
const stateVersion = 3

// Mark is a place between two rows of the inputs, and what was counted up to there.
type Position struct {
	Input        int   `json:"input"`         // number of the file, from 0
	Offset       int64 `json:"offset"`        // in its decompressed content
	Line         int64 `json:"line"`          // that begins there, from 1
	Rows         int64 `json:"rows"`          // of all inputs, headers and blank lines left out
	Rejected     int64 `json:"rejected"`      // of them
	Untimed      int64 `json:"untimed"`       // of the others, those without a read time
	RejectsBytes int64 `json:"rejects_bytes"` // length of the file of rejects
	// Read bytes of the file, as it is on the disk, were read when the mark was made.
	Read   int64  `json:"read"`
	SHA256 string `json:"sha256"` // of them
}

// check reports what no run can have written.
func (s *State) check() error {
	at := s.At
	for _, n := range []int64{int64(at.Input), at.Offset, at.Line, at.Rows, at.Rejected,
		at.Untimed, at.RejectsBytes, at.Read, s.TopicEnd, s.Published, s.ReadTime, s.Times.From,
		s.Times.To - s.Times.From} {
		if n < 0 || n > math.MaxInt64/4 { // the sum of some of them is still a number
			return errors.New("a number in it is out of range")
		}
	}
	switch {
	case at.Rejected+at.Untimed > at.Rows, at.Offset > 0 && (at.Line == 0 || at.Read == 0),
		at.Input > len(s.Inputs), len(s.Hashes) != at.Input:
		return errors.New("a number in it is out of range")
	case at.Input == len(s.Inputs) && (at.Offset > 0 || at.Read > 0),
		at.Input < len(s.Inputs) && at.Read > s.Inputs[at.Input].Size:
		return errors.New("its position is beyond the end of the files")
	}
	return nil
}

// ReadUpTo is the read time of rows that have none.
func (s *State) ReadUpTo() string { return formatSecond(s.ReadTime) }

// Same reports whether the inputs are those of the state; the error says which is not, and why.
func (s *State) SameInputs(inputs []Input) error {
	if len(inputs) != len(s.Inputs) {
		return fmt.Errorf("there were %d files, and now there are %d: give the same, "+
			"in the same order", len(s.Inputs), len(inputs))
	}
	for i, in := range inputs {
		switch was, is := s.Inputs[i], in.Identity; {
		case was.Size != is.Size:
			return changedInputError(in,
				fmt.Sprintf("it had %d bytes, and has %d", was.Size, is.Size))
		case was.SHA256 != is.SHA256:
			return changedInputError(in, "its content is another")
		case !was.Modified.Equal(is.Modified):
			return changedInputError(in, fmt.Sprintf("it was last written at %s, and now at %s",
				was.Modified.Format(time.DateTime), is.Modified.Format(time.DateTime)))
		}
	}
	return nil
}

func changedInputError(in Input, what string) error {
	return &InputError{in.Name, fmt.Errorf("it is not the file of the interrupted run: %s", what)}
}

// Verify makes sure that the inputs are those of the state, and that nothing has changed of what
// the run had read of them. It reads that again, as it is on the disk, which is faster than
// decompressing it. Its error is an *InputError, or ErrInterrupted soon after ctx has ended.
func (s *State) Verify(ctx context.Context, inputs []Input) error {
	if err := s.SameInputs(inputs); err != nil {
		return err
	}
	for i, in := range inputs[:min(len(inputs), s.At.Input+1)] {
		length, want := s.At.Read, s.At.SHA256
		if i < s.At.Input {
			length, want = in.Identity.Size, s.Hashes[i]
		}
		switch sum, err := hashOf(ctx, in.Name, length); {
		case errors.Is(err, ErrInterrupted):
			return err
		case err != nil:
			return &InputError{in.Name, withoutPath(err)}
		case length > 0 && sum != want:
			return changedInputError(in,
				fmt.Sprintf("its first %d bytes, which were read, have changed", length))
		}
	}
	return nil
}

// hashOf returns the hash of the first bytes of a file.
func hashOf(ctx context.Context, name string, length int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	read := countingReader{ctx: ctx, in: f, n: new(atomic.Int64), hash: sha256.New()}
	_, err = io.CopyN(io.Discard, &read, length)
	return read.sum(), err
}

// Times is a range of read times, in seconds since 1970; zero: none.
type Times struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// with is the range with those of another in it, too.
func (t Times) union(other Times) Times {
	switch {
	case t == Times{}:
		return other
	case other == Times{}:
		return t
	}
	return Times{min(t.From, other.From), max(t.To, other.To)}
}

// String is the range as people write it; "": it is none.
func (t Times) String() string {
	switch {
	case t == Times{}:
		return ""
	case t.From == t.To:
		return "read time " + formatSecond(t.From)
	}
	return fmt.Sprintf("read times from %s to %s", time.Unix(t.From, 0).UTC().Format(time.DateTime),
		formatSecond(t.To))
}

// clockTime is a second since 1970 as people write it.
func formatSecond(second int64) string {
	return time.Unix(second, 0).UTC().Format("2006-01-02 15:04:05 MST")
}

const (
	stateSuffix = ".markread-resume"
	maxState    = 4 << 20 // bytes of a file; a state has 400, and 230 for each input
)

// StateFile is the name of the file in which a run's state is kept; "": it is not kept.
type StateFile string

// StateFileOf is where the state of a run over these inputs is: beside the first. Standard input
// can't be read again, so there is none.
func StateFileOf(inputs []Input) StateFile {
	if slices.ContainsFunc(inputs, func(in Input) bool { return in.stdin != nil }) {
		return ""
	}
	return StateFile(inputs[0].Name + stateSuffix)
}

// Load reads the state; nil if there is none.
func (file StateFile) Load() (*State, error) {
	s, err := file.load()
	switch cause := withoutPath(err); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case cause != err: // it can't be read
		return nil, fmt.Errorf("%s: %w", file, cause)
	case err != nil:
		return nil, fmt.Errorf("%s: %w; to begin anew, delete it", file, err)
	}
	return s, nil
}

func (file StateFile) load() (*State, error) {
	info, err := os.Lstat(string(file))
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // a pipe would keep the run waiting, a link leads anywhere
		return nil, errors.New("it is not a regular file")
	case info.Size() > maxState:
		return nil, fmt.Errorf("it is not the state of a run: it is longer than %d bytes", maxState)
	}
	text, err := os.ReadFile(string(file))
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("it is not the state of a run, or is damaged (%w)", err)
	} else if s.Version != stateVersion {
		return nil, fmt.Errorf("it was written by another version of markread, which can go on "+
			"with it (its format is %d, this version reads %d)", s.Version, stateVersion)
	} else if err := s.check(); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return s, nil
}

// save writes the state so that after a crash or a power failure there is either this one or the
// one before. The folder may belong to others: what is written first has a name that nobody can
// guess, and does not follow a link.
func (file StateFile) save(s State) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if len(text) >= maxState {
		return fmt.Errorf("there are too many files (%d) for one run", len(s.Inputs))
	}
	f, err := os.CreateTemp(filepath.Dir(string(file)), "."+filepath.Base(string(file))+"-*")
	if err != nil {
		return err
	}
	if _, err = f.Write(append(text, '\n')); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), string(file))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use to anybody
		return err
	}
	return file.syncFolder()
}

// Remove deletes the state of a run that is done, or has done nothing.
func (file StateFile) Remove() error {
	if file == "" {
		return nil
	}
	if err := os.Remove(string(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.syncFolder()
}

// syncFolder makes it durable that the file has come or gone.
func (file StateFile) syncFolder() error {
	folder, err := os.Open(filepath.Dir(string(file)))
	if err != nil {
		return err
	}
	_ = folder.Sync() // some file systems have no such thing
	return folder.Close()
}
