//go:build unix

package preflight

import "syscall"

// openFilesLimit returns how many files and connections a process of this user may have open: the
// hard limit, to which Go raises the soft limit at the start.
func openFilesLimit() (limit uint64, known bool) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0, false
	}
	return uint64(r.Max), true
}
