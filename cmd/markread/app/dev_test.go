package app_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"markread/cmd/markread/app"
	"markread/imclient"
	"markread/worker"
)

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// options returns worker options with the defaults of `markread run`.
func options(log zerolog.Logger) worker.Options {
	return worker.Options{
		Rate: 200, MaxInFlight: 200, MaxPending: 500_000, MaxRejected: 95, Attempts: 8,
		Backoff:    imclient.NewBackoff(200*time.Millisecond, 30*time.Second),
		MaxReplays: 3, CallTimeout: 5 * time.Second, CommitEvery: time.Second,
		DrainTimeout: 10 * time.Second,
		Log:          log, Version: "test",
	}
}

// The whole product runs in this process: an embedded broker, the IM server, the worker, its admin
// server and sample traffic. Events are applied; the shutdown is clean and leaks no goroutines.
func TestDevEndToEnd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log logBuffer
	started, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- app.Dev(ctx, app.DevOptions{
			KafkaAddr: "127.0.0.1:0", IMAddr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0",
			ConsoleAddr: "127.0.0.1:0", Traffic: 100,
			Worker:  options(zerolog.New(&log)),
			Started: func(at app.DevAddrs) { started <- at.Admin },
		})
	}()
	var admin string
	select {
	case admin = <-started:
	case err := <-ended:
		t.Fatalf("%v\n%s", err, &log)
	}

	var state struct {
		Version string
		Totals  struct{ Applied, Calls int64 }
	}
	limit := time.After(20 * time.Second)
	for state.Totals.Applied == 0 {
		select {
		case <-limit:
			t.Fatalf("nothing was applied: %+v\n%s", state, &log)
		case <-time.After(50 * time.Millisecond):
		}
		answer, err := http.Get("http://" + admin + "/api/state")
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(answer.Body).Decode(&state)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	if state.Version != "test" || state.Totals.Calls == 0 {
		t.Errorf("%+v", state)
	}

	stop()
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(log.String(), "stopped cleanly") {
			t.Errorf("%v\n%s", err, &log)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
	if answer, err := http.Get("http://" + admin + "/healthz"); err == nil {
		answer.Body.Close()
		t.Error("the admin server still responds")
	}
}

// Options that the worker refuses cause an OptionsError, before anything listens.
func TestRefusedOptionsAreAnOptionsError(t *testing.T) {
	o := options(zerolog.Nop())
	o.Rate, o.MaxInFlight = 0, 0
	err := app.Run(t.Context(), app.Options{Worker: o, AdminAddr: "127.0.0.1:0"})
	if _, ok := err.(*app.OptionsError); !ok {
		t.Errorf("%T: %v", err, err)
	}
}
