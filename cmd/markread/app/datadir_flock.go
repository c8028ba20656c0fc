//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package app

import (
	"errors"
	"os"
	"syscall"
)

// Lock locks a directory or a file until the function that it returns is called or the process
// ends, however it ends: the lock is the kernel's, on the open directory itself, so that a kill -9
// leaves no file behind that would stand in the way of the next start. A file system that has no
// such locks is used without.
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
