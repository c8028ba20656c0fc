//go:build exam && unix

package cluster

import (
	"testing"

	"markread/cmd/markread/exam/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
