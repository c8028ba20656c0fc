package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"markread/imclient"
)

// Faults are the server's current faults. The zero Faults: none.
type Faults struct {
	// Latency of every response, also of a rule's.
	Latency Latency
	// Rules; the first one that matches a call applies.
	Rules []Rule
	// Seed of all selections. The same seed and rules select the same conversations.
	Seed uint64
	// Rate replaces Options.Rate unless it is 0. It simulates a stricter server, or other programs
	// that use the app's quota.
	Rate int
	// Skew is how far the server's clock is ahead: in the Date header, for signatures' expiry, and
	// for messages, but not for arrivals.
	Skew time.Duration
}

// Latency is the duration until a response: uniformly distributed from Min to Max (no Max: Min), or
// log-normal with the median P50 and the 99th percentile P99, limited to Max (no Max: to an hour).
type Latency struct {
	Min, Max time.Duration
	P50, P99 time.Duration
}

// Kind is the effect of a rule on a call.
type Kind string

// The kinds. KindCode is a response of the API, after signature and limit; the others simulate the
// wire or a gateway before it.
const (
	KindCode       Kind = "code"        // Code, with HTTP Status (0: 200) and RetryAfter
	KindStatus     Kind = "status"      // HTTP status Status with an HTML page and RetryAfter
	KindRedirect   Kind = "redirect"    // HTTP status Status (0: 302) to To
	KindReset      Kind = "reset"       // the connection is reset, without a response
	KindHang       Kind = "hang"        // nothing, until the client disconnects
	KindCut        Kind = "cut"         // half of the response, then the connection is closed
	KindHalf       Kind = "half-json"   // half of the response, as if it were complete
	KindDrip       Kind = "drip"        // the response, one byte every Interval (0: 100 ms)
	KindGarbage    Kind = "garbage"     // bytes that are not text
	KindWrongTypes Kind = "wrong-types" // JSON whose ErrorCode is a string
	KindHuge       Kind = "huge"        // JSON with an ErrorInfo of Bytes bytes (0: 1 GiB)
	KindGzipBomb   Kind = "gzip-bomb"   // gzip: about Bytes (0: 1 GiB), compressed a thousandfold
	// KindEchoURL returns the request's URL, with the signature: with Code in ErrorInfo, else in a
	// page with Status (0: 502).
	KindEchoURL Kind = "echo-url"
)

// kinds lists all kinds, and the parameters of each in addition to the ones that every kind has.
var kinds = []struct {
	kind       Kind
	parameters []string
}{
	{KindCode, []string{"code", "status", "retry_after"}},
	{KindStatus, []string{"status", "retry_after"}},
	{KindRedirect, []string{"status", "to"}},
	{KindReset, nil},
	{KindHang, nil},
	{KindCut, nil},
	{KindHalf, nil},
	{KindDrip, []string{"interval"}},
	{KindGarbage, nil},
	{KindWrongTypes, nil},
	{KindHuge, []string{"bytes"}},
	{KindGzipBomb, []string{"bytes"}},
	{KindEchoURL, []string{"status", "code"}},
}

// Kinds returns all kinds.
func Kinds() []Kind {
	list := make([]Kind, len(kinds))
	for i, k := range kinds {
		list[i] = k.kind
	}
	return list
}

// Rule is one fault: its effect (Kind and its parameters), the calls it affects (Share,
// Conversations, Report, Peer), and its time (For, Every).
type Rule struct {
	Kind       Kind          `json:"kind"`
	Code       int           `json:"code,omitempty"`        // 1 to 999,999
	Status     int           `json:"status,omitempty"`      // 200 to 599
	RetryAfter string        `json:"retry_after,omitempty"` // header, verbatim: seconds or a date
	To         string        `json:"to,omitempty"`          // a URL
	Bytes      int64         `json:"bytes,omitempty"`       // at most 16 GiB
	Interval   time.Duration `json:"-"`                     // at most an hour
	// Apply: a valid call is applied first, and then the fault replaces the response: the response
	// is lost, not the call.
	Apply bool `json:"apply,omitempty"`

	Share float64 `json:"-"` // of the calls, at most 1; 0: all
	// share of the conversations, always the same ones, at most 1; 0: all
	Conversations float64 `json:"-"`
	Report        string  `json:"report,omitempty"` // only this account; empty: any
	Peer          string  `json:"peer,omitempty"`   // only this account; empty: any

	For   time.Duration `json:"-"` // how long after SetFaults; 0: until the faults change
	Every time.Duration `json:"-"` // with For: active for For at the beginning of each Every
}

