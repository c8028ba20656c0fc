//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package app

// Lock locks nothing: this system has no lock that ends with its process. The user must avoid
// running two brokers on one directory, or two backfills of one file. Mostly, a second broker fails
// anyway, because its port is in use.
func Lock(string) (unlock func(), err error) { return func() {}, nil }
