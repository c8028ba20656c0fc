package backfill

import (
	"errors"
	"io"
	"time"

	"markread/consumer/event"
)

// readState is a valid row. The accounts are valid until the next row is read.
type readState struct {
	report, peer []byte
	readTime     int64 // 0: the row has none
}

// next reads a row and judges it as the worker would judge it as an event; now is the clock. err is
// why the row is bad; if there is no row, it is what reading ended with, and r.text is nil.
func (s *source) next(now func() time.Time) (r row, e readState, err error) {
	if s.table != nil {
		r, e, err = s.nextOfTable(now)
	} else {
		r, e, err = s.nextObject(now)
	}
	switch {
	case r.text == nil && err == io.EOF:
		r.line = s.lines.number
		r.text, err = s.compressed.row()
	case errors.Is(err, event.ErrNoTime):
		err = nil
	}
	return r, e, err
}

func (s *source) nextOfTable(now func() time.Time) (row, readState, error) {
	for {
		r, fields, err := s.table.next()
		if err != nil {
			return r, readState{}, err
		}
		if !isHeaderRow(fields) {
			e, err := s.table.event(r, fields, now())
			return r, e, err
		}
		// An appended file's header is skipped if it has the fields in the places of the first.
		if c, err := columnsOf(fields, true); err != nil || c != s.table.columns {
			s.lines.number = r.line
			return row{}, readState{}, errors.New("there is a header again, and another: " +
				"give the files that were joined one by one")
		}
	}
}

func (s *source) nextObject(now func() time.Time) (row, readState, error) {
	r, err := s.lines.next(nil)
	if err != nil {
		return r, readState{}, err
	}
	decoded := event.Decode(event.Record{Value: r.text}, now())
	return r, readState{[]byte(decoded.Report), []byte(decoded.Peer), decoded.ReadTime}, decoded.Invalid
}
