package backfill

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/kafkaclient"
)

func readRejects(t *testing.T, name string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var r Reject
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, fmt.Sprintf("%d %s", r.Line, r.Row))
	}
	return out
}

// A run that fails repeatedly and is killed (its memory is lost, the state is the last saved one)
// ends with each conversation at its largest T and each reject once. It does not begin with the
// first row each time.
func TestRunResumes(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() { // with the race detector each takes 15 s
		seeds = 1
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 2))
		one, largest, rejects := randomTable(random, 120_000, 60_000)
		two, more, alsoRejected := randomTable(random, 120_000, 60_000)
		for key, at := range more {
			largest[key] = max(largest[key], at)
		}
		inputs := writeInputs(t, map[string]string{"one": one, "two": string(gzipped(two))}, "one",
			"two")
		rejectsFile := filepath.Join(t.TempDir(), "rejects")
		file, to := StateFileOf(inputs), &fakeTopic{}
		o := Options{Inputs: inputs, To: to, StateFile: file, Window: 3, Log: zerolog.Nop(),
			State: stateFor(inputs)}
		if err := o.Begin(); err != nil {
			t.Fatal(err)
		}
		gone := &kafkaclient.RefusedError{Err: errors.New("the user is gone")}
		runs, advanced := 0, 0
		for err := error(gone); err != nil; runs++ {
			if runs > 60 {
				t.Fatalf("seed %d: no end", seed)
			}
			old, loadErr := file.Load()
			if loadErr != nil || old == nil {
				t.Fatalf("seed %d: %v, %v", seed, old, loadErr)
			}
			if err := old.Verify(t.Context(), inputs); err != nil {
				t.Fatal(err)
			}
			if old.At.Rows > o.State.At.Rows {
				advanced++
			}
			o.State = *old
			var openErr error
			if o.Rejects, openErr = OpenRejects(rejectsFile, old.At.RejectsBytes,
				true); openErr != nil {
				t.Fatal(openErr)
			}
			before, quota := to.records, 20_000+random.IntN(60_000)
			to.fails = func(records int) error {
				if records-before > quota {
					return gone
				}
				return nil
			}
			_, err = Run(t.Context(), o)
			if err != nil && !errors.Is(err, gone) {
				t.Fatal(err)
			}
			if err := o.Rejects.Close(); err != nil {
				t.Fatal(err)
			}
			if err != nil { // after a crash the file may be longer than the state says
				f, err := os.OpenFile(rejectsFile, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprint(f, `{"file":"half a`)
				f.Close()
			}
		}
		if fmt.Sprint(to.largest) != fmt.Sprint(largest) {
			t.Errorf("seed %d: the conversations are not at their largest T", seed)
		}
		if got, want := readRejects(t, rejectsFile),
			append(rejects, alsoRejected...); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("seed %d: %d rejects, want %d", seed, len(got), len(want))
		}
		if runs < 3 || advanced < runs-2 {
			t.Errorf("seed %d: of %d runs only %d began after the position of the one before",
				seed, runs, advanced)
		}
	}
}

// The bytes after the last gzip member are one reject, however often the run is resumed, and the
// read times are those of all runs.
func TestRunResumesWithBytesAfterGzip(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	text, largest, rejects := randomTable(random, 60_000, 60_000)
	text = strings.TrimSuffix(text, "\n") // so that the last row ends where the garbage begins
	garbage := strings.Repeat("garbage\x00", 1000)
	inputs := writeInputs(t, map[string]string{"f": string(gzipped(text)) + garbage, "g": header},
		"f", "g")
	name := filepath.Join(t.TempDir(), "rejects")
	file, to := StateFileOf(inputs), &fakeTopic{}
	gone := &kafkaclient.RefusedError{Err: errors.New("gone")}
	state, runs := stateFor(inputs), 0
	var done Summary
	for err := error(gone); err != nil; runs++ {
		rejected, openErr := OpenRejects(name, state.At.RejectsBytes, true)
		if openErr != nil {
			t.Fatal(openErr)
		}
		left := 25_000
		to.fails = func(int) error {
			if left -= 5_000; left < 0 {
				return gone
			}
			return nil
		}
		done, err = Run(t.Context(),
			Options{Inputs: inputs, To: to, StateFile: file, Rejects: rejected,
				Window: 2, Log: zerolog.Nop(), State: state})
		if err != nil && !errors.Is(err, gone) || runs > 20 {
			t.Fatal(err)
		}
		if err := rejected.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			saved, loadErr := file.Load()
			if loadErr != nil || saved.Verify(t.Context(), inputs) != nil {
				t.Fatalf("%v, %v", saved, loadErr)
			}
			state = *saved
		}
	}
	var times Times
	for _, at := range largest {
		times = times.union(Times{at, at})
	}
	got := readRejects(t, name)
	want := fmt.Sprintf("60001 %s", garbage[:keptRowBytes])
	if runs < 2 || fmt.Sprint(to.largest) != fmt.Sprint(largest) || len(got) != len(rejects)+1 ||
		got[len(got)-1] != want || done.Rejected != int64(len(got)) || done.Times.To != times.To ||
		done.Times.From > times.From {
		t.Errorf("%d runs, %d rejects, the last %.30q, %+v, not %v", runs, len(got),
			got[len(got)-1], done, times)
	}
}

