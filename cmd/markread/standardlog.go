package main

import (
	"log"

	"github.com/rs/zerolog"
)

// newStandardLog is a standard logger that writes to l. mask may be nil.
func newStandardLog(l zerolog.Logger, mask func(string) string) *log.Logger {
	return log.New(standardLog{l, mask}, "", 0)
}

type standardLog struct {
	log  zerolog.Logger
	mask func(string) string
}

func (s standardLog) Write(b []byte) (int, error) {
	text := string(b)
	if s.mask != nil {
		text = s.mask(text)
	}
	s.log.Warn().Msg(oneLine(text))
	return len(b), nil
}
