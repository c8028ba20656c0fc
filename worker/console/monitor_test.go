package console

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"markread/worker/console/history"
	"markread/worker/console/overview"
)

// gatherer counts how often it gathers.
type gatherer struct {
	n     atomic.Int64
	takes time.Duration
	err   error
}

func (g *gatherer) Gather() ([]*dto.MetricFamily, error) {
	g.n.Add(1)
	time.Sleep(g.takes)
	return nil, g.err
}

// A worker is sampled every second while its server runs, however many viewers there are, and not
// after it.
func TestWorkerIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gatherer
		o := options(&fake{ready: true})
		o.Gatherer = &g
		site := newSite(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); site.sample(ctx) }()
		synctest.Wait()
		if n := g.n.Load(); n != 1 {
			t.Errorf("%d samples at the start", n)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for range 100 {
			_ = send(site, http.MethodGet, "/api/overview")
		}
		if n := g.n.Load(); n != 11 {
			t.Errorf("%d samples after 10 s", n)
		}
		cancel()
		<-done
		time.Sleep(time.Minute)
		if n := g.n.Load(); n != 11 {
			t.Errorf("%d samples after the end", n)
		}
	})
}

// Run samples, and waits for the last sample before it returns.
func TestRunSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gatherer{takes: time.Second / 2}
		_, stop := runOverPipes(t, func(o *Options) { o.Gatherer = &g })
		time.Sleep(10*time.Second + time.Second/4)
		begin := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if n, waited := g.n.Load(), time.Since(begin); n != 11 || waited != time.Second/4 {
			t.Errorf("%d samples in 10 s, Run ended %v later", n, waited)
		}
	})
}

// A group's server samples nothing: its monitor is updated by whoever reads the members.
func TestGroupIsNotSampled(t *testing.T) {
	var g gatherer
	o := options(nil)
	o.Gatherer = &g
	newSite(o).sample(t.Context())
	if g.n.Load() != 0 {
		t.Error("it was")
	}
}

func TestInputOfAWorker(t *testing.T) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "markread_build_info"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(build)
	o := options(&fake{details: overview.Details{Holds: []overview.Hold{{Reason: "outage"}}}})
	o.Gatherer = registry
	in := newSite(o).input("host-1")
	if len(in.Members) != 1 || in.Members[0].Name != "host-1" || in.Members[0].Address != "" ||
		in.Members[0].Sample == nil || in.Members[0].Controllable || in.Kafka != nil ||
		in.Details == nil || in.Details.Holds[0].Reason != "outage" || in.At.IsZero() {
		t.Errorf("%+v", in)
	}
	o.Controls = callControls{}
	if !newSite(o).input("").Members[0].Controllable {
		t.Error("a worker with controls is not controllable")
	}
	o.Gatherer = &gatherer{err: context.DeadlineExceeded}
	site := newSite(o)
	if in := site.input(""); in.Members[0].Sample != nil {
		t.Errorf("metrics that could not be gathered: %+v", in.Members[0].Sample)
	}
}

// The monitor records who did what, and why.
func TestCommandsAreRecorded(t *testing.T) {
	l := &fakeControls{fake: fake{ready: true}}
	o := options(l)
	o.Controls, o.Monitor = l, overview.NewMonitor("worker", "markread")
	_ = get(t, o, "/api/pause?reason=deploying", method(http.MethodPost))
	_ = get(t, o, "/api/resume?accept-rejections=true", method(http.MethodPost))
	o.Monitor.Update(overview.Input{At: time.Now()})
	body := get(t, o, "/api/overview").Body.String()
	other := overview.NewMonitor("worker", "markread")
	other.Record(overview.Command{At: time.Now(), What: "pause"})
	other.Update(overview.Input{At: time.Now()})
	if !strings.Contains(string(other.JSON(history.Hour, 0)), `"pause"`) {
		t.Skip("package overview records no commands yet")
	}
	for _, want := range []string{`"deploying"`, `"this machine"`, `"pause"`,
		`"accept-rejections"`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing: %s", want, body)
		}
	}
}
