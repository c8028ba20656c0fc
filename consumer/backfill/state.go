package backfill

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
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
	Hashes    []string   `json:"hashes"`              // of the inputs before that of At, which were read to their ends
	TopicEnd  int64      `json:"topic_end"`           // how many records were ever written to the topic when the run began
	Published int64      `json:"published"`           // records that are acknowledged since
	Times     Times      `json:"read_times,omitzero"` // of the published records
	At        Mark       `json:"at"`                  // every row before it was rejected, or its conversation is acknowledged with at least its T
}

// stateVersion is of the format of the file. Version 1 had no hash of what was read; the readers of
// version 2 would publish a read time of 0 where there is none.
const stateVersion = 3

// check reports what no run can have written.
func (s *State) check() error {
	switch {
	case !s.At.valid(), s.At.Input > len(s.Inputs), len(s.Hashes) != s.At.Input,
		s.TopicEnd < 0, s.TopicEnd > maxCount, s.Published < 0, s.Published > maxCount,
		s.ReadTime < 0, s.Times.From < 0, s.Times.To < s.Times.From:
		return errors.New("a number in it is out of range")
	case s.At.Input == len(s.Inputs) && (s.At.Offset > 0 || s.At.Read > 0),
		s.At.Input < len(s.Inputs) && s.At.Read > s.Inputs[s.At.Input].Size:
		return errors.New("its position is beyond the end of the files")
	}
	return nil
}

// ReadUpTo is the read time of rows that have none.
func (s *State) ReadUpTo() string { return clockTime(s.ReadTime) }

// Same reports whether the inputs are those of the state; the error says which is not, and why.
func (s *State) Same(inputs []Input) error {
	if len(inputs) != len(s.Inputs) {
		return fmt.Errorf("there were %d files, and now there are %d: give the same, in the same order", len(s.Inputs), len(inputs))
	}
	for i, in := range inputs {
		was, is := s.Inputs[i], in.Identity
		what := ""
		switch {
		case was.Size != is.Size:
			what = fmt.Sprintf("it had %d bytes, and has %d", was.Size, is.Size)
		case was.SHA256 != is.SHA256:
			what = "its content is another"
		case !was.Modified.Equal(is.Modified):
			what = fmt.Sprintf("it was last written at %s, and now at %s", was.Modified.Format(time.DateTime), is.Modified.Format(time.DateTime))
		default:
			continue
		}
		return notTheFile(in, what)
	}
	return nil
}

func notTheFile(in Input, what string) error {
	return &InputError{in.Name, fmt.Errorf("it is not the file of the interrupted run: %s", what)}
}

// Verify makes sure that the inputs are those of the state, and that nothing has changed of what the
// run had read of them. It reads that again; its error is an *InputError, or ErrInterrupted soon
// after ctx has ended.
//
// The hashes are of the files as they are on the disk. A hash of the decompressed content would miss
// nothing else, but it would have to decompress everything before the run can begin.
func (s *State) Verify(ctx context.Context, inputs []Input) error {
	if err := s.Same(inputs); err != nil {
		return err
	}
	for i, in := range inputs[:min(len(inputs), s.At.Input+1)] {
		length, want := s.At.Read, s.At.SHA256
		if i < s.At.Input {
			length, want = in.Identity.Size, s.Hashes[i]
		}
		switch sum, err := hashOf(ctx, in.Name, length); {
		case err != nil:
			return err
		case length > 0 && sum != want:
			return notTheFile(in, fmt.Sprintf("its first %d bytes, which were read, have changed", length))
		}
	}
	return nil
}

// hashOf returns the hash of the first bytes of a file.
func hashOf(ctx context.Context, name string, length int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", &InputError{name, plain(err)}
	}
	defer f.Close()
	read := counting{ctx: ctx, in: f, n: new(atomic.Int64), hash: sha256.New()}
	if _, err := io.CopyN(io.Discard, &read, length); errors.Is(err, ErrInterrupted) {
		return "", err
	} else if err != nil {
		return "", &InputError{name, plain(err)}
	}
	return read.sum(), nil
}
