package backfill

import (
	"time"

	"markread/consumer"
)

// event is a valid row. The accounts are valid until the next row is read.
type event struct {
	report, peer []byte
	readTime     int64
}

// next reads a row and judges it as the worker would judge it as an event; standIn is the read time of a row that has none, now the clock. err is why the row is
// bad; if there is no row, it is what reading ended with, and r.text is nil.
func (s *source) next(standIn time.Time, now func() time.Time) (r row, e event, err error) {
	if s.table != nil {
		r, fields, err := s.table.next()
		if err == nil {
			e, err = s.table.event(fields, standIn, now())
		}
		return r, e, err
	}
	r, err = s.lines.next()
	switch {
	case err != nil:
		return r, e, err
	case r.tooLong:
		return r, e, errTooLong
	}
	decoded := consumer.Decode(consumer.Record{Value: r.text, Time: standIn}, now())
	return r, event{[]byte(decoded.Report), []byte(decoded.Peer), decoded.ReadTime}, decoded.Invalid
}
