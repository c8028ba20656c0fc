//go:build exam && unix

package exam

import "testing"

import (
	"markread/cmd/markread/exam/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
