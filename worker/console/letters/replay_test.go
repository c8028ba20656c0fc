package letters

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"markread/consumer/deadletter"
)

// waitFor waits until the replay is in that state.
func waitFor(w *world, state string) Progress {
	w.Helper()
	for range 100 {
		synctest.Wait()
		if p, _ := w.Progress().(Progress); p.State == state {
			return p
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.Fatalf("%+v, want %s", w.Progress(), state)
	return Progress{}
}

func (w *world) planned(f Filter) planned {
	w.Helper()
	return post[planned](w, "/api/replay/plan", f, http.StatusOK)
}

// begin starts a replay of a plan; the response must have that status.
func (w *world) begin(plan string, count, status int) Progress {
	w.Helper()
	return post[Progress](w, "/api/replay/start", map[string]any{"plan": plan, "count": count},
		status)
}

func TestReplay(t *testing.T) {
	inWorld(t, func(w *world) {
		if w.Progress() != nil {
			t.Error("progress of no replay")
		}
		w.write(rejected(4)...)
		w.write(letter{report: "a0", class: "rejected", code: "90048"},
			letter{report: "secret-account", class: "exhausted", code: "timeout"},
			letter{report: "x", class: "invalid", value: "{}"},
			letter{report: "parked", class: "rejected", code: "90048", replays: 3})
		p := w.planned(Filter{})
		if p.Letters != 6 || p.Conversations != 5 || p.ParkedSkipped != 1 ||
			!maps.Equal(p.Obstacles, map[string]int{"invalid": 1}) || p.To != "mark-read-backfill" ||
			*p.Minutes != 5/0.5/60 || len(p.Plan) != 32 {
			t.Errorf("%+v", p)
		}
		w.begin(p.Plan, 5, http.StatusBadRequest) // another number
		w.begin("00"+p.Plan[2:], 6, http.StatusGone)
		if n := w.published("mark-read-backfill"); n != 0 {
			t.Errorf("%d published", n)
		}
		if began := w.begin(p.Plan, 6, http.StatusOK); began.State != "running" || began.Of != 6 ||
			began.By != "alice" {
			t.Errorf("%+v", began)
		}
		done := waitFor(w, "done")
		if done.Letters != 6 || done.Conversations != 5 || done.Gone != 0 || done.Error != "" ||
			!maps.Equal(done.Obstacles, p.Obstacles) || done.EndedAt == nil {
			t.Errorf("%+v", done)
		}
		if n := w.published("mark-read-backfill"); n != 5 {
			t.Errorf("%d published", n)
		}
		w.wantStates(map[string]int{"replayed": 6, "open": 1, "parked": 1})
		w.begin(p.Plan, 6, http.StatusGone) // once only

		again := w.planned(Filter{Report: "secret-account", State: "all"})
		if again.Plan != "" || again.Letters != 0 {
			t.Errorf("%+v", again)
		}
		parked := w.planned(Filter{State: "parked"})
		w.begin(parked.Plan, 1, http.StatusOK)
		waitFor(w, "done")
		w.wantStates(map[string]int{"replayed": 7, "open": 1})

		started, ended := w.logs.Lines("replay of dead letters started"),
			w.logs.Lines("replay of dead letters ended")
		if len(started) != 2 || len(ended) != 2 || started[0]["by"] != "alice" ||
			started[0]["letters"] != 6.0 || ended[0]["state"] != "done" ||
			ended[0]["letters"] != 6.0 || strings.Contains(w.logs.String(), "secret-account") {
			t.Error(w.logs.String())
		}
		if len(w.recorded) != 2 || w.recorded[0].What != "replay" || w.recorded[0].By != "alice" ||
			w.recorded[0].Why != "6" {
			t.Errorf("%+v", w.recorded)
		}
	})
}

// What others resolve between plan and start is left alone, and counted.
func TestPlanChangesMeanwhile(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		p, one := w.planned(Filter{}), w.planned(Filter{Report: "a1"})
		w.begin(one.Plan, 1, http.StatusOK)
		waitFor(w, "done")
		w.begin(p.Plan, 3, http.StatusOK)
		synctest.Wait()
		if done := waitFor(w, "done"); done.Letters != 2 || done.Gone != 1 || done.Of != 3 {
			t.Errorf("%+v", done)
		}
		if n := w.published("mark-read-backfill"); n != 3 {
			t.Errorf("%d published", n)
		}
	})
}

// A list after a replay shows its result, although the topic was read a moment ago.
func TestListAfterReplay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		if n := w.listed(Filter{}).Total; n != 3 {
			t.Errorf("%d before", n)
		}
		w.begin(w.planned(Filter{}).Plan, 3, http.StatusOK)
		began := time.Now()
		waitFor(w, "done")
		if n := w.listed(Filter{}).Total; n != 0 || time.Since(began) >= refreshEvery {
			t.Errorf("%d after %v", n, time.Since(began))
		}
	})
}

