package secrets

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker"
)

// leak is a worker's caller that leaks on purpose: it adds the call's URL, in the form that the
// reader's account names, to each failure after the client has masked it.
type leak struct {
	*imclient.Client
	url *atomic.Pointer[string] // of the latest call
}

func (l leak) MarkRead(ctx context.Context, read imclient.Read) error {
	err := l.Client.MarkRead(ctx, read)
	var failure *imclient.Error
	if !errors.As(err, &failure) {
		return err
	}
	form := forms[strings.TrimPrefix(read.Report, "leak-")]
	if form == nil {
		form = forms["plain"]
	}
	text := form(*l.url.Load())
	leaky := *failure
	leaky.Err = errors.New(text)
	if leaky.ErrorCode == 0 {
		leaky.Label = text // a metric's label
	}
	return &leaky
}

// roundTripper is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// leaking begins a worker that leaks, at a path of the server. It returns a function that stops it.
func (s *harness) leaking(path string, attempts int, out *clitest.Buffer) (address string,
	stop func()) {
	s.Helper()
	var url atomic.Pointer[string]
	transport := imclient.NewTransport(4*time.Second, 1)
	im, err := imclient.New(imclient.Options{
		BaseURL: s.url + path, AppID: app.LocalAppID, Admin: app.LocalAdmin,
		Key: imclient.Key(imclient.NewSecret(canaryKey)), Timeout: 4 * time.Second,
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			text := r.URL.String()
			url.Store(&text)
			return transport.RoundTrip(r)
		}),
	})
	if err != nil {
		s.Fatal(err)
	}
	mechanism, err := kafkaclient.SASL("plain", saslUser,
		func() (string, error) { return canaryPassword, nil })
	if err != nil {
		s.Fatal(err)
	}
	log := zerolog.New(zerolog.SyncWriter(out)).With().Timestamp().Logger()
	kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{s.broker}, SASL: mechanism,
		Log: log})
	if err != nil {
		s.Fatal(err)
	}
	started, done := make(chan string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- app.Run(ctx, app.Options{
			Worker: quickWorker(kafka, leak{im, &url},
				"leaking"+strings.ReplaceAll(path, "/", "-"), attempts, log),
			AdminAddr: "127.0.0.1:0", AdminToken: imclient.NewSecret(canaryToken),
			Started: func(addr string) { started <- addr },
		})
	}()
	select {
	case address = <-started:
	case err := <-done:
		s.Fatal(err)
	}
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
		transport.CloseIdleConnections()
		kafka.Close()
	}
	return "http://" + address, stop
}

// quickWorker returns a worker that makes one call at a time, so that the failing call is known,
// and hardly waits before a retry.
func quickWorker(kafka *kafkaclient.Client, im worker.Caller, group string, attempts int,
	log zerolog.Logger) worker.Options {
	return worker.Options{
		Kafka: kafka, IM: im, Topics: app.DevTopics, Group: group, MaxInFlight: 1, MaxPending: 1000,
		MaxRejected: 95,
		Attempts:    attempts,
		Backoff:     imclient.NewBackoff(time.Millisecond, time.Millisecond), MaxReplays: 3,
		CallTimeout: 5 * time.Second,
		CommitEvery: 50 * time.Millisecond, DrainTimeout: 5 * time.Second, Log: log,
	}
}

// A worker that leaks is detected, in every form of the leak and in every place where it can
// appear. Otherwise the tests above would prove nothing.
func TestLeaksAreCaught(t *testing.T) {
	s := newHarness(t)
	var events []*kgo.Record
	for name := range forms {
		events = append(events,
			&kgo.Record{Topic: "mark-read", Value: []byte(clitest.EventJSON("leak-"+name, 1))})
	}
	for i := range 20 {
		events = append(events,
			&kgo.Record{Topic: "mark-read",
				Value: []byte(clitest.EventJSON("good-"+strconv.Itoa(i), 1))})
	}
	if err := s.kafka().ProduceSync(t.Context(), events...).FirstErr(); err != nil {
		t.Fatal(err)
	}

	var out clitest.Buffer
	_, stop := s.leaking("", 1, &out)
	letters := s.letters("leaking", len(forms))
	stop()
	for _, letter := range letters {
		caught := false
		for _, h := range letter.Headers {
			caught = caught || h.Key == "__dlq.errors.message" &&
				len(s.finder.find(string(h.Value))) > 0
		}
		if !caught {
			t.Errorf("the letter of %s is not caught", letter.Value)
		}
	}
	lines := 0
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "dead-lettered") {
			lines++
			if len(s.finder.find(line)) == 0 {
				t.Errorf("not caught in the log: %s", line)
			}
		}
	}
	if lines != len(forms) {
		t.Errorf("%d lines for %d letters", lines, len(forms))
	}

	// During a hold, the failure is in the state, in the overview, in the log and, here, in a metric.
	var held clitest.Buffer
	admin, stop := s.leaking("/outage", 8, &held)
	s.waitForHold(admin, "outage")
	s.waitForOverview(admin, `"reason":"outage"`, `"key":"held"`)
	s.readPages("leaking", admin, "Bearer "+canaryToken)
	stop()
	s.record("leaking, standard error", held.String())
	for _, place := range []string{"/api/state", "/api/overview", "/metrics", "standard error"} {
		if len(s.finder.find(s.artefacts["leaking, "+place])) == 0 {
			t.Errorf("not caught in %s: %s", place, s.artefacts["leaking, "+place])
		}
	}
}
