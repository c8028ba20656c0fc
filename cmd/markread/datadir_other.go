//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package main

// lockDir locks nothing: this system has no lock that ends with its process. Two brokers on one directory are the user's to avoid; that the
// ports of the first one are taken stops most of them.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }
