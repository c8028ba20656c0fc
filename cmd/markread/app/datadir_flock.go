//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package app

import (
	"errors"
	"os"
	"syscall"
)

// Lock locks a directory or a file until unlock is called or the process ends, even by kill -9: the
// kernel holds the lock on the open file, and nothing is left behind. On a file system without such
// locks it locks nothing and returns no error.
func Lock(path string) (unlock func(), err error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err,
		syscall.EWOULDBLOCK) {
		_ = d.Close()
		return nil, ErrInUse
	}
	return func() { _ = d.Close() }, nil
}
