package app

import (
	"log"

	"github.com/rs/zerolog"

	"markread/worker/format"
)

// NewStandardLog is a standard logger that writes to l. mask may be nil.
func NewStandardLog(l zerolog.Logger, mask func(string) string) *log.Logger {
	return log.New(StandardLog{l, mask}, "", 0)
}

type StandardLog struct {
	Log  zerolog.Logger
	Mask func(string) string
}

func (s StandardLog) Write(b []byte) (int, error) {
	text := string(b)
	if s.Mask != nil {
		text = s.Mask(text)
	}
	s.Log.Warn().Msg(format.Line(text))
	return len(b), nil
}