// SetFaults replaces all faults, beginning with the next call; calls that are in a fault stay in
// it. It returns an error and changes nothing if f is invalid: an unknown kind, a field that the
// kind does not use, a number out of range.
func (s *Server) SetFaults(f Faults) error {
	if err := f.check(); err != nil {
		return err
	}
	f.Rules = slices.Clone(f.Rules)
	s.faults.Store(&activeFaults{Faults: f, since: time.Now()})
	return nil
}

// Faults returns the last argument of SetFaults, including rules whose time is over.
func (s *Server) Faults() Faults {
	f := s.faults.Load().Faults
	f.Rules = slices.Clone(f.Rules)
	return f
}

func (f Faults) check() error {
	if f.Rate < 0 {
		return errors.New("rate must not be negative")
	}
	if len(f.Rules) > maxRules {
		return fmt.Errorf("more than %d rules", maxRules)
	}
	if err := f.Latency.check(); err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	for i, r := range f.Rules {
		if err := r.check(); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
	}
	return nil
}

func (l Latency) check() error {
	for _, d := range []time.Duration{l.Min, l.Max, l.P50, l.P99} {
		if d < 0 || d > maxLatency {
			return fmt.Errorf("must be between 0 and %v", maxLatency)
		}
	}
	switch {
	case (l.P50 > 0) != (l.P99 > 0):
		return errors.New("p50 and p99 go together")
	case l.P99 < l.P50:
		return errors.New("p99 is below p50")
	case l.P50 > 0 && l.Min > 0:
		return errors.New("min can't be combined with p50 and p99")
	case l.P50 == 0 && l.Max > 0 && l.Max < l.Min:
		return errors.New("max is below min")
	}
	return nil
}

func (r Rule) check() error {
	index := slices.Index(Kinds(), r.Kind)
	if index < 0 {
		list := strings.Trim(fmt.Sprint(Kinds()), "[]")
		return fmt.Errorf("unknown kind %q; the kinds are %s", truncate(string(r.Kind)), list)
	}
	allowed := kinds[index].parameters
	for _, p := range []struct {
		name string
		set  bool
	}{
		{"code", r.Code != 0}, {"status", r.Status != 0}, {"retry_after", r.RetryAfter != ""},
		{"to", r.To != ""}, {"bytes", r.Bytes != 0}, {"interval", r.Interval != 0},
	} {
		if p.set && !slices.Contains(allowed, p.name) {
			return fmt.Errorf("kind %q has no %s", r.Kind, p.name)
		}
	}
	switch {
	case r.Kind == KindCode && r.Code == 0:
		return errors.New(`kind "code" needs a code`)
	case r.Code < 0 || r.Code > 999_999:
		return errors.New("code must be between 1 and 999999")
	case r.Kind == KindStatus && r.Status == 0:
		return errors.New(`kind "status" needs a status`)
	case r.Status != 0 && (r.Status < 200 || r.Status > 599):
		return errors.New("status must be between 200 and 599")
	case r.Kind == KindRedirect && r.To == "":
		return errors.New(`kind "redirect" needs a to`)
	case r.Bytes < 0 || r.Bytes > 16<<30:
		return errors.New("bytes must be between 1 and 17179869184")
	case r.Interval < 0 || r.Interval > maxLatency:
		return fmt.Errorf("interval must be between 0 and %v", maxLatency)
	case !(r.Share >= 0 && r.Share <= 1): // written so that NaN is refused, too
		return errors.New("share must be above 0 and at most 1")
	case !(r.Conversations >= 0 && r.Conversations <= 1):
		return errors.New("conversations must be above 0 and at most 1")
	case r.For < 0 || r.Every < 0:
		return errors.New("for and every must not be negative")
	case r.Every > 0 && (r.For == 0 || r.For >= r.Every):
		return errors.New("every needs a shorter for")
	}
	return nil
}

// kind returns the rule's kind; "" for a nil rule.
func (r *Rule) kind() Kind {
	if r == nil {
		return ""
	}
	return r.Kind
}

// response returns the response of a rule of kind "code".
func (r *Rule) response() response {
	info := "a fault of the sandbox"
	if code, known := imclient.LookUp(r.Code); known {
		info = code.Meaning
	}
	a := failure(r.Code, info)
	a.status, a.retryAfter = r.Status, r.RetryAfter
	return a
}