// Plans expire, and there are at most ten.
func TestPlansAreBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(1)...)
		old := w.planned(Filter{})
		time.Sleep(planAge - time.Second)
		young := w.planned(Filter{})
		time.Sleep(time.Second)
		w.begin(old.Plan, 1, http.StatusGone)
		for range maxPlans - 1 {
			w.planned(Filter{})
		}
		w.begin(young.Plan, 2, http.StatusBadRequest) // it is still there
		w.planned(Filter{})
		w.begin(young.Plan, 1, http.StatusGone)
		if n := len(w.replays.plans); n != maxPlans {
			t.Errorf("%d plans", n)
		}
	})
}

// Plans of many dead letters are dropped earlier, but never the newest.
func TestMemoryOfPlansIsBounded(t *testing.T) {
	var r replays
	for i, letters := range []int{10, maxPlanned - 20, 10, 11, maxPlanned + 1, 1} {
		found := make([]deadletter.Entry, letters)
		selected := deadletter.Selected{Entries: found}
		r.keep(&plan{id: fmt.Sprint(i), made: time.Now(), job: selected.NewJob(0)})
		ids := ""
		for _, p := range r.plans {
			ids += p.id
		}
		if want := []string{"0", "01", "012", "23", "4", "5"}[i]; ids != want {
			t.Errorf("%d: plans %s, want %s", i, ids, want)
		}
	}
}

// One replay runs at a time. Stopping it loses nothing: the rest stays open.
func TestStop(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(4)...)
		first, second := w.planned(Filter{Until: "1s"}), w.planned(Filter{})
		w.gate = make(chan struct{})
		w.begin(first.Plan, 3, http.StatusOK)
		<-w.gated
		w.begin(second.Plan, 4, http.StatusConflict)
		p := post[Progress](w, "/api/replay/stop", struct{}{}, http.StatusOK)
		if p.State != "running" || p.StoppedBy != "alice" {
			t.Errorf("%+v", p)
		}
		p = waitFor(w, "stopped") // after the grace that a part in progress gets
		if p.Letters != 0 || p.Error != "" || p.Obstacles["unresolved"] != 3 {
			t.Errorf("%+v", p)
		}
		w.wantStates(map[string]int{"open": 4})
		post[map[string]string](w, "/api/replay/stop", struct{}{}, http.StatusConflict)
		w.gate = nil
		w.begin(second.Plan, 4, http.StatusOK) // the refused start did not use the plan up
		waitFor(w, "done")
		w.wantStates(map[string]int{"replayed": 4})
		if len(w.recorded) != 3 || w.recorded[1].What != "stop-replay" {
			t.Errorf("%+v", w.recorded)
		}
	})
}

// A shutdown stops a replay and waits for it. Nothing can be started afterwards.
func TestShutdown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		p, later := w.planned(Filter{}), w.planned(Filter{})
		w.gate = make(chan struct{})
		w.begin(p.Plan, 3, http.StatusOK)
		<-w.gated
		w.halt()
		if got := w.Progress().(Progress); got.State != "stopped" {
			t.Errorf("%+v", got)
		}
		w.wantStates(map[string]int{"open": 3})
		w.begin(later.Plan, 3, http.StatusServiceUnavailable)
	})
}

// A replay that is started while Run ends is stopped, not forgotten.
func TestStartDuringShutdown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(1)...)
		p := w.planned(Filter{})
		w.halt()
		w.replays.closed = false // as if Run had just ended
		w.begin(p.Plan, 1, http.StatusOK)
		w.replays.close()
		if got := w.Progress().(Progress); got.State != "stopped" || got.EndedAt == nil {
			t.Errorf("%+v", got)
		}
	})
}

func TestReplayFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		p := w.planned(Filter{})
		w.fail = errors.New("no leader")
		w.begin(p.Plan, 3, http.StatusOK)
		if got := waitFor(w, "failed"); !strings.Contains(got.Error, "no leader") ||
			got.Letters != 0 || got.Of != 3 {
			t.Errorf("%+v", got)
		}
		w.wantStates(map[string]int{"open": 3})
		if ended := w.logs.Lines("replay of dead letters ended"); len(ended) != 1 ||
			ended[0]["level"] != "warn" || ended[0]["do"] == nil {
			t.Errorf("%v", ended)
		}
	})
}

// Without permission to write nothing is planned.
func TestPlanChecksPermissions(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(1)...)
		got := post[map[string]string](w, "/api/replay/plan", Filter{}, 503)
		if !strings.Contains(got["error"], "missing") {
			t.Errorf("%q", got)
		}
	}, func(o *Options) { o.ReplayTo = "missing" })
}

func TestReplayIsOptIn(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, path := range []string{"plan", "start", "stop"} {
			if got := w.request("/api/replay/"+path, struct{}{}); got.Code != 404 {
				t.Errorf("%s: %d", path, got.Code)
			}
		}
	}, func(o *Options) { o.AllowReplay = false })
}
