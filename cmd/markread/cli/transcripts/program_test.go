package transcripts

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"markread/cmd/markread/cli/clitest"
)

// TestMain lets this test binary also run as the program, for the transcripts.
func TestMain(m *testing.M) {
	clitest.RaiseParallelism()
	testscript.Main(m, programs)
}
