package backfill

import (
	"errors"
	"time"

	"markread/consumer"
)

// event is a valid row. The accounts are valid until the next row is read.
type event struct {
	report, peer []byte
	readTime     int64 // 0: the row has none
}

// next reads a row and judges it as the worker would judge it as an event; now is the clock. err is why the row is bad; if there is no row, it is what
// reading ended with, and r.text is nil.
func (s *source) next(now func() time.Time) (r row, e event, err error) {
	if s.table != nil {
		var fields [][]byte
		for again := true; again; {
			if r, fields, err = s.table.next(); err != nil {
				return r, e, err
			}
			if again = isHeaderRow(fields); again && !s.table.sameHeader(fields) {
				s.lines.number = r.line
				return row{}, e, errors.New("there is a header again, and another: give the files that were joined one by one")
			}
		}
		e, err = s.table.event(fields, now())
	} else if r, err = s.lines.next(); err == nil {
		if r.tooLong {
			return r, e, errTooLong
		}
		decoded := consumer.Decode(consumer.Record{Value: r.text}, now())
		e, err = event{[]byte(decoded.Report), []byte(decoded.Peer), decoded.ReadTime}, decoded.Invalid
	}
	if errors.Is(err, consumer.ErrNoTime) {
		err = nil
	}
	return r, e, err
}
