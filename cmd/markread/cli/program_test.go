package cli

import (
	"os"
	"testing"

	"markread/cmd/markread/cli/clitest"
)

func TestMain(m *testing.M) {
	clitest.SideBySide()
	os.Exit(m.Run())
}
