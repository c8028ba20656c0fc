package sandbox

import (
	"maps"
	"strings"
	"sync"
	"time"
)

// Arrival is one call of admin_set_msg_read, as the log keeps it.
type Arrival struct {
	// At is when the handler began. Differences between arrivals are exact.
	At time.Time `json:"at"`
	// Report and Peer are the accounts as sent, cut to 64 bytes; empty until the body was read, or
	// if it had none.
	Report string `json:"report"`
	Peer   string `json:"peer"`
	// ReadTime is MsgReadTime in seconds since 1970, or the time of the call if it had none.
	ReadTime int64 `json:"read_time"`
	// Encoding is how MsgReadTime came.
	Encoding Encoding `json:"encoding"`
	// Applied: the call succeeded at the server, whatever the client heard of it.
	Applied bool `json:"applied"`
	// Code is the answer's ErrorCode; -1: an answer without one, no answer, or none yet.
	Code int `json:"code"`
	// Status is the answer's HTTP status; 0: no answer, or none yet.
	Status int `json:"status"`
	// Fault is the kind of the fault that it met; empty: none.
	Fault Kind `json:"fault"`
}

// Encoding is how a call carried MsgReadTime.
type Encoding string

// The encodings. Text is the documented one.
const (
	EncodingUnknown Encoding = ""        // the body was not understood
	EncodingText    Encoding = "string"  // "1700000000"
	EncodingInteger Encoding = "integer" // 1700000000
	EncodingAbsent  Encoding = "absent"  // no field, or null
	EncodingInvalid Encoding = "invalid" // anything else
)

// Stats are totals since New. Those of calls are of admin_set_msg_read only.
type Stats struct {
	Calls        int64              `json:"calls"`          // arrivals
	InFlight     int                `json:"in_flight"`      // arrived, handler not at its end
	Applied      int64              `json:"applied"`        // carried out
	Codes        map[int]int64      `json:"codes"`          // answers by ErrorCode; 0: success
	Faults       map[Kind]int64     `json:"faults"`         // calls that met a fault
	Encodings    map[Encoding]int64 `json:"encodings"`      // calls by the form of MsgReadTime
	MaxPerSecond int                `json:"max_per_second"` // the most arrivals in any one second
	LastSecond   int                `json:"last_second"`    // arrivals in the last second
	Forgotten    int64              `json:"forgotten"`      // arrivals that the log no longer has

	Conversations int `json:"conversations"` // with a read pointer
	Unread        int `json:"unread"`        // messages
	Accounts      int `json:"accounts"`      // imported
}

// journal stamps and logs arrivals, and counts.
type journal struct {
	start time.Time // never changes

	mu     sync.Mutex
	log    []Arrival // a ring once it is full: call number i is at (i-1) % maxArrivals
	recent int64     // the number of the oldest call of the last second, or of the next call
	totals Stats     // without what the log and the store know
}

func newJournal() *journal {
	return &journal{start: time.Now(), recent: 1, totals: Stats{
		Codes: map[int]int64{}, Faults: map[Kind]int64{}, Encodings: map[Encoding]int64{},
	}}
}

// arrive stamps a call, and returns its number, from 1, and how many came within the second that
// ends with it.
func (j *journal) arrive() (number int64, inSecond int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at := j.now() // under the lock, so that the log is in the order of its stamps
	j.totals.Calls++
	j.totals.InFlight++
	a := Arrival{At: at, Code: -1}
	if len(j.log) < maxArrivals {
		j.log = append(j.log, a)
	} else {
		j.log[(j.totals.Calls-1)%maxArrivals] = a
	}
	inSecond = j.lastSecond(at)
	j.totals.MaxPerSecond = max(j.totals.MaxPerSecond, inSecond)
	return j.totals.Calls, inSecond
}

// now is the time by the monotonic clock; the wall clock is read once, in New.
func (j *journal) now() time.Time { return j.start.Add(time.Since(j.start)) }

// lastSecond returns how many calls came in (t - 1 s, t], as far as the log goes back: two calls
// exactly 1.000 s apart share no second. As every second that holds some calls can be moved back
// until it ends with the last of them, the largest number at an arrival is that of any second. t is
// not before any earlier one. The lock is held.
func (j *journal) lastSecond(t time.Time) int {
	for ; j.recent <= j.totals.Calls; j.recent++ {
		if a := j.entry(j.recent); a != nil && t.Sub(a.At) < time.Second {
			break
		}
	}
	return int(j.totals.Calls - j.recent + 1)
}

// entry is the log's place of a call, or nil if the log has forgotten it. The lock is held.
func (j *journal) entry(number int64) *Arrival {
	if number <= j.totals.Calls-maxArrivals {
		return nil
	}
	return &j.log[(number-1)%maxArrivals]
}

// note adds what is known of a call before it is answered.
func (j *journal) record(number int64, read readRequest, applied bool, fault Kind) {
	report, peer := truncate(read.report), truncate(read.peer)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.totals.Encodings[read.encoding]++
	if applied {
		j.totals.Applied++
	}
	if fault != "" {
		j.totals.Faults[fault]++
	}
	if a := j.entry(number); a != nil {
		a.Report, a.Peer, a.ReadTime, a.Encoding = report, peer, read.time, read.encoding
		a.Applied, a.Fault = applied, fault
	}
}

// answered adds a call's answer; code -1 is one without an ErrorCode. In Stats, -1 stands for all
// codes beyond the first 1,000.
func (j *journal) recordResponse(number int64, status, code int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a := j.entry(number); a != nil {
		a.Status, a.Code = status, code
	}
	if code < 0 {
		return
	}
	if _, known := j.totals.Codes[code]; !known && len(j.totals.Codes) >= maxCodes {
		code = -1
	}
	j.totals.Codes[code]++
}

func (j *journal) finish() {
	j.mu.Lock()
	j.totals.InFlight--
	j.mu.Unlock()
}

// newest returns the last n calls of the log, or as many as it has, oldest first.
func (j *journal) newest(n int) []Arrival {
	j.mu.Lock()
	defer j.mu.Unlock()
	n = min(n, len(j.log))
	list := make([]Arrival, 0, n)
	for number := j.totals.Calls - int64(n) + 1; number <= j.totals.Calls; number++ {
		list = append(list, *j.entry(number))
	}
	return list
}

func (j *journal) stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.totals
	s.Codes, s.Faults = maps.Clone(s.Codes), maps.Clone(s.Faults)
	s.Encodings = maps.Clone(s.Encodings)
	s.LastSecond = j.lastSecond(j.now())
	s.Forgotten = s.Calls - int64(len(j.log))
	return s
}

// cut bounds what the log keeps of an account. The copy lets the request's memory go.
func truncate(account string) string {
	if len(account) > maxLoggedBytes {
		return strings.Clone(account[:maxLoggedBytes])
	}
	return account
}
