package backfill

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"markread/consumer/event"
)

// Stdin is the file name that stands for standard input.
const Stdin = "-"

// InputError means that an input is unusable or can't be read to its end. Records of the rows
// before that may have been published.
type InputError struct {
	Name string
	Err  error
}

func (e *InputError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

// Input is a file that was inspected, or standard input.
type Input struct {
	Name        string // as given
	Identity    Identity
	stdin       io.Reader // nil: a file
	allowNoTime bool      // rows without a read time are expected
}

// Identity identifies a file's content: its length, its modification time, and a hash of its first
// and last 64 KiB.
type Identity struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	SHA256   string    `json:"sha256"`
}

// Inspect opens and closes each file, to check whether it can be read and what it is. A table
// without a MsgReadTime column, which may have read times under another name, is an error unless
// allowNoTime is set. An error is an *InputError.
func Inspect(names []string, stdin io.Reader, allowNoTime bool) ([]Input, error) {
	var inputs []Input
	for i, name := range names {
		in := Input{Name: name, allowNoTime: allowNoTime}
		for _, other := range inputs[:i] {
			if filepath.Clean(name) == filepath.Clean(other.Name) {
				return nil, &InputError{name, errors.New("it is given twice")}
			}
		}
		if name == Stdin {
			in.Name, in.stdin = "standard input", stdin
		} else if err := in.inspect(); err != nil {
			return nil, err
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

func (in *Input) inspect() (err error) {
	if strings.HasSuffix(in.Name, stateSuffix) {
		return &InputError{in.Name,
			errors.New("it is the state of an interrupted run, not its input")}
	}
	if in.Identity, err = identify(in.Name); err != nil {
		return &InputError{in.Name, withoutPath(err)}
	}
	s, err := in.open(context.Background(), new(atomic.Int64))
	if err == nil {
		s.close()
	}
	return err
}

func identify(name string) (Identity, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return Identity{}, err
	case info.IsDir():
		return Identity{}, fmt.Errorf("it is a directory: name the files in it, as %s",
			filepath.Join(name, "*"))
	case !info.Mode().IsRegular():
		return Identity{}, errors.New("it is not a regular file, so it can't be read again after " +
			"an interruption: give it on standard input, as -")
	}
	f, err := os.Open(name)
	if err != nil {
		return Identity{}, err
	}
	defer f.Close()
	const part = 64 << 10
	sum := sha256.New()
	for _, from := range []int64{0, max(0, info.Size()-part)} {
		if _, err := io.Copy(sum, io.NewSectionReader(f, from, part)); err != nil {
			return Identity{}, err
		}
	}
	return Identity{info.Size(), info.ModTime().UTC(), hex.EncodeToString(sum.Sum(nil))}, nil
}

// withoutPath removes the operation and the path from an error: the message begins with the file's
// name anyway.
func withoutPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// source is an open input from which rows are read.
type source struct {
	file       *os.File // nil: standard input
	raw        *countingReader
	compressed *compressed // nil: not compressed
	lines      *lines
	table      *table // nil: NDJSON, or empty
	close      func()
}

// open opens the input and reads up to its first row. Reads fail with ErrInterrupted once ctx has
// ended. read counts the bytes that were read of the file. An error is an *InputError.
func (in *Input) open(ctx context.Context, read *atomic.Int64) (*source, error) {
	s := &source{close: func() {}}
	if in.stdin != nil {
		s.raw = &countingReader{ctx: ctx, in: interruptible(ctx, in.stdin), n: read}
	} else {
		f, err := os.Open(in.Name)
		if err != nil {
			return nil, &InputError{in.Name, withoutPath(err)}
		}
		s.file, s.close = f, func() { _ = f.Close() } // the file was only read
		s.raw = &countingReader{ctx: ctx, in: f, n: read, hash: sha256.New()}
	}
	content, err := s.decompress()
	if err == nil {
		s.lines = newLines(content)
		err = s.recognize(in.Name, in.allowNoTime)
	}
	if err != nil {
		s.close()
		return nil, &InputError{in.Name, err}
	}
	return s, nil
}

// unchanged returns an error if the file is not the one that was inspected, or was modified since.
func (s *source) unchanged(in *Input) error {
	if s.file == nil {
		return nil
	}
	info, err := s.file.Stat()
	switch {
	case err != nil:
		return &InputError{in.Name, withoutPath(err)}
	case info.Size() != in.Identity.Size || !info.ModTime().Equal(in.Identity.Modified):
		return &InputError{in.Name,
			errors.New("it was written to while it was read: rows may be missing")}
	}
	return nil
}

// countingReader counts and hashes the bytes that are read of an input, before decompression.
type countingReader struct {
	ctx  context.Context
	in   io.Reader
	n    *atomic.Int64 // bytes read of all inputs
	read int64
	hash hash.Hash // nil: standard input, which can't be read again
}

func (c *countingReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, ErrInterrupted
	}
	n, err := c.in.Read(b)
	c.n.Add(int64(n))
	c.read += int64(n)
	if c.hash != nil {
		c.hash.Write(b[:n]) // never fails
	}
	return n, err
}

// sum returns the hash of what was read, or "".
func (c *countingReader) sum() string {
	if c.hash == nil {
		return ""
	}
	return hex.EncodeToString(c.hash.Sum(nil))
}

// interruptible returns a reader of in that fails with ErrInterrupted when ctx ends, even if a read
// of in never returns. The reading goroutine stays blocked in that read; only the end of the
// process ends it.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ErrInterrupted) })
	go func() {
		// The struct hides io.WriterTo, so that bufio detects a reader that makes no progress.
		_, err := io.Copy(w, bufio.NewReaderSize(struct{ io.Reader }{in}, 64<<10))
		w.CloseWithError(err)
	}()
	return r
}

// readState is a valid row. The accounts are valid until the next row is read.
type readState struct {
	report, peer []byte
	readTime     int64 // 0: no time
}

// next returns the next row, with the same checks that the worker applies to an event. err is the
// reason why the row is bad. If r.text is nil there is no row, and err is what ended the input.
func (s *source) next(now func() time.Time) (r row, e readState, err error) {
	if s.table != nil {
		r, e, err = s.nextTableRow(now)
	} else {
		r, e, err = s.nextJSONRow(now)
	}
	switch {
	case r.text == nil && err == io.EOF:
		r.line = s.lines.number
		r.text, err = s.compressed.trailingRow()
	case errors.Is(err, event.ErrNoTime):
		err = nil
	}
	return r, e, err
}

func (s *source) nextTableRow(now func() time.Time) (row, readState, error) {
	for {
		r, fields, err := s.table.next()
		if err != nil {
			return r, readState{}, err
		}
		if !isHeaderRow(fields) {
			e, err := s.table.event(r, fields, now())
			return r, e, err
		}
		// The header of an appended file is skipped if its columns are at the same places.
		if c, err := columnsOf(fields, true); err != nil || c != s.table.columns {
			s.lines.number = r.line
			return row{}, readState{}, errors.New("there is a second header, and it " +
				"differs from the first: give the files that were joined one by one")
		}
	}
}

func (s *source) nextJSONRow(now func() time.Time) (row, readState, error) {
	r, err := s.lines.next(nil)
	if err != nil {
		return r, readState{}, err
	}
	e := event.Decode(event.Record{Value: r.text}, now())
	return r, readState{e.Report, e.Peer, e.ReadTime}, e.Invalid
}
