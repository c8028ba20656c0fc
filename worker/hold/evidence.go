package hold

import (
	"fmt"
	"time"

	"markread/imclient"
)

const (
	recentCalls  = 20          // an outage is judged by so many calls,
	recentFailed = 16          // of which so many (80 %) failed transiently,
	recentOwners = 5           // those of at least so many conversations;
	silentCalls  = 5           // or by so many in a row that got no ErrorCode,
	silentFor    = time.Second // over so long: of many calls a second, five fail in a row by chance

	rejectionWindow    = 500    // so many ends of a lane are judged together,
	rejectionCalls     = 25     // of which so many must be calls, unless the records themselves are bad
	acceptedRejections = 10_000 // what an operator accepts at a time
)

// callEvidence is what the last calls say about the service.
type callEvidence struct {
	recent []recentCall // oldest first
	silent int          // how many of the last in a row got no ErrorCode
	since  time.Time    // when the first of them ended
}

type recentCall struct {
	id     string
	failed bool
}

func (e *callEvidence) note(now time.Time, id string, err *imclient.Error) {
	failed := err != nil && err.Class == imclient.Transient
	if len(e.recent) == recentCalls {
		e.recent = append(e.recent[:0], e.recent[1:]...)
	}
	e.recent = append(e.recent, recentCall{id, failed})
	if !failed || err.ErrorCode != 0 {
		e.silent = 0
		return
	}
	if e.silent == 0 {
		e.since = now
	}
	e.silent++
}

// outage says why the last calls look like an outage, or nothing. last is the failure that was noted last.
func (e *callEvidence) outage(now time.Time, last *imclient.Error) string {
	if e.silent >= silentCalls && now.Sub(e.since) >= silentFor {
		return fmt.Sprintf("%d calls in a row got no ErrorCode, the last: %s", e.silent, last.Seen())
	}
	if len(e.recent) < recentCalls {
		return ""
	}
	failed, owners := 0, map[string]bool{}
	for _, c := range e.recent {
		if c.failed {
			failed++
			owners[c.id] = true
		}
	}
	if failed < recentFailed || len(owners) < recentOwners {
		return ""
	}
	return fmt.Sprintf("%d of the last %d calls failed, the last: %s", failed, recentCalls, last.Seen())
}

// End is how an event of a lane ended, as evidence.
type End uint8

// The ends.
const (
	Called   End = iota // by a call that was not rejected
	Rejected            // by a call that was rejected
	Invalid             // without a call: the record is no event
	ends
)

// rejectionEvidence is what the last ends of a lane say about its events. Calls end slower than records are
// read: after a start with a backlog of which one in a hundred is invalid, hundreds of invalid records end
// before the first call does. So it is not enough that almost all ends were bad. Either almost all records
// that were read must be invalid, or there must be enough calls among the ends, and almost all of them
// rejected.
type rejectionEvidence struct {
	last     ring      // ends
	count    [ends]int // of them
	records  ring      // 1: invalid
	invalid  int       // of them
	accepted int       // so many bad ends more bring no hold
}

// ring keeps the last rejectionWindow values.
type ring struct {
	values  [rejectionWindow]uint8
	n, next int
}

// put adds a value and returns the one that it replaces, if any.
func (r *ring) put(value uint8) (old uint8, full bool) {
	old, full = r.values[r.next], r.n == rejectionWindow
	r.values[r.next] = value
	r.next = (r.next + 1) % rejectionWindow
	r.n = min(r.n+1, rejectionWindow)
	return old, full
}

// read takes in a record that was read.
func (e *rejectionEvidence) read(invalid bool) {
	value := uint8(0)
	if invalid {
		value = 1
	}
	e.invalid += int(value)
	if old, full := e.records.put(value); full {
		e.invalid -= int(old)
	}
}

func (e *rejectionEvidence) bad() int { return e.count[Rejected] + e.count[Invalid] }

// ended takes in an end, and says whether the last 500 make a hold when so many per cent of them are too many.
func (e *rejectionEvidence) ended(as End, percent int) bool {
	e.count[as]++
	if old, full := e.last.put(uint8(as)); full {
		e.count[old]--
	}
	if e.last.n < rejectionWindow {
		return false
	}
	tooMany := func(bad, all int) bool { return bad*100 >= percent*all }
	if !tooMany(2*e.bad(), rejectionWindow) {
		e.accepted = 0 // they were for this story, which is over
	}
	if !tooMany(e.bad(), rejectionWindow) {
		return false
	}
	calls := e.count[Called] + e.count[Rejected]
	records := e.records.n == rejectionWindow && tooMany(e.invalid, rejectionWindow)
	if as == Called || !records && (calls < rejectionCalls || !tooMany(e.count[Rejected], calls)) {
		return false
	}
	if e.accepted > 0 {
		e.accepted--
		return e.accepted == 0
	}
	return true
}
