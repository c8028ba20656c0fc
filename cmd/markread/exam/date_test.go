//go:build exam && unix

package exam

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// dateProxy forwards requests to the IM server and replaces the Date of its responses.
type dateProxy struct {
	url  string
	date atomic.Pointer[string] // nil: the server's own
}

func startDateProxy(t *testing.T, serverURL string) *dateProxy {
	t.Helper()
	to, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	d := &dateProxy{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		if date := d.date.Load(); date != nil {
			r.Header.Set("Date", *date)
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	d.url = server.URL
	return d
}

// shift makes the Date wrong by the duration.
func (d *dateProxy) shift(by time.Duration) {
	date := time.Now().Add(by).UTC().Format(http.TimeFormat)
	d.date.Store(&date)
}

// TestExamDate: the Date of the IM server is wrong by a year, in both directions, or absurd, and
// then correct again. Signatures are accepted, calls continue, and the T of an event is bounded by
// our clock.
func TestExamDate(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	dates := startDateProxy(t, sandbox.URL)
	w := kit.StartWorker(t, k, dates.url, "--attempts", "2")
	w.WaitReady(t)
	began := time.Now()
	flow := kit.StartTraffic(t, k, k.Live, "date", 100)
	phases := 0
	good, bad := []kit.Event{}, 0
	phase := func(name string) {
		t.Helper()
		applied := func(more int) {
			t.Helper()
			enough := sandbox.Stats(t).Applied + more
			kit.Wait(t, "calls while the Date is "+name, 10*time.Second, func() bool {
				return sandbox.Stats(t).Applied >= enough
			})
		}
		applied(60)
		phases++
		now := time.Now().Unix()
		c := kit.Conversations("future-"+name, 3)
		soon := kit.Event{Conversation: c[0], ReadTime: now + 4*60}
		late := now + int64((year - time.Hour).Seconds())
		kit.ProduceEvents(t, k, k.Live,
			[]kit.Event{soon, {Conversation: c[1], ReadTime: now + 10*60},
				{Conversation: c[2], ReadTime: late}})
		good, bad = append(good, soon), bad+2
		applied(60)
	}
	phase("right")
	for _, wrong := range []time.Duration{year, -year} {
		dates.shift(wrong)
		phase(wrong.String())
		dates.date.Store(nil)
		phase("right-after-" + wrong.String())
	}
	for _, absurd := range []string{"Fri, 31 Dec 9999 23:59:59 GMT",
		"Tue, 31 Dec 1968 23:59:59 GMT"} {
		dates.date.Store(&absurd)
		phase(absurd[12:16])
	}
	refused := sandbox.Stats(t).Codes["70001"]

	// Now the server's own clock is wrong, so signatures must be dated by it.
	dates.date.Store(nil)
	sandbox.SetFaults(t, `{"skew":"8760h"}`)
	phase("year-ahead")
	sandbox.SetFaults(t, `{"skew":"-8760h"}`)
	phase("year-behind")
	sandbox.SetFaults(t, `{}`)
	phase("right-at-last")
	events := append(flow.End(), good...)
	k.WaitCommitted(t, 20*time.Second, k.Live)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	letters := k.ReadAll(t, k.DeadLetters)
	begun, between, ended := w.HoldLogLines(t, "credentials")
	kit.Figure(t, "date", "%d events in %v at 100/s, %d phases: codes %v, %d dead letters of %d "+
		"events in the future, %d refusals before the server's own clock was wrong", len(events),
		time.Since(began).Round(time.Second), phases, sandbox.Stats(t).Codes, len(letters), bad,
		refused)
	kit.Check(t, refused == 0, "%d signatures were refused because of the Date", refused)
	kit.Check(t, begun+between+ended == 0, "a hold because of signatures")
	kit.Check(t, len(letters) == bad, "%d dead letters, want %d: the events in the future",
		len(letters), bad)
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}
