package overview

import (
	"math"
	"time"

	"markread/worker/console/sample"
)

const (
	rateOver  = 30 * time.Second // rates are of the last half minute
	trendOver = time.Minute
	thinnedTo = 4500 * time.Millisecond // between two kept samples
	staleAt   = sample.MaxGap           // an older sample says nothing about now
	// codeBefore is how long before a hold the failures that cause it may be.
	codeBefore = time.Minute
)

// track is what is remembered of a member.
type track struct {
	now    *sample.Member   // the latest sample; nil: it is silent
	last   *sample.Member   // the latest sample, also of a silent member
	window []*sample.Member // earlier samples, oldest first, without what is not needed

	codes       map[string]noted // the latest failure of each result
	paused      [sample.Lanes]time.Time
	slowed      bool      // the server refuses calls
	fullSince   time.Time // since when the limit is the whole share; zero: it is less
	silentSince time.Time // zero: it responds
	silentShown bool
}

// noted is a code, and when it was seen last.
type noted struct {
	code string
	at   time.Time
}

// codeOf returns the code that explains a hold; "": not known. A code from long before the hold is
// another failure's: invalid events have none.
func (t *track) codeOf(h Hold) string {
	latest := t.codes[resultOf[h.Reason]]
	if h.Since.Sub(latest.at) > codeBefore {
		return ""
	}
	return latest.code
}

// update adds a sample, and returns the one from which its counters increased; nil: there is none.
func (t *track) update(at time.Time, m *sample.Member) *sample.Member {
	if m != nil && at.Sub(m.At) > staleAt {
		m = nil
	}
	t.now = m
	if m == nil || t.last != nil && m.At.Equal(t.last.At) {
		return nil
	}
	prev := t.last
	t.last = m
	base := sample.Base(prev, m)
	if base == nil || base != prev { // nothing before it can be compared
		t.window = t.window[:0]
		if base != nil {
			t.window = append(t.window, base)
		}
	}
	for len(t.window) > 0 && m.At.Sub(t.window[0].At) > trendOver+thinnedTo {
		t.window = t.window[1:]
	}
	if n := len(t.window); n == 0 || m.At.Sub(t.window[n-1].At) >= thinnedTo {
		kept := *m
		kept.Partitions, kept.Settings, kept.Held, kept.Letters = nil, nil, nil, nil
		t.window = append(t.window, &kept)
	}
	if base != nil {
		t.noteCodes(base, m)
	}
	for lane, l := range m.Lanes {
		if l.Paused {
			t.paused[lane] = at
		}
	}
	return base
}

// noteCodes notes the most frequent code of each result since the last sample.
func (t *track) noteCodes(base, m *sample.Member) {
	most := map[string]float64{}
	for code, n := range m.CallCodes {
		increase := sample.Increase(base.CallCodes[code], n)
		if increase > most[code.Class] ||
			increase > 0 && increase == most[code.Class] && code.Code < t.codes[code.Class].code {
			most[code.Class], t.codes[code.Class] = increase, noted{code.Code, m.At}
		}
	}
}

// since returns the oldest kept sample of a span of time; nil if it is too new to compare with.
func (t *track) since(span, least time.Duration) *sample.Member {
	if t.now == nil {
		return nil
	}
	for _, m := range t.window {
		if age := t.now.At.Sub(m.At); age <= span+thinnedTo/2 {
			if age < least {
				return nil
			}
			return m
		}
	}
	return nil
}

// rate returns how much a counter increases a second; NaN if that is not known.
func (t *track) rate(counter func(*sample.Member) float64) float64 {
	return t.rateOf(counter, rateOver)
}

// rateOf is rate over a span of time.
func (t *track) rateOf(counter func(*sample.Member) float64, span time.Duration) float64 {
	base := t.since(span, thinnedTo)
	if base == nil {
		return math.NaN()
	}
	increase := counter(t.now) - counter(base)
	if increase < 0 {
		return math.NaN()
	}
	return increase / t.now.At.Sub(base.At).Seconds()
}

// The counters whose rates are shown. One that is not known makes the sum unknown.

func calls(m *sample.Member) float64 {
	sum := 0.0
	for _, n := range m.Calls {
		sum += n
	}
	return sum
}

func successes(m *sample.Member) float64 { return m.Calls[0] }

func received(m *sample.Member) float64 { return m.Lanes[0].Received + m.Lanes[1].Received }

func finished(m *sample.Member) float64 {
	sum := 0.0
	for _, l := range m.Lanes {
		for _, n := range l.Finished {
			sum += n
		}
	}
	return sum
}

// The gauges.

func conversations(m *sample.Member) float64 {
	return m.Lanes[0].Conversations + m.Lanes[1].Conversations
}

func events(m *sample.Member) float64 { return m.Lanes[0].Events + m.Lanes[1].Events }

// opt returns v for JSON; nil if it is not known.
func opt(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// known returns v, and 0 if it is not known.
func known(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// finite replaces numbers in parameters that JSON can't have.
func finite(params map[string]any) {
	for name, v := range params {
		if f, ok := v.(float64); ok && opt(f) == nil {
			params[name] = nil
		}
	}
}

// total sums what is known. It is NaN if nothing is.
type total struct {
	sum   float64
	known bool
}

func (t *total) add(v float64) {
	if !math.IsNaN(v) {
		t.sum, t.known = t.sum+v, true
	}
}

func (t total) value() float64 {
	if !t.known {
		return math.NaN()
	}
	return t.sum
}

// latch is a condition that must hold for a while before it counts, and fail for a while before it
// no longer does, so that the sentence does not flap.
type latch struct {
	on, off time.Duration
	active  bool
	since   time.Time // since when the condition differs from active; zero: it does not
}

func (l *latch) update(at time.Time, condition bool) bool {
	if condition == l.active {
		l.since = time.Time{}
		return l.active
	}
	if l.since.IsZero() || l.since.After(at) {
		l.since = at
	}
	wait := l.on
	if l.active {
		wait = l.off
	}
	if at.Sub(l.since) >= wait {
		l.active, l.since = condition, time.Time{}
	}
	return l.active
}
