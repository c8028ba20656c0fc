//go:build exam && unix

package main

import "testing"

func TestMain(m *testing.M) { ExamMain(m) }
