package imclient_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
)

const year = 365 * 24 * time.Hour

// absurd are Dates that no clock shows, or no correct one.
var absurd = []string{
	"Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT",
	"Thu, 01 Jan 1970 00:00:01 GMT",
	"Tue, 31 Dec 1968 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT",
	"Sat, 01 Jan 0000 00:00:00 GMT",
	"Mon, 18 Jan 2038 03:14:08 GMT", "Sun, 07 Feb 2106 06:28:16 GMT",
}

// clockServer sends a Date, and verifies signatures strictly by a clock that may differ from it: it
// also refuses signatures of the future.
type clockServer struct {
	date    func() string
	clock   func() time.Time
	code    int    // instead of 0
	refused []int  // 70001: expired; 70003: of the future
	bad     string // a signature that can't be verified at all
}

func (s *clockServer) respond(r *http.Request) (*http.Response, error) {
	header := http.Header{"Date": {s.date()}}
	claims, err := imclient.Verify(r.URL.Query().Get("usersig"), imclient.NewSecret(canary),
		s.clock())
	code := s.code
	switch {
	case errors.Is(err, imclient.ErrSigExpired):
		code = 70001
	case err != nil || claims.Lifetime != 24*time.Hour:
		s.bad = fmt.Sprint(claims, err)
	case claims.Issued.After(s.clock().Add(time.Minute)):
		code = 70003
	}
	if code == 70001 || code == 70003 {
		s.refused = append(s.refused, code)
	}
	return respond(200, header, apiResult(code, ""))
}

func dateOf(at time.Time) string { return at.UTC().Format(http.TimeFormat) }

// fixed is a Date that stands still; off is one with a constant error.
func fixed(date string) func() string { return func() string { return date } }
func off(by time.Duration) func() string {
	return func() string { return dateOf(time.Now().Add(by)) }
}

// A wrong Date (only the header is wrong here) is ignored: no call fails, and our clock keeps
// bounding T. The Date is used again once it is correct.
func TestWrongDateIsIgnored(t *testing.T) {
	wrong := map[string]func() string{
		"a year ahead": off(year), "a year behind": off(-year),
		"25 h ahead": off(25 * time.Hour), "25 h behind": off(-25 * time.Hour),
	}
	for _, date := range absurd {
		wrong[date] = fixed(date)
	}
	for name, date := range wrong {
		synctest.Test(t, func(t *testing.T) {
			s := &clockServer{date: date, clock: time.Now}
			c := offlineClient(t, withTransport(s.respond))
			calls := func(when string, ahead time.Duration) {
				t.Helper()
				for range 30 {
					if got := call(t, c); got != "ok" {
						t.Fatalf("%s, %s: %s", name, when, got)
					}
					if got := time.Until(c.Now()); got != ahead {
						t.Fatalf("%s, %s: Now is %v ahead of our clock, want %v", name, when, got,
							ahead)
					}
					time.Sleep(time.Hour)
				}
			}
			calls("from the start", 0)
			s.date = off(3 * time.Second)
			calls("right", 3*time.Second)
			s.date = date
			calls("wrong again", 3*time.Second) // the last plausible one still counts
			s.date = off(0)
			calls("right again", 0)
			if len(s.refused) > 0 || s.bad != "" {
				t.Errorf("%s: signatures were refused: %v %s", name, s.refused, s.bad)
			}
		})
	}
}

// Our clock, or the server's whole clock, is wrong: a refusal reveals it, and the same call
// succeeds with a new signature. The wrong clock does not bound T.
func TestClockSkewIsDetectedByRefusal(t *testing.T) {
	for _, by := range []time.Duration{year, -year, 25 * time.Hour, -25 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := &clockServer{date: off(by), clock: func() time.Time { return time.Now().Add(by) }}
			c := offlineClient(t, withTransport(s.respond))
			try := func(when string, want ...string) {
				t.Helper()
				for range 30 {
					want = append(want, "ok")
				}
				var got []string
				for range want {
					got = append(got, call(t, c))
					if ahead := time.Until(c.Now()); ahead != 0 {
						t.Errorf("%v, %s: Now is %v ahead of our clock", by, when, ahead)
					}
					time.Sleep(time.Hour)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%v, %s: %v", by, when, got)
				}
			}
			code := map[bool]string{true: "70001+", false: "70003+"}
			try("far from the start", code[by > 0])
			s.date, s.clock = off(0), time.Now
			try("right", code[by < 0])
			s.date, s.clock = off(by), func() time.Time { return time.Now().Add(by) }
			try("far again", code[by > 0])
		})
	}
}

// A revoked signature says nothing about its date.
func TestRevokedSignatureKeepsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &clockServer{date: off(year), clock: time.Now, code: 70052}
		c := offlineClient(t, withTransport(s.respond))
		first := call(t, c)
		s.code = 0
		if second := call(t, c); first != "70052+" || second != "ok" {
			t.Errorf("%s, then %s", first, second)
		}
	})
}

// Whatever a server's Date and Retry-After are, a pause is between zero and five minutes, and it is
// the requested one if any of the clocks makes it plausible.
func TestRetryAfterWithWrongDates(t *testing.T) {
	in := func(by time.Duration) string { return dateOf(time.Now().Add(by)) }
	synctest.Test(t, func(t *testing.T) {
		for _, v := range []struct {
			date, until string
			want        time.Duration
		}{
			{in(0), in(40 * time.Second), 40 * time.Second},
			{in(time.Hour), in(time.Hour + 40*time.Second), 40 * time.Second},
			{in(year), in(year + 40*time.Second), 40 * time.Second},
			{in(-year), in(40*time.Second - year), 40 * time.Second},
			{in(year), in(40 * time.Second), 40 * time.Second}, // only the Date is wrong
			{in(-year), in(40 * time.Second), 40 * time.Second},
			{in(0), in(year), 5 * time.Minute},
			{in(0), in(-year), 0},
		} {
			header := http.Header{"Date": {v.date}, "Retry-After": {v.until}}
			if got := retryAfterOf(t, always(429, header, "")); got != v.want {
				t.Errorf("Date %s, Retry-After %s: %v, want %v", v.date, v.until, got, v.want)
			}
		}
		for _, date := range absurd {
			header := http.Header{"Date": {date}, "Retry-After": {in(40 * time.Second)}}
			if got := retryAfterOf(t, always(429, header, "")); got != 40*time.Second {
				t.Errorf("Date %s: %v", date, got)
			}
			for _, status := range []int{200, 429} {
				header := http.Header{"Date": {date}, "Retry-After": {strconv.Itoa(40)}}
				if got := retryAfterOf(t,
					always(status, header, apiResult(60007, ""))); got != 40*time.Second {
					t.Errorf("Date %s, seconds: %v", date, got)
				}
			}
		}
	})
}
