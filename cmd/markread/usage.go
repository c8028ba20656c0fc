package main

import (
	"fmt"
)

// usageError is a wrong command line or configuration. Its text names the flag or the variable.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }
