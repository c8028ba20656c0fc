package backfill

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// The state of an older version's interrupted run is refused, not misread. The message says what
// helps: to use that version, or to start again, which publishes everything. Format 1 has no hash
// of what was read, and its read time may not have been given: for rows without a time that version
// used the time at which the run began.
//
// testdata/resume-4a19850 is the folder of a `markread backfill --rejects rejects.ndjson
// states.csv.zst` of commit 4a19850, killed (SIGKILL) when two thirds were published to the
// embedded broker. The table has 11,100 rows: 11 are not events, and two have no time, one before
// and one after the kill.
func TestResumeFileOfAnOlderVersion(t *testing.T) {
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("testdata/resume-4a19850")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, "states.csv.zst")
	rejects := filepath.Join(folder, "rejects.ndjson")
	text, err := os.ReadFile(name + stateSuffix)
	var old State
	if err = errors.Join(err, json.Unmarshal(text, &old)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, old.Inputs[0].Modified, old.Inputs[0].Modified); err != nil {
		t.Fatal(err)
	}
	inputs, err := Inspect([]string{name}, nil, false)
	if err = errors.Join(err, old.SameInputs(inputs)); err != nil {
		t.Fatal(err)
	}
	file := StateFileOf(inputs)
	want := string(file) + ": it was written by another version of markread, which can " +
		"continue with it (its format is 1, this version reads 3); to start again, delete it"
	if s, err := file.Load(); s != nil || err == nil || err.Error() != want {
		t.Errorf("%+v, %v, want %s", s, err, want)
	}
	if _, err := OpenRejects(rejects, 0, false); err == nil ||
		!strings.Contains(err.Error(), "it holds the rejects of another run") {
		t.Errorf("its rejects are overwritten: %v", err)
	}
	if err := errors.Join(file.Remove(), os.Remove(rejects)); err != nil {
		t.Fatal(err)
	}
	to := new(fakeTopic)
	done, err := Run(t.Context(), Options{Inputs: inputs, To: to, StateFile: file,
		Log: zerolog.Nop(), State: stateFor(inputs)})
	if err != nil || done.Rows != 11_100 || done.Rejected != 13 || done.Untimed != 0 ||
		len(to.largest) != 11_087 {
		t.Errorf("%+v, %v, %d conversations", done, err, len(to.largest))
	}
}
