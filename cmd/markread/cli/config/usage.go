package config

import (
	"fmt"
)

// UsageError is a wrong command line or configuration. Its text names the flag or the variable.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }
