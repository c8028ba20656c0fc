package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/consumer/backfill"
)

// The remaining time is estimated from the bytes while files are read, from the records while the
// rest is published, and, for applying them, from the rate.
func TestBackfillEstimates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(backfill.Progress)
		job := &backfillJob{Options: backfill.Options{Progress: p}}
		job.State.At.Rows = 1000 // by an interrupted run
		v := &backfillView{job: job, rate: 200, began: time.Now(), waiting: 400}
		p.Size.Store(1000)
		p.Read.Store(250)
		p.Rows.Store(3000)
		p.Records.Store(1600)
		p.Published.Store(400)
		time.Sleep(2 * time.Second)
		s := v.sample()
		if s.what != "reading" || s.rowsPerSecond != 1000 || s.remaining != 6*time.Second ||
			s.untilApplied != 10*time.Second {
			t.Errorf("reading: %+v", s)
		}
		if text := s.text(1000); text != "6.0s left, applied in 10s, 3,000 rows, 0 rejected, "+
			"1,000 rows/s, 1,600 "+
			"conversations" {
			t.Errorf("reading: %s", text)
		}
		p.Size.Store(0) // standard input
		if s := v.sample(); s.remaining != 0 || s.total != 0 {
			t.Errorf("of unknown length: %+v", s)
		}
		p.Draining.Store(true)
		v.sample()
		time.Sleep(time.Second)
		p.Published.Store(700)
		if s := v.sample(); s.what != "publishing" || s.remaining != 3*time.Second ||
			s.current != 700 ||
			s.total != 1600 {
			t.Errorf("publishing: %+v", s)
		}
		v.waiting, v.rate = -1, 0
		if s := v.sample(); s.untilApplied != 0 {
			t.Errorf("without a rate: %+v", s)
		}
	})
}

func TestBackfillSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &backfillView{job: &backfillJob{}, rate: 200, began: time.Now()}
		v.job.State.At.Rows = 7
		time.Sleep(65 * time.Second)
		got := v.summary(t.Context(),
			backfill.Summary{Rows: 10_000, Rejected: 1, Records: 4000, Overflowed: true,
				Times: backfill.Times{From: 1760000000, To: 1760086400}})
		want := "10,000 rows, 1 rejected (the first 7 by the interrupted run), at most 4,000 " +
			"conversations, in 1m05s; nothing published (--dry-run); 20s of calls at 200 a " +
			"second; read times from 2025-10-09 08:53:20 to 2025-10-10 08:53:20 UTC"
		if got != want {
			t.Errorf("%s", got)
		}
	})
}

var errTest = errors.New("failed")

// A retention that is too short is detected before it is too late.
func TestBackfillWarnsOfShortRetention(t *testing.T) {
	for _, c := range []struct {
		waiting int64
		keeps   time.Duration
		warned  bool
	}{{200 * 2881, time.Hour, true}, {200 * 2880, time.Hour, false}, {200 * 3601, 0, false},
		{-1, time.Hour, false}} {
		var log bytes.Buffer
		v := &backfillView{job: &backfillJob{}, rate: 200, topic: "t", waiting: c.waiting,
			retention: c.keeps}
		v.warn(&process{log: zerolog.New(&log)})
		if warned := strings.Contains(log.String(), "raise its retention.ms"); warned != c.warned {
			t.Errorf("%+v: %s", c, log.String())
		}
	}
}

// An error says what to do; only a publisher's error says that records were not published.
func TestBackfillFailureSaysHowToContinue(t *testing.T) {
	file := &backfillJob{Options: backfill.Options{To: &fakeTopic{},
		StateFile: "f.markread-resume"}}
	stdin := &backfillJob{Options: backfill.Options{To: &fakeTopic{}}}
	for _, c := range []struct {
		job  *backfillJob
		err  error
		want string
	}{
		{file, backfill.ErrInterrupted,
			"interrupted; the first 5 rows are done: continue with the same command and --resume"},
		{file, &backfill.InputError{Name: "f", Err: errTest},
			"f: failed; if it can be read after all, continue with the same command and " +
				"--resume; else copy it again, delete f.markread-resume, and start again: " +
				"records that are published twice only cost calls"},
		{file, &backfill.PositionError{Name: "f", Offset: 9},
			"--resume: f: no row begins at byte 9, where the run is to continue: " +
				"f.markread-resume is damaged; to start again, delete f.markread-resume and " +
				"omit --resume"},
		{file, errTest, "failed; the first 5 rows are done: continue with the same command " +
			"and --resume"},
		{stdin, backfill.ErrInterrupted,
			"interrupted: the first 9 rows of standard input are published, and the rest was not " +
				"read"},
		{stdin, errTest, "failed; 3 records are published; standard input can't be resumed, so " +
			"start again: records that are published twice only cost calls"},
	} {
		got := c.job.explainFailure(backfill.Summary{Rows: 9, Records: 3,
			At: backfill.Position{Rows: 5}}, c.err).Error()
		if got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// Two runs over one file would publish everything twice, and overwrite each other's rejects.
func TestBackfillFileIsLocked(t *testing.T) {
	states := clitest.File(t, "Report_Account,Peer_Account,MsgReadTime\na,b,1700000000\n")
	unlock, err := app.Lock(states)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	got := try(t, nil, "", "backfill", "--brokers", "127.0.0.1:1", states)
	if got.Status != ExitFailed ||
		!strings.Contains(got.Stderr, "another markread backfill uses it") {
		t.Errorf("%+v", got)
	}
}

// Two runs with one file of rejects would do the same.
func TestBackfillRejectsFileIsLocked(t *testing.T) {
	rejects := clitest.File(t, "")
	unlock, err := app.Lock(rejects)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	got := try(t, nil, "", "backfill", "--dry-run", "--rejects", rejects,
		clitest.File(t, "Report_Account,Peer_Account,MsgReadTime\na,b,1700000000\n"))
	if got.Status != ExitFailed ||
		!strings.Contains(got.Stderr, rejects+": another markread backfill uses it") {
		t.Errorf("%+v", got)
	}
}

// The second run leaves the file in place, even if it created the file.
func TestBackfillKeepsTheRejectsOfAnotherRun(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rejects")
	job := &backfillJob{rejects: name}
	// of this job, before the other one has locked it
	fresh, err := backfill.OpenRejects(name, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := app.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	job.Rejects = fresh
	if err := job.lockRejects(); err == nil {
		t.Error("locked twice")
	}
	job.release()
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
}

// Standard input may be the file of rejects, too.
func TestBackfillRejectsFileIsNoInput(t *testing.T) {
	rejects := clitest.File(t, "")
	in, err := os.Open(rejects)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	job := &backfillJob{rejects: rejects}
	defer job.release()
	c := &backfillCommand{Files: []string{backfill.Stdin}}
	if err := c.openRejects(job, &process{stdin: in}); err == nil ||
		!strings.Contains(err.Error(), "is one of the files to read") {
		t.Error(err)
	}
}

// The speed is measured over the last samples; while records are published, no rows are read.
func TestBackfillSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(backfill.Progress)
		v := &backfillView{job: &backfillJob{Options: backfill.Options{Progress: p}},
			began: time.Now()}
		for range 20 {
			time.Sleep(time.Second)
			p.Rows.Add(1000)
			v.sample()
		}
		for range speedSamples {
			time.Sleep(time.Second)
			p.Rows.Add(10)
			v.sample()
		}
		time.Sleep(time.Second)
		if s := v.sample(); s.rowsPerSecond >= 11 || s.rowsPerSecond <= 8 {
			t.Errorf("%f rows a second", s.rowsPerSecond)
		}
		p.Draining.Store(true)
		if s := v.sample(); strings.Contains(s.text(1000), "rows/s") {
			t.Error(s.text(1000))
		}
	})
}

// A terminal of 80 columns shows the most important counts and the bar.
func TestBackfillBar(t *testing.T) {
	s := progressSample{what: "publishing", current: 600_000, total: 1_000_000, rows: 12_345_678,
		rejected:  12,
		records:   1_000_000,
		remaining: 5 * time.Minute, untilApplied: 3 * time.Hour}
	for width, want := range map[int]string{
		80: "publishing [=====>----] 60.00% 5m00s left, applied in 3h00m, 12,345,678 rows",
		50: "publishing [=====>----] 60.00% 5m00s left",
		140: "publishing [=====>----] 60.00% 5m00s left, applied in 3h00m, 12,345,678 rows, 12 " +
			"rejected, 1,000,000 conversations",
	} {
		bar := newBackfillBar(io.Discard).SetWidth(width)
		setBackfillBar(bar, s)
		got := strings.TrimRight(bar.String(), " ")
		if len(got) > width || !strings.Contains(got, "=>") {
			t.Errorf("%d columns: %q, not like %q", width, got, want)
		}
		begin, _, _ := strings.Cut(want, "[")
		_, end, _ := strings.Cut(want, "]")
		if !strings.HasPrefix(got, begin+"[") || !strings.HasSuffix(got, "]"+end) {
			t.Errorf("%d columns: %q, not like %q", width, got, want)
		}
	}
}

// A state that can't be used is a usage error, with --resume and without: one line that names the
// file and says what to do, before any broker is contacted.
func TestBackfillOfAnInvalidState(t *testing.T) {
	states := clitest.File(t, "Report_Account,Peer_Account,MsgReadTime\na,b,1700000000\n")
	state := states + ".markread-resume"
	const version1 = `{"version":1,"began":"2026-03-01T00:00:00Z","topic":"mark-read-backfill",` +
		`"brokers":["127.0.0.1:1"],"read_time":1700000000,` +
		`"rejects":"","inputs":[{"size":58,"modified":"2026-03-01T00:00:00Z","sha256":""}],` +
		`"topic_end":0,` +
		`"published":0,"at":{"input":0,"offset":40,"line":2,"rows":1}}`
	for text, want := range map[string]string{
		"":            "it is not the state of a run, or is damaged",
		"\x1b[31mred": "it is not the state of a run, or is damaged",
		version1: "it was written by another version of markread, " +
			"which can continue with it",
		`{"version":3,"at":{"offset":-1}}`: "it is damaged: a number in it is out of range",
		`{"version":"\n"}`:                 "it is not the state of a run, or is damaged",
	} {
		for _, args := range [][]string{{"--resume"}, nil} {
			if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := try(t, nil, "",
				append([]string{"backfill", "--brokers", "127.0.0.1:1", states}, args...)...)
			if r.Status != ExitUsage || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 ||
				controlsIn(r.Stderr) != "" ||
				!strings.HasPrefix(r.Stderr, "markread: "+state+": "+want) ||
				!strings.HasSuffix(r.Stderr, "; to start again, delete it\n") {
				t.Errorf("%q %v: %+v", text, args, r)
			}
			if kept, err := os.ReadFile(state); err != nil || string(kept) != text {
				t.Errorf("the state is %q now, %v", kept, err)
			}
		}
	}
}
