package app

import (
	"errors"
	"io/fs"
	"os"
)

// OpenDataDir creates the directory if it is missing, checks that it is writable, and locks it: two
// brokers on one directory would overwrite each other's records. The returned function releases the
// lock. Errors name --data-dir.
func OpenDataDir(dir string) (release func(), err error) {
	fail := func(err error) error {
		var path *fs.PathError // its text repeats the path, or names our temporary file
		if errors.As(err, &path) {
			err = path.Err
		}
		return &dataDirError{dir, err}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fail(err)
	}
	probe, err := os.CreateTemp(dir, ".markread-*")
	if err != nil {
		return nil, fail(err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return nil, fail(err)
	}
	release, err = Lock(dir)
	if errors.Is(err, ErrInUse) {
		err = errors.New("another markread dev uses it; stop that one, or choose another directory")
	}
	if err != nil {
		return nil, fail(err)
	}
	return release, nil
}

// ErrInUse is returned for a directory or file that another process has locked.
var ErrInUse = errors.New("another process uses it")

// dataDirError is returned for a data directory that can't be used.
type dataDirError struct {
	dir string
	err error
}

func (e *dataDirError) Error() string { return "--data-dir " + e.dir + ": " + e.err.Error() }
func (e *dataDirError) Unwrap() error { return e.err }
