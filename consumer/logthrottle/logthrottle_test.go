package logthrottle

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// withThrottledLog runs f in a bubble; fail logs a throttled line, written returns the output.
func withThrottledLog(t *testing.T,
	f func(t *testing.T, fail func(kind string), written func() string)) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var l Log
		log := zerolog.New(&out)
		f(t, func(kind string) { l.Pass(kind, log.Warn()).Str("kind", kind).Msg("failed") },
			func() string {
				defer out.Reset()
				return strings.ReplaceAll(strings.TrimSpace(out.String()), `"level":"warn",`, "")
			})
	})
}

func TestOneLinePerIntervalWithCount(t *testing.T) {
	withThrottledLog(t, func(t *testing.T, fail func(string), written func() string) {
		step := func(want string, kinds ...string) {
			t.Helper()
			for _, k := range kinds {
				fail(k)
			}
			if got := written(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		step(`{"kind":"a","message":"failed"}`, "a")
		step("", "a", "a")
		step(`{"kind":"b","message":"failed"}`, "b") // a kind of its own
		time.Sleep(interval - 1)
		step("", "a")
		time.Sleep(time.Nanosecond)
		step(`{"repeated":3,"kind":"a","message":"failed"}`, "a")
		step("", "a")
		time.Sleep(interval)
		step(`{"repeated":1,"kind":"a","message":"failed"}`+"\n"+`{"kind":"b","message":"failed"}`,
			"a", "b")
		time.Sleep(interval)
		step(`{"kind":"a","message":"failed"}`, "a") // nothing was suppressed
	})
}

// Nothing gets lost: the lines and their "repeated" add up to all failures.
func TestCountsAddUp(t *testing.T) {
	withThrottledLog(t, func(t *testing.T, fail func(string), written func() string) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 1000 {
					fail("a")
					time.Sleep(37 * time.Millisecond)
				}
			})
		}
		all.Wait()
		time.Sleep(interval)
		fail("a")
		lines, sum := strings.Split(written(), "\n"), 0
		for _, line := range lines {
			n := 0
			if _, after, ok := strings.Cut(line, `"repeated":`); ok {
				if _, err := fmt.Sscanf(after, "%d", &n); err != nil {
					t.Fatal(err)
				}
			}
			sum += 1 + n
		}
		if sum != 8001 || len(lines) > 6 {
			t.Errorf("%d lines stand for %d failures, want 8001", len(lines), sum)
		}
	})
}

// An unlimited number of kinds (a caller's mistake) neither uses memory nor floods the log.
func TestKindsAreBounded(t *testing.T) {
	withThrottledLog(t, func(t *testing.T, fail func(string), written func() string) {
		for i := range 1000 {
			fail(fmt.Sprint(i))
		}
		if n := strings.Count(written(), "\n") + 1; n != maxKinds+1 {
			t.Errorf("%d lines of 1000 kinds, want %d", n, maxKinds+1)
		}
		time.Sleep(interval)
		fail("another")
		if got := written(); !strings.Contains(got, fmt.Sprintf(`"repeated":%d`, 1000-maxKinds-1)) {
			t.Errorf("the kinds beyond are counted together: %s", got)
		}
		fail("0")
		if got := written(); !strings.Contains(got, `{"kind":"0"`) {
			t.Errorf("a kind that was there first is still its own: %s", got)
		}
	})
}

// A line of a disabled level does not count as suppressed, and does not suppress other lines.
func TestDisabledLevel(t *testing.T) {
	var out bytes.Buffer
	var l Log
	log := zerolog.New(&out).Level(zerolog.WarnLevel)
	l.Pass("a", log.Debug()).Msg("quiet")
	l.Pass("a", log.Warn()).Msg("loud")
	if got := out.String(); got != `{"level":"warn","message":"loud"}`+"\n" {
		t.Error(got)
	}
}
