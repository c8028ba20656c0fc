//go:build exam && unix

package kit

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Arrival is one call as the recorder saw it.
type Arrival struct {
	At int64 `json:"at"` // nanoseconds since the recorder started, monotonic: for windows
	// nanoseconds since 1970: to compare with times from other processes
	Wall  int64  `json:"wall"`
	Admin string `json:"admin"` // the account that signed: it identifies the worker
	Event
	Code     int  `json:"code"`
	Answered bool `json:"answered"`
	// the connection ended before the whole call was read: it has no accounts, and was not applied
	Truncated bool `json:"cut"`
}

// recorder is a minimal IM server: it records the arrival of each call, limits by an exact sliding
// window, and responds after a fixed latency. A call for an account named reject-CODE-… gets that
// ErrorCode. It shares no code with the product's sandbox.
type recorder struct {
	began time.Time
	// a call with at least this many arrivals in the second before it gets 60007; 0: no limit
	rate    int
	latency time.Duration

	mu           sync.Mutex
	arrivals     []Arrival
	countByAdmin map[string]int // number of arrivals by the account that signed
	violations   []string       // calls that differ from the vendor's documentation
}

func runRecorder(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("recorder", flag.ExitOnError)
	r := &recorder{began: time.Now(), countByAdmin: map[string]int{}}
	flags.IntVar(&r.rate, "rate", 0, "")
	flags.DurationVar(&r.latency, "latency", 0, "")
	_ = flags.Parse(args)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v4/openim/admin_set_msg_read", r.serveCall)
	mux.HandleFunc("GET /arrivals", r.serveArrivals)
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprint(w, len(r.arrivals))
	})
	mux.HandleFunc("GET /count/{admin}", func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprint(w, r.countByAdmin[req.PathValue("admin")])
	})
	mux.HandleFunc("GET /wrong", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprint(w, strings.Join(r.violations, "\n"))
	})
	fmt.Fprintln(stdout, "listening on", listener.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(listener, mux))
	return 1
}

// addArrival takes the time under the lock, so that arrivals are in the order of their times and
// the window is exact. It returns the index of the arrival.
func (r *recorder) addArrival(admin string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	a := Arrival{At: int64(now.Sub(r.began)), Wall: now.UnixNano(), Admin: admin}
	if n := len(r.arrivals); r.rate > 0 && n >= r.rate &&
		a.At-r.arrivals[n-r.rate].At < int64(time.Second) {
		a.Code = 60007
	}
	r.arrivals = append(r.arrivals, a)
	r.countByAdmin[admin]++
	return len(r.arrivals) - 1
}

