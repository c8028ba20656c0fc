package backfill

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"markread/consumer/printable"
)

// Reject is a line of the rejects file.
type Reject struct {
	File   string `json:"file"`
	Line   int64  `json:"line"` // first line of the row; a table's header is line 1
	Reason string `json:"reason"`
	Row    string `json:"row"`                  // as in the file; U+FFFD for what is not UTF-8
	Base64 []byte `json:"row_base64,omitempty"` // the row if it is not UTF-8
}

// Rejects is the rejects file; nil: none. It is safe for concurrent use.
type Rejects struct {
	mu            sync.Mutex
	file          *os.File
	out           *bufio.Writer
	length        int64
	regular       bool
	removeOnClose bool // created for a run that has not begun
}

// OpenRejects opens a rejects file: a new or empty one, or with resume one with at least length
// bytes. The run truncates it to length, because the rejects after that are of rows that are read
// again. Nothing else is ever overwritten.
//
// A symbolic link is followed only to a device or pipe, such as /dev/stderr: whoever can write to
// the folder could have created it, and must not choose where rejects go.
func OpenRejects(name string, length int64, resume bool) (*Rejects, error) {
	if strings.HasSuffix(name, stateSuffix) {
		return nil, errors.New("a file of that name has the state of a run: name another")
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	created := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(name, os.O_RDWR, 0) // creates nothing
	}
	if err != nil {
		if info, e := os.Lstat(name); e == nil && info.Mode()&os.ModeSymlink != 0 {
			return nil, errors.New("it is a symbolic link to a file that can't be opened: " +
				"name another file")
		}
		return nil, withoutPath(err)
	}
	r := &Rejects{file: f, out: bufio.NewWriterSize(f, 64<<10), length: length,
		removeOnClose: created}
	if err := r.check(resume); err != nil {
		return nil, errors.Join(withoutPath(err), r.Close())
	}
	return r, nil
}

func (r *Rejects) check(resume bool) error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	if r.regular = info.Mode().IsRegular(); !r.regular {
		return nil
	}
	head := make([]byte, len(`{"file":"`))
	_, _ = r.file.ReadAt(head, 0) // a shorter file contains no reject
	named, err := os.Lstat(r.file.Name())
	switch {
	case err != nil:
		return err
	case !os.SameFile(named, info):
		return errors.New("it is a symbolic link: name the file that it points to, or another")
	case info.Size() > 0 && string(head) != `{"file":"`:
		return errors.New("it exists and holds something other than rejects: name another file")
	case info.Size() > 0 && !resume:
		return errors.New("it holds the rejects of another run: move it away, or name another file")
	case info.Size() < r.length:
		return fmt.Errorf("it has %d bytes, the interrupted run had written %d: "+
			"it is another file, or was changed", info.Size(), r.length)
	}
	return nil
}

// truncate cuts the file to the length that a state has.
func (r *Rejects) truncate(length int64) error {
	if r == nil {
		return nil
	}
	r.removeOnClose = false
	if r.length = length; !r.regular {
		return nil
	}
	err := r.file.Truncate(length)
	if err == nil {
		_, err = r.file.Seek(length, io.SeekStart)
	}
	return rejectsError(withoutPath(err))
}

// rejectsError adds the flag's name to an error of the file.
func rejectsError(err error) error {
	if err != nil {
		err = fmt.Errorf("--rejects: %w", err)
	}
	return err
}

// Regular reports whether this is a regular file, not a pipe or device.
func (r *Rejects) Regular() bool { return r.regular }

// SameFile reports whether this is the same file as another.
func (r *Rejects) SameFile(other os.FileInfo) bool {
	mine, err := r.file.Stat()
	return err == nil && r.regular && os.SameFile(mine, other)
}

// add writes a reject, and returns the new length of the file.
func (r *Rejects) add(reject Reject, text []byte) (int64, error) {
	if reject.Row = string(text); !utf8.Valid(text) {
		reject.Base64 = text
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&printable.Writer{Out: &line}) // makes invalid UTF-8 U+FFFD
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(reject); err != nil {
		return 0, rejectsError(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.out.Write(line.Bytes())
	r.length += int64(n)
	return r.length, rejectsError(err)
}

// sync flushes and syncs everything that was added.
func (r *Rejects) sync() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.out.Flush()
	if err == nil && r.regular {
		err = r.file.Sync()
	}
	return rejectsError(err)
}

// Keep makes Close keep the file: another run uses it.
func (r *Rejects) Keep() { r.removeOnClose = false }

// Close closes the file; a run has synced what it added. A file that was created for a run that did
// not begin is removed.
func (r *Rejects) Close() error {
	err := r.file.Close()
	if r.removeOnClose {
		err = errors.Join(err, os.Remove(r.file.Name()))
	}
	return err
}
