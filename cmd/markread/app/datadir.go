package app

import (
	"errors"
	"io/fs"
	"os"
)

// OpenDataDir makes the directory if it is missing, and sees that it can be written to and that no
// other process uses it: two brokers on one directory would overwrite each other's records. The
// function that it returns lets the directory go. Errors name --data-dir.
func OpenDataDir(dir string) (release func(), err error) {
	fail := func(err error) error {
		var path *fs.PathError // its text repeats the path, or names a file that nobody asked for
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

// ErrInUse is the error of a directory, or a file, that another process has locked.
var ErrInUse = errors.New("another process uses it")

// dataDirError is a data directory that can't be used.
type dataDirError struct {
	dir string
	err error
}

func (e *dataDirError) Error() string { return "--data-dir " + e.dir + ": " + e.err.Error() }
func (e *dataDirError) Unwrap() error { return e.err }
