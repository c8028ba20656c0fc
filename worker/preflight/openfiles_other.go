//go:build !unix

package preflight

// openFilesLimit is not known: this system has no such limit, or tells it in another way.
func openFilesLimit() (limit uint64, known bool) { return 0, false }
