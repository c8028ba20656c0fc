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

// State is the progress of a run, saved in a file beside the first input.
type State struct {
	Version   int        `json:"version"`
	Began     time.Time  `json:"began"`
	Topic     string     `json:"topic"`
	Brokers   []string   `json:"brokers"`
	ReadTime  int64      `json:"read_time"` // for rows that have none; 0: not given
	Rejects   string     `json:"rejects"`   // absolute path of the rejects file; "": none
	Inputs    []Identity `json:"inputs"`
	Hashes    []string   `json:"hashes"`              // of the whole inputs before At.Input
	TopicEnd  int64      `json:"topic_end"`           // records written to it before the run
	Published int64      `json:"published"`           // acknowledged records since then
	Times     Times      `json:"read_times,omitzero"` // of the published records
	// Every row before At was rejected, or its conversation is acknowledged with at least its T.
	At Position `json:"at"`
}

// stateVersion is the version of the file format. Version 1 had no hash of what was read. Programs
// that read version 2 would publish a read time of 0 for rows without one.
const stateVersion = 3

// Position is a place between two rows of the inputs, with the counts up to there.
type Position struct {
	Input        int   `json:"input"`         // index of the input
	Offset       int64 `json:"offset"`        // in the decompressed content
	Line         int64 `json:"line"`          // number of the line that begins at Offset, from 1
	Rows         int64 `json:"rows"`          // in all inputs, without headers and empty lines
	Rejected     int64 `json:"rejected"`      // rejected rows
	Untimed      int64 `json:"untimed"`       // accepted rows without a read time
	RejectsBytes int64 `json:"rejects_bytes"` // length of the rejects file
	// Read is how many bytes of the file on disk, before decompression, were read at this position.
	Read   int64  `json:"read"`
	SHA256 string `json:"sha256"` // of those bytes
}

// check returns an error if no run can have written this state.
func (s *State) check() error {
	at := s.At
	for _, n := range []int64{int64(at.Input), at.Offset, at.Line, at.Rows, at.Rejected,
		at.Untimed, at.RejectsBytes, at.Read, s.TopicEnd, s.Published, s.ReadTime, s.Times.From,
		s.Times.To - s.Times.From} {
		if n < 0 || n > math.MaxInt64/4 { // sums of several must not overflow
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

// ReadUpTo formats the read time of rows that have none.
func (s *State) ReadUpTo() string { return formatSecond(s.ReadTime) }

// SameInputs returns nil if the inputs are those of the state. The error says which one differs,
// and how.
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
			return changedInputError(in, "its content has changed")
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

// Verify checks that the inputs are those of the state, and that what the run had read of them is
// unchanged. It reads that part again, without decompression, which is faster. An error is an
// *InputError, or ErrInterrupted soon after ctx has ended.
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

// hashOf returns the hash of the first length bytes of a file.
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

// Times is a range of read times, inclusive, in seconds since 1970; zero: empty.
type Times struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// union returns the smallest range that contains both.
func (t Times) union(other Times) Times {
	switch {
	case t == Times{}:
		return other
	case other == Times{}:
		return t
	}
	return Times{min(t.From, other.From), max(t.To, other.To)}
}

// String formats the range for people; an empty one as "".
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

// formatSecond formats a second since 1970 for people.
func formatSecond(second int64) string {
	return time.Unix(second, 0).UTC().Format("2006-01-02 15:04:05 MST")
}

const (
	stateSuffix = ".markread-resume"
	maxState    = 4 << 20 // bytes; a state has about 400, and 230 for each input
)

// StateFile is the name of a state file; "": no state is saved.
type StateFile string

// StateFileOf returns the name of the state file of a run over these inputs: beside the first. It
// is "" with standard input, which can't be read again.
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
	case cause != err: // the file can't be read
		return nil, fmt.Errorf("%s: %w", file, cause)
	case err != nil:
		return nil, fmt.Errorf("%s: %w; to start again, delete it", file, err)
	}
	return s, nil
}

func (file StateFile) load() (*State, error) {
	info, err := os.Lstat(string(file))
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // a pipe could block; a link may lead anywhere
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
		return nil, fmt.Errorf("it was written by another version of markread, which can "+
			"continue with it (its format is %d, this version reads %d)", s.Version, stateVersion)
	} else if err := s.check(); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return s, nil
}

// save writes the state atomically: after a crash or power failure the file has this state or the
// one before. Others may be able to write to the folder, so the temporary file has an unpredictable
// name and does not follow a link.
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
		_ = os.Remove(f.Name()) // useless now
		return err
	}
	return file.syncFolder()
}

// Remove deletes the state of a run that is finished, or did nothing.
func (file StateFile) Remove() error {
	if file == "" {
		return nil
	}
	if err := os.Remove(string(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.syncFolder()
}

// syncFolder makes the creation or removal of the file durable.
func (file StateFile) syncFolder() error {
	folder, err := os.Open(filepath.Dir(string(file)))
	if err != nil {
		return err
	}
	_ = folder.Sync() // some file systems do not support it
	return folder.Close()
}
