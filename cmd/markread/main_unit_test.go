//go:build !(exam && unix)

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this binary also be the program, for the transcripts. (The exam has one of its own.)
func TestMain(m *testing.M) {
	sideBySide()
	testscript.Main(m, programs)
}
