package backfill

import "sync/atomic"

// Progress is how far a run is; it may be read while it runs. Rows, Rejected and Untimed include
// those of the runs that this one resumes.
type Progress struct {
	Size, Read              atomic.Int64 // bytes of the files; Size is 0 if not all are files
	Rows, Rejected, Untimed atomic.Int64
	Records                 atomic.Int64 // of the rows read: published, in flight, or in the window
	Published               atomic.Int64 // of them; those that would be, if nothing is
	Ending                  atomic.Bool  // everything is read, the window is being published
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
	p.count(at, 0)
}

// count notes what was read.
func (p *Progress) count(at Mark, records int64) {
	p.Rows.Store(at.Rows)
	p.Rejected.Store(at.Rejected)
	p.Untimed.Store(at.Untimed)
	p.Records.Store(records)
}
