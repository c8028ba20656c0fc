package cli

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this binary also be the program, for the transcripts.
func TestMain(m *testing.M) {
	sideBySide()
	testscript.Main(m, programs)
}
