//go:build exam && linux

package main

import (
	"os"
	"syscall"
)

// examMaxRSS is in bytes.
func examMaxRSS(ended *os.ProcessState) int64 { return ended.SysUsage().(*syscall.Rusage).Maxrss << 10 }
