//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package app

import (
	"errors"
	"os"
	"syscall"
)

// Lock locks a directory or a file until unlock is called or the process ends, even by kill -9: the
// lock is the kernel's, on the open file, and leaves nothing behind. A file system that has no such
// locks is used without.
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
