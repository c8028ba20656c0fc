package backfill

import "sync/atomic"

// Progress is how far a run is; it may be read while it runs. Rows and Rejected include those of the runs that this one resumes.
type Progress struct {
	Size, Read     atomic.Int64 // bytes of the files as they are; Size is 0 if not all are files
	Rows, Rejected atomic.Int64
	Waiting        atomic.Int64 // conversations in the window
	Published      atomic.Int64 // records of this run; those that would be, if nothing is
	Ending         atomic.Bool  // everything is read, the window is being published
}

// begin sets what a run begins with.
func (p *Progress) begin(inputs []Input, at Mark) {
	size := int64(0)
	for i, in := range inputs {
		if in.stdin != nil {
			size = 0
			break
		}
		if size += in.Identity.Size; i < at.Input {
			p.Read.Add(in.Identity.Size)
		}
	}
	p.Size.Store(size)
	p.Rows.Store(at.Rows)
	p.Rejected.Store(at.Rejected)
}
