//go:build !unix

package preflight

// openFilesLimit returns that the limit is not known: this system has none, or reports it in
// another way.
func openFilesLimit() (limit uint64, known bool) { return 0, false }