// The positions of a run over rows without a time count each row once: a state with more rows
// without a time than rows would be taken for damaged, and the run could not be resumed.
func TestRunOfRowsWithoutTimeResumes(t *testing.T) {
	const rows = 60_000
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "{\"Report_Account\":\"reader%d\",\"Peer_Account\":\"peer\"}\n", i)
	}
	inputs := writeInputs(t, map[string]string{"f": text.String()}, "f")
	left := 20_000
	to := &fakeTopic{fails: func(int) error {
		if left -= 5_000; left < 0 {
			return &kafkaclient.RefusedError{Err: errors.New("gone")}
		}
		return nil
	}}
	o := Options{Inputs: inputs, To: to, StateFile: StateFileOf(inputs), Window: 2,
		Log: zerolog.Nop(), State: stateFor(inputs)}
	o.State.ReadTime = 1_760_000_000
	if _, err := Run(t.Context(), o); err == nil {
		t.Fatal("it did not fail")
	}
	saved, err := o.StateFile.Load()
	if err != nil || saved.At.Rows == 0 || saved.At.Untimed != saved.At.Rows {
		t.Fatalf("the state is %+v, %v", saved, err)
	}
	o.State, to.fails = *saved, nil
	done, err := Run(t.Context(), o)
	if err != nil || done.Rows != rows || done.Untimed != rows || len(to.largest) != rows {
		t.Errorf("%+v, %v, %d conversations", done, err, len(to.largest))
	}
}

// The state is never ahead of what is acknowledged: whatever it says when a run is killed,
// everything before its position is in the topic.
func TestStateIsNeverAhead(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 9))
	text, _, _ := randomTable(random, 200_000, 200_000)
	inputs := writeInputs(t, map[string]string{"f": text}, "f")
	to := &fakeTopic{}
	blocked := make(chan struct{})
	calls := 0
	to.fails = func(int) error {
		if calls++; calls == 4 { // not acknowledged; later ones are
			to.mu.Unlock()
			<-blocked
			to.mu.Lock()
			return &kafkaclient.RefusedError{Err: errors.New("gone")}
		}
		if calls == 9 {
			close(blocked)
		}
		return nil
	}
	o := Options{Inputs: inputs, To: to, StateFile: StateFileOf(inputs), Window: 2,
		Log: zerolog.Nop(), State: stateFor(inputs)}
	if _, err := Run(t.Context(), o); err == nil {
		t.Fatal("it did not fail")
	}
	s, err := o.StateFile.Load()
	if err != nil {
		t.Fatal(err)
	}
	if s.At.Rows == 0 {
		t.Error("nothing is done")
	}
	for row := range strings.Lines(text[len(header):s.At.Offset]) {
		if parts := strings.Split(strings.TrimSpace(row), ","); len(parts) == 3 {
			if _, ok := to.largest[parts[0]+"|"+parts[1]]; !ok {
				t.Fatalf("row %q is before the position and not in the topic", row)
			}
		}
	}
}