func (r *recorder) serveCall(w http.ResponseWriter, req *http.Request) {
	i := r.addArrival(req.URL.Query().Get("identifier"))
	var body struct {
		Report  string          `json:"Report_Account"`
		Peer    string          `json:"Peer_Account"`
		ReadRaw json.RawMessage `json:"MsgReadTime"`
	}
	raw, err := io.ReadAll(io.LimitReader(req.Body, 1<<16))
	if err != nil { // it has arrived, but the client was killed or has timed out
		r.mu.Lock()
		r.arrivals[i].Truncated = true
		r.mu.Unlock()
		return
	}
	err = json.Unmarshal(raw, &body)
	readTime, why := checkCall(req, body.ReadRaw)
	if err != nil {
		why = err.Error()
	}
	r.mu.Lock()
	a := &r.arrivals[i]
	a.Report, a.Peer, a.ReadTime = body.Report, body.Peer, readTime
	if why != "" && len(r.violations) < 20 {
		r.violations = append(r.violations, why)
	}
	if rest, ok := strings.CutPrefix(body.Report, "reject-"); ok && a.Code == 0 {
		code, _, _ := strings.Cut(rest, "-")
		a.Code, _ = strconv.Atoi(code)
	}
	code := a.Code
	r.mu.Unlock()

	time.Sleep(r.latency)
	status := "OK"
	if code != 0 {
		status = "FAIL"
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = fmt.Fprintf(w, `{"ActionStatus":%q,"ErrorInfo":"","ErrorCode":%d}`, status, code)
	r.mu.Lock()
	r.arrivals[i].Answered = err == nil
	r.mu.Unlock()
}

// checkCall returns the read time, and how the call differs from the vendor's documentation.
func checkCall(req *http.Request, readTime json.RawMessage) (int64, string) {
	query := req.URL.Query()
	for _, name := range []string{"sdkappid", "identifier", "usersig", "random", "contenttype"} {
		if query.Get(name) == "" {
			return 0, "no " + name + " in the query"
		}
	}
	if _, err := strconv.ParseUint(query.Get("random"), 10, 32); err != nil {
		return 0, "random is not a 32-bit number: " + query.Get("random")
	}
	if req.Method != http.MethodPost || query.Get("contenttype") != "json" || req.ProtoMajor != 1 {
		return 0, "not a POST of JSON over HTTP/1.1"
	}
	var text string
	if err := json.Unmarshal(readTime, &text); err != nil {
		return 0, "MsgReadTime is not a string: " + string(readTime)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, "MsgReadTime is not a decimal string: " + text
	}
	return n, ""
}

func (r *recorder) serveArrivals(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	copied := append([]Arrival(nil), r.arrivals...)
	r.mu.Unlock()
	out := bufio.NewWriter(w)
	defer out.Flush()
	enc := json.NewEncoder(out)
	for _, a := range copied {
		_ = enc.Encode(a)
	}
}

// Recorder is a process in the role of the recorder.
type Recorder struct {
	*Proc
	URL string
}

// StartRecorder starts a recorder. The test fails if a call differs from the vendor's
// documentation.
func StartRecorder(t *testing.T, args ...string) *Recorder {
	t.Helper()
	p := Start(t, "recorder", "recorder", nil, args...)
	im := &Recorder{p, "http://" + p.Line(t, `listening on (\S+)`, 10*time.Second)[1]}
	t.Cleanup(func() {
		if wrong := Get(t, im.URL+"/wrong"); wrong != "" {
			t.Errorf("calls that differ from the documentation:\n%s", wrong)
		}
	})
	return im
}

// Count returns the number of calls so far.
func (im *Recorder) Count(t *testing.T) int { return im.CountBy(t, "") }

// CountBy returns how many calls an account has signed; "": all accounts.
func (im *Recorder) CountBy(t *testing.T, admin string) int {
	t.Helper()
	n, err := strconv.Atoi(Get(t, strings.TrimSuffix(im.URL+"/count/"+admin, "/")))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// WaitApplied waits until each event's conversation has a successful call with a T at least as
// large.
func (im *Recorder) WaitApplied(t *testing.T, events []Event, within time.Duration) {
	t.Helper()
	want := Largest(events)
	missing := 0
	defer func() {
		if t.Failed() {
			t.Logf("%d of %d conversations are not applied", missing, len(want))
		}
	}()
	Wait(t, "the events are applied", within, func() bool {
		got := ReadTimes(im.Arrivals(t))
		missing = 0
		for conversation, readTime := range want {
			if got[conversation] < readTime {
				missing++
			}
		}
		return missing == 0
	})
}

// Arrivals returns all calls so far, in the order of their arrival.
func (im *Recorder) Arrivals(t *testing.T) []Arrival {
	t.Helper()
	return getStream[Arrival](t, im.URL+"/arrivals")
}

// CallStats describes the rate of calls.
type CallStats struct {
	Calls     int
	Throttled int
	MostIn1s  int           // arrivals in the fullest window of 1.000 s, wherever it begins
	Span      time.Duration // from the first arrival to the last
	PerSecond float64       // calls after the first, divided by Span
}

// MostIn1s returns how many of the ordered items lie in the fullest window of 1.000 s, wherever it
// begins. between returns the time from a to b.
func MostIn1s[T any](of []T, between func(a, b T) time.Duration) int {
	most, first := 0, 0
	for last := range of {
		for between(of[first], of[last]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// MeasureCalls returns the statistics of the arrivals, which must be in order.
func MeasureCalls(arrivals []Arrival) CallStats {
	out := CallStats{Calls: len(arrivals), MostIn1s: MostIn1s(arrivals,
		func(a, b Arrival) time.Duration { return time.Duration(b.At - a.At) })}
	for _, a := range arrivals {
		if a.Code == 60007 {
			out.Throttled++
		}
	}
	if n := len(arrivals); n > 1 {
		out.Span = time.Duration(arrivals[n-1].At - arrivals[0].At)
		out.PerSecond = float64(n-1) / out.Span.Seconds()
	}
	return out
}

func (m CallStats) String() string {
	return fmt.Sprintf("%d calls in %.3f s, %.1f/s, at most %d in any 1.000 s, %d times 60007",
		m.Calls, m.Span.Seconds(), m.PerSecond, m.MostIn1s, m.Throttled)
}

// Conversation identifies a conversation in the exam's models.
type Conversation struct {
	Report string `json:"report"`
	Peer   string `json:"peer"`
}

func (c Conversation) Key() []byte { return []byte(c.Report + "|" + c.Peer) }
