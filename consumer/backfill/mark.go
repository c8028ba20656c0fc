package backfill

import (
	"fmt"
	"math"
	"time"
)

// Mark is a place between two rows of the inputs, and what was counted up to there.
type Mark struct {
	Input        int   `json:"input"`         // number of the file, from 0
	Offset       int64 `json:"offset"`        // in its decompressed content
	Line         int64 `json:"line"`          // that begins there, from 1
	Rows         int64 `json:"rows"`          // of all inputs, headers and blank lines left out
	Rejected     int64 `json:"rejected"`      // of them
	Untimed      int64 `json:"untimed"`       // of the others, those without a read time
	RejectsBytes int64 `json:"rejects_bytes"` // length of the file of rejects
	// Read is how many bytes of the file, as it is on the disk, were read when the mark was made: at
	// least those that the rows before the mark come from. SHA256 is their hash.
	Read   int64  `json:"read"`
	SHA256 string `json:"sha256"`
}

// maxCount bounds every number of a state: the sum of some of them is still a number.
const maxCount = math.MaxInt64 / 4

// valid reports whether a run can have made the mark.
func (m Mark) valid() bool {
	for _, n := range []int64{
		int64(m.Input), m.Offset, m.Line, m.Rows, m.Rejected, m.Untimed, m.RejectsBytes, m.Read,
	} {
		if n < 0 || n > maxCount {
			return false
		}
	}
	return m.Rejected+m.Untimed <= m.Rows && (m.Offset == 0 || m.Line > 0 && m.Read > 0)
}

// Times is a range of read times, in seconds since 1970; zero: none.
type Times struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// with is the range with those of another in it, too.
func (t Times) with(other Times) Times {
	switch {
	case t == Times{}:
		return other
	case other == Times{}:
		return t
	}
	return Times{min(t.From, other.From), max(t.To, other.To)}
}

// String is the range as people write it; "": it is none.
func (t Times) String() string {
	switch {
	case t == Times{}:
		return ""
	case t.From == t.To:
		return "read time " + clockTime(t.From)
	}
	return fmt.Sprintf("read times from %s to %s", time.Unix(t.From, 0).UTC().Format(time.DateTime),
		clockTime(t.To))
}

// clockTime is a second since 1970 as people write it.
func clockTime(second int64) string {
	return time.Unix(second, 0).UTC().Format("2006-01-02 15:04:05 MST")
}
