package backfill

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unicode/utf8"
)

// Reject is a line of the file of rejects.
type Reject struct {
	File   string `json:"file"`
	Line   int64  `json:"line"` // the first of the row; a table's header is line 1
	Reason string `json:"reason"`
	Row    string `json:"row"`                  // as it is in the file
	Base64 string `json:"row_base64,omitempty"` // the same, if it is not UTF-8: in Row, what is not is replaced then
}

// Rejects is the file of rejects. It is safe for concurrent use.
type Rejects struct {
	mu      sync.Mutex
	file    *os.File
	out     *bufio.Writer
	length  int64
	regular bool
}

// OpenRejects opens a file of rejects of which so many bytes are to be kept, 0 of a new one. A run cuts off what is beyond them: it was written for
// rows that are read again. A file that holds anything else than rejects is refused.
func OpenRejects(name string, length int64) (*Rejects, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, plain(err)
	}
	r := &Rejects{file: f, out: bufio.NewWriterSize(f, 64<<10), length: length}
	if err := r.check(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func (r *Rejects) check() error {
	info, err := r.file.Stat()
	if err != nil {
		return plain(err)
	}
	if r.regular = info.Mode().IsRegular(); !r.regular {
		return nil
	}
	switch {
	case info.Size() > 0 && !isRejects(r.file):
		return errors.New("it exists and holds something else than rejects: name another file")
	case info.Size() < r.length:
		return fmt.Errorf("it has %d bytes, the interrupted run had written %d: it is another file, or was changed", info.Size(), r.length)
	}
	return nil
}

// cut makes the file as long as a state says.
func (r *Rejects) cut(length int64) error {
	if r.length = length; !r.regular {
		return nil
	}
	if err := r.file.Truncate(length); err != nil {
		return plain(err)
	}
	_, err := r.file.Seek(length, io.SeekStart)
	return err
}

// Same reports whether this is the same file as another.
func (r *Rejects) Same(name string) bool {
	mine, err := r.file.Stat()
	if err != nil {
		return false
	}
	other, err := os.Stat(name)
	return err == nil && os.SameFile(mine, other)
}

// isRejects reports whether a file begins with a reject.
func isRejects(f io.ReaderAt) bool {
	head := make([]byte, 16)
	n, _ := f.ReadAt(head, 0) // a shorter one is none
	return bytes.HasPrefix(head[:n], []byte(`{"file":"`))
}

// add writes a reject, and returns the length of the file with it.
func (r *Rejects) add(reject Reject, text []byte) (int64, error) {
	if reject.Row = string(text); !utf8.Valid(text) {
		reject.Base64 = base64.StdEncoding.EncodeToString(text)
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line) // writes U+FFFD for what is not UTF-8
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(reject); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.out.Write(line.Bytes())
	r.length += int64(n)
	return r.length, err
}

// sync brings everything that was added onto the disk.
func (r *Rejects) sync() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Flush(); err != nil || !r.regular {
		return err
	}
	return r.file.Sync()
}

// Close writes what is left.
func (r *Rejects) Close() error { return errors.Join(r.sync(), r.file.Close()) }
