package app

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// runUntilStopped runs until ctx ends and stops immediately and cleanly.
func runUntilStopped(ctx context.Context) error { <-ctx.Done(); return nil }

func TestSupervise(t *testing.T) {
	const drain, limit = 10 * time.Second, 15 * time.Second
	broken := errors.New("broken")
	fails := func(context.Context) error { return broken }
	// slow takes d to stop.
	slow := func(d time.Duration, err error) func(context.Context) error {
		return func(ctx context.Context) error { <-ctx.Done(); time.Sleep(d); return err }
	}
	for name, c := range map[string]struct {
		show, work func(context.Context) error
		stop       time.Duration // when ctx ends
		want       error         // in the result
		text       string        // in the result
		takes      time.Duration
	}{
		"stopped": {runUntilStopped, runUntilStopped, time.Hour, nil, "", time.Hour},
		"stopped at the last moment": {runUntilStopped, slow(limit-1, nil), time.Hour, nil, "",
			time.Hour + limit - 1},
		"the stop hangs": {runUntilStopped, slow(limit+time.Minute, nil), time.Hour, nil,
			"--drain-timeout",
			time.Hour + limit},
		"the stop fails": {runUntilStopped, slow(time.Second, broken), time.Hour, broken, "",
			time.Hour + time.Second},
		"the work fails": {runUntilStopped, fails, time.Hour, broken, "", 0},
		"the show fails": {fails, slow(time.Second, nil), time.Hour, broken, "admin server",
			time.Second},
		"the show fails, the stop hangs": {fails, slow(time.Hour, nil), 2 * time.Hour, broken,
			"--drain-timeout",
			limit},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.stop)
			defer cancel()
			begin := time.Now()
			var log bytes.Buffer
			err := supervise(ctx, zerolog.New(&log), drain, c.show, c.work)
			if took := time.Since(begin); took != c.takes {
				t.Errorf("%s: took %s, want %s", name, took, c.takes)
			}
			if (c.want != nil && !errors.Is(err, c.want)) ||
				(err == nil) != (c.want == nil && c.text == "") ||
				(c.text != "" && !strings.Contains(err.Error(), c.text)) {
				t.Errorf("%s: %v", name, err)
			}
			logged := strings.Contains(log.String(), `"drain_timeout":"10s","message":"stopping: `+
				`waiting for calls in flight; a second signal stops immediately"`)
			if logged != (ctx.Err() != nil) {
				t.Errorf("%s: the log says %s", name, &log)
			}
			time.Sleep(2 * time.Hour) // let abandoned work end
		})
	}
}

// The admin server responds until the work has stopped.
func TestAdminServerOutlivesWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		note := func(what string, needs time.Duration) func(context.Context) error {
			return func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(needs)
				order = append(order, what)
				return nil
			}
		}
		if err := supervise(ctx, zerolog.Nop(), time.Minute, note("show", 0),
			note("work", time.Second)); err != nil {
			t.Error(err)
		}
		if strings.Join(order, " ") != "work show" {
			t.Errorf("ended in the order %v", order)
		}
	})
}
