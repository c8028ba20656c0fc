package sandbox

import (
	"maps"
	"strings"
	"sync"
	"time"
)

// Arrival is the log's entry for one call of admin_set_msg_read.
type Arrival struct {
	// At is when the handler began. Differences between arrivals are exact.
	At time.Time `json:"at"`
	// Report and Peer are the accounts as sent, truncated to 64 bytes; empty until the body is
	// read, or if it has none.
	Report string `json:"report"`
	Peer   string `json:"peer"`
	// ReadTime is MsgReadTime in seconds since 1970, or the time of the call if it is absent.
	ReadTime int64 `json:"read_time"`
	// Encoding is the form of MsgReadTime in the request.
	Encoding Encoding `json:"encoding"`
	// Applied: the call succeeded at the server, whatever response the client got.
	Applied bool `json:"applied"`
	// Code is the response's ErrorCode; -1: a response without one, no response, or none yet.
	Code int `json:"code"`
	// Status is the response's HTTP status; 0: no response, or none yet.
	Status int `json:"status"`
	// Fault is the kind of the fault that applied; empty: none.
	Fault Kind `json:"fault"`
}

// Encoding is the form in which a call sent MsgReadTime.
type Encoding string

// The encodings. EncodingText is the documented one.
const (
	EncodingUnknown Encoding = ""        // the body could not be parsed
	EncodingText    Encoding = "string"  // "1700000000"
	EncodingInteger Encoding = "integer" // 1700000000
	EncodingAbsent  Encoding = "absent"  // no field, or null
	EncodingInvalid Encoding = "invalid" // anything else
)

// Stats are totals since New. All counts of calls are of admin_set_msg_read only.
type Stats struct {
	Calls        int64              `json:"calls"`          // arrivals
	InFlight     int                `json:"in_flight"`      // arrived, handler not finished
	Applied      int64              `json:"applied"`        // succeeded at the server
	Codes        map[int]int64      `json:"codes"`          // responses by ErrorCode; 0: success
	Faults       map[Kind]int64     `json:"faults"`         // calls with a fault
	Encodings    map[Encoding]int64 `json:"encodings"`      // calls by the form of MsgReadTime
	MaxPerSecond int                `json:"max_per_second"` // the most arrivals in any one second
	LastSecond   int                `json:"last_second"`    // arrivals in the last second
	Forgotten    int64              `json:"forgotten"`      // arrivals that the log no longer has

	Conversations int `json:"conversations"` // with a read pointer
	Unread        int `json:"unread"`        // messages
	Accounts      int `json:"accounts"`      // imported
}

// journal stamps, logs and counts arrivals.
type journal struct {
	start time.Time // immutable

	mu     sync.Mutex
	log    []Arrival // a ring once it is full: call number i is at (i-1) % maxArrivals
	recent int64     // the number of the oldest call of the last second, or of the next call
	totals Stats     // without the values that the log and the store supply
}

func newJournal() *journal {
	return &journal{start: time.Now(), recent: 1, totals: Stats{
		Codes: map[int]int64{}, Faults: map[Kind]int64{}, Encodings: map[Encoding]int64{},
	}}
}

// arrive stamps a call. It returns the call's number, from 1, and how many calls arrived in the
// second that ends with it.
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

// now returns the time by the monotonic clock; the wall clock is read once, in New.
func (j *journal) now() time.Time { return j.start.Add(time.Since(j.start)) }

// lastSecond returns how many calls arrived in (t - 1 s, t], as far as the log goes back: two calls
// exactly 1.000 s apart are not in one second. Any second that contains calls can be moved back
// until it ends with the last of them, so the largest number at an arrival is the largest of any
// second. t must not be before any earlier one. The caller holds the lock.
func (j *journal) lastSecond(t time.Time) int {
	for ; j.recent <= j.totals.Calls; j.recent++ {
		if a := j.entry(j.recent); a != nil && t.Sub(a.At) < time.Second {
			break
		}
	}
	return int(j.totals.Calls - j.recent + 1)
}

// entry returns the log's entry of a call, or nil if the log has forgotten it. The caller holds the
// lock.
func (j *journal) entry(number int64) *Arrival {
	if number <= j.totals.Calls-maxArrivals {
		return nil
	}
	return &j.log[(number-1)%maxArrivals]
}

// record adds what is known of a call before its response.
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

// recordResponse adds a call's response; code -1 means without an ErrorCode. In Stats, -1 stands
// for all codes beyond the first 1,000.
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

// newest returns the last n calls of the log, or all of them if there are fewer, oldest first.
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

// truncate bounds the length of an account in the log. The copy lets the request's memory be freed.
func truncate(account string) string {
	if len(account) > maxLoggedBytes {
		return strings.Clone(account[:maxLoggedBytes])
	}
	return account
}
