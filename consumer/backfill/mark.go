package backfill

// Mark is a place between two rows of the inputs, and what was counted up to there.
type Mark struct {
	Input        int   `json:"input"`         // number of the file, from 0
	Offset       int64 `json:"offset"`        // in its decompressed content
	Line         int64 `json:"line"`          // that begins there, from 1
	Rows         int64 `json:"rows"`          // of all inputs, headers and blank lines left out
	Rejected     int64 `json:"rejected"`      // of them
	Untimed      int64 `json:"untimed"`       // of the others, those without a read time
	RejectsBytes int64 `json:"rejects_bytes"` // length of the file of rejects
}