func TestRejects(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rejects")
	r, err := OpenRejects(name, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.truncate(0); err != nil {
		t.Fatal(err)
	}
	rows := []string{"plain", "a \"quote\"\nand <a> line break", "bytes \xff\xfe"}
	for i, row := range rows {
		if _, err := r.add(Reject{File: "f", Line: int64(i + 1), Reason: "why"},
			[]byte(row)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.sync(), r.Close()); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(name)
	want := `{"file":"f","line":1,"reason":"why","row":"plain"}
{"file":"f","line":2,"reason":"why","row":"a \"quote\"\nand <a> line break"}
{"file":"f","line":3,"reason":"why","row":"bytes \ufffd\ufffd","row_base64":"Ynl0ZXMg//4="}
`
	if string(text) != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}
	other := filepath.Join(t.TempDir(), "states.csv")
	if err := os.WriteFile(other, []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRejects(other, 0, true); err == nil ||
		!strings.Contains(err.Error(), "something other than rejects") {
		t.Errorf("a table is overwritten: %v", err)
	}
	if _, err := OpenRejects(name, 0, false); err == nil ||
		!strings.Contains(err.Error(), "it holds the rejects of another run") {
		t.Errorf("rejects are overwritten: %v", err)
	}
	if again, _ := os.ReadFile(name); string(again) != want {
		t.Errorf("they were: %s", again)
	}
	if _, err := OpenRejects(name, int64(len(text))+1, true); err == nil ||
		!strings.Contains(err.Error(), "it is another file") {
		t.Errorf("a run continues with a shorter file: %v", err)
	}
}

// A state is accepted only with unchanged files.
func TestStateRefusesOtherFiles(t *testing.T) {
	inputs := writeInputs(t, map[string]string{"a": header + "a,b,1600000007\n", "b": header}, "a",
		"b")
	s := &State{}
	for _, in := range inputs {
		s.Inputs = append(s.Inputs, in.Identity)
	}
	if err := s.SameInputs(inputs); err != nil {
		t.Error(err)
	}
	if err := s.SameInputs(inputs[:1]); err == nil ||
		!strings.Contains(err.Error(), "there were 2 files, and now there are 1") {
		t.Error(err)
	}
	if err := s.SameInputs([]Input{inputs[1], inputs[0]}); err == nil ||
		!strings.Contains(err.Error(), "it had 55 bytes, and has 40") {
		t.Error(err)
	}
	rewrite := func(text string, at time.Time) []Input {
		if err := errors.Join(os.WriteFile(inputs[0].Name, []byte(text), 0o600),
			os.Chtimes(inputs[0].Name, at, at)); err != nil {
			t.Fatal(err)
		}
		again, err := Inspect([]string{inputs[0].Name, inputs[1].Name}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	same := inputs[0].Identity.Modified
	if err := s.SameInputs(rewrite(header+"a,b,1600000008\n", same)); err == nil ||
		!strings.Contains(err.Error(), "its content has changed") {
		t.Error(err)
	}
	if err := s.SameInputs(rewrite(header+"a,b,1600000007\n", same.Add(time.Second))); err == nil ||
		!strings.Contains(err.Error(), "it was last written at") {
		t.Error(err)
	}
	if err := s.SameInputs(rewrite(header+"a,b,1600000007\n", same)); err != nil {
		t.Error(err)
	}
}

// A run that could not be resumed does not begin.
func TestStateThatCannotBeWritten(t *testing.T) {
	o := Options{Inputs: []Input{{Name: "states.csv"}},
		StateFile: StateFile(filepath.Join(t.TempDir(), "none", "states.csv"+stateSuffix))}
	if err := o.Begin(); err == nil ||
		!strings.Contains(err.Error(),
			"can't be written: no such file or directory; copy the file") ||
		!strings.HasSuffix(err.Error(), "markread backfill - < states.csv") {
		t.Error(err)
	}
}

// A temporary file that can't replace the state is removed.
func TestStateThatCannotBeReplaced(t *testing.T) {
	folder := t.TempDir()
	name := filepath.Join(folder, "f"+stateSuffix)
	if err := os.MkdirAll(filepath.Join(name, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := StateFile(name).save(State{}); err == nil {
		t.Error("it was replaced")
	}
	if files, _ := os.ReadDir(folder); len(files) != 1 {
		t.Errorf("not removed: %v", files)
	}
}
