package backfill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"markread/consumer/kafkaclient"
)

// interruptedRun returns the options and the state of an interrupted run over two files; the second
// is compressed and was partly read.
func interruptedRun(t *testing.T) (Options, *State) {
	t.Helper()
	random := rand.New(rand.NewPCG(5, 5))
	one, _, _ := randomTable(random, 20_000, 20_000)
	two, _, _ := randomTable(random, 100_000, 100_000)
	inputs := writeInputs(t, map[string]string{"one": one, "two": string(zstded(two))}, "one",
		"two")
	gone := &kafkaclient.RefusedError{Err: errors.New("gone")}
	to := &fakeTopic{fails: func(records int) error {
		if records > 60_000 {
			return gone
		}
		return nil
	}}
	o := Options{
		Inputs: inputs, To: to, StateFile: StateFileOf(inputs), Window: 3, Log: zerolog.Nop(),
		State: stateFor(inputs),
	}
	if _, err := Run(t.Context(), o); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	s, err := o.StateFile.Load()
	if err != nil || s.At.Input != 1 || s.At.Rows <= 20_000 || s.At.Read < 1000 {
		t.Fatalf("%+v, %v", s, err)
	}
	return o, s
}

// A changed byte anywhere before the position is detected, even if size, time, beginning and end
// are unchanged.
func TestResumeRefusesFilesThatChanged(t *testing.T) {
	o, s := interruptedRun(t)
	if err := s.Verify(t.Context(), o.Inputs); err != nil {
		t.Fatal(err)
	}
	for i, in := range o.Inputs {
		text, err := os.ReadFile(in.Name)
		if err != nil {
			t.Fatal(err)
		}
		read := int64(len(text))
		if i == s.At.Input {
			read = s.At.Read
		}
		if read < 300_000 || in.Identity.Size < read+1000 && i == s.At.Input {
			t.Fatalf("%s: %d of %d bytes were read", in.Name, read, in.Identity.Size)
		}
		for _, place := range []int64{70_000, read / 2, read - 70_000} {
			changed := bytes.Clone(text)
			changed[place] ^= 1
			err := errors.Join(os.WriteFile(in.Name, changed, 0o600),
				os.Chtimes(in.Name, in.Identity.Modified, in.Identity.Modified))
			again, lookErr := Inspect([]string{o.Inputs[0].Name, o.Inputs[1].Name}, nil, false)
			if err = errors.Join(err, lookErr); err != nil {
				t.Fatal(err)
			}
			if err := s.SameInputs(again); err != nil {
				t.Fatalf("the hash is not needed: %v", err)
			}
			want := fmt.Sprintf("%s: it is not the file of the interrupted run: its first %d "+
				"bytes, which were read, have changed", in.Name, read)
			if err := s.Verify(t.Context(), again); err == nil || err.Error() != want {
				t.Errorf("byte %d: %v, want %s", place, err, want)
			}
		}
		err = errors.Join(os.WriteFile(in.Name, text, 0o600),
			os.Chtimes(in.Name, in.Identity.Modified, in.Identity.Modified))
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Verify(ctx, o.Inputs); !errors.Is(err, ErrInterrupted) {
		t.Errorf("stopped: %v", err)
	}
}

// The position must be the start of a row, in plain and compressed files; otherwise nothing is
// published.
func TestResumeRefusesOtherPositions(t *testing.T) {
	table := header + "a,b,1600000007\nc,d,1600000008\n"
	for name, text := range map[string]string{"plain": table, "gzip": string(gzipped(table)),
		"zstd": string(zstded(table))} {
		for offset, want := range map[int64]bool{
			1: false, int64(len(header)): true, int64(len(header)) + 1: false,
			int64(len(header)) + 15: true,
			int64(len(table)):       true, int64(len(table)) + 1: false, 1 << 40: false,
		} {
			inputs, to := writeInputs(t, map[string]string{name: text}, name), &fakeTopic{}
			o := Options{Inputs: inputs, To: to, StateFile: StateFileOf(inputs), Log: zerolog.Nop(),
				State: stateFor(inputs)}
			o.State.At = Position{Offset: offset, Line: 2, Rows: 1, Read: inputs[0].Identity.Size}
			_, err := Run(t.Context(), o)
			var position *PositionError
			if errors.As(err, &position) == want || want && err != nil || !want && to.records > 0 {
				t.Errorf("%s at %d: %v, %d records", name, offset, err, to.records)
			}
		}
	}
}

// A run does not continue with a state that no run can have written, and the error says what to do.
func TestStateThatIsNotValid(t *testing.T) {
	o := Options{StateFile: StateFile(filepath.Join(t.TempDir(), "f"+stateSuffix)), State: State{
		Version: stateVersion, ReadTime: 1_700_000_000, Hashes: []string{"first"}, TopicEnd: 7,
		Published: 8,
		Inputs:    []Identity{{Size: 1000}, {Size: 2000}},
		At: Position{Input: 1, Offset: 900, Line: 30, Rows: 50, Rejected: 3, Untimed: 2,
			RejectsBytes: 400, Read: 1500, SHA256: "second"},
	}}
	if err := o.StateFile.save(o.State); err != nil {
		t.Fatal(err)
	}
	if s, err := o.StateFile.Load(); err != nil || s.At != o.State.At {
		t.Fatalf("a valid one: %+v, %v", s, err)
	}
	text, err := os.ReadFile(string(o.StateFile))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(t *testing.T, want string) {
		t.Helper()
		s, err := o.StateFile.Load()
		if s != nil || err == nil || !strings.HasPrefix(err.Error(), string(o.StateFile)+": it ") ||
			!strings.HasSuffix(err.Error(), "; to start again, delete it") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v, want %q", s, err, want)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":      {"", "is damaged"},
		"half":         {string(text[:len(text)/2]), "is damaged"},
		"two":          {string(text) + string(text), "is damaged"},
		"garbage":      {"\x00\xff\x1b[31m", "is damaged"},
		"another type": {`{"version":3,"at":{"offset":"7"}}`, "is damaged"},
		"too large": {strings.Repeat(" ", maxState) + string(text),
			"it is longer than 4194304 bytes"},
		"old version": {strings.Replace(string(text), `"version":3`, `"version":2`, 1),
			"another version of markread, which can continue with it (its format is 2, this " +
				"version reads 3)"},
		"no version":    {"{}", "another version"},
		"newer version": {`{"version":99}`, "its format is 99"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(string(o.StateFile), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, c.want)
		})
	}
	for name, c := range map[string]struct {
		change func(*State)
		want   string
	}{
		"negative offset":     {func(s *State) { s.At.Offset = -1 }, "out of range"},
		"negative line":       {func(s *State) { s.At.Line = -1 }, "out of range"},
		"negative input":      {func(s *State) { s.At.Input = -1 }, "out of range"},
		"negative rows":       {func(s *State) { s.At.Rows = -1 }, "out of range"},
		"negative read":       {func(s *State) { s.At.Read = -1 }, "out of range"},
		"negative rejects":    {func(s *State) { s.At.RejectsBytes = -1 }, "out of range"},
		"negative topic end":  {func(s *State) { s.TopicEnd = -1 }, "out of range"},
		"negative published":  {func(s *State) { s.Published = -1 }, "out of range"},
		"negative read time":  {func(s *State) { s.ReadTime = -1 }, "out of range"},
		"times before 1970":   {func(s *State) { s.Times = Times{-1, 5} }, "out of range"},
		"times the wrong way": {func(s *State) { s.Times = Times{6, 5} }, "out of range"},
		"sum that overflows":  {func(s *State) { s.Published = 1<<63 - 1 }, "out of range"},
		"more rejects than rows": {func(s *State) { s.At.Rejected = s.At.Rows + 1 },
			"out of range"},
		"no line":           {func(s *State) { s.At.Line = 0 }, "out of range"},
		"an input too many": {func(s *State) { s.At.Input = 3 }, "out of range"},
		"another count":     {func(s *State) { s.Inputs = s.Inputs[:1] }, "beyond the end"},
		"no hash of a file": {func(s *State) { s.Hashes = nil }, "out of range"},
		"beyond the end": {func(s *State) { s.At.Read = s.Inputs[1].Size + 1 },
			"beyond the end"},
		"after the last input": {func(s *State) { s.At.Input, s.Hashes = 2, []string{"", ""} },
			"beyond the end"},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
			c.change(&s)
			changed, err := json.Marshal(s)
			if err = errors.Join(err,
				os.WriteFile(string(o.StateFile), changed, 0o600)); err != nil {
				t.Fatal(err)
			}
			refused(t, c.want)
		})
	}
}

// The state is not read or written through a link that somebody has put in its place.
func TestStateThatIsALink(t *testing.T) {
	folder := t.TempDir()
	file, victim := StateFile(filepath.Join(folder, "f"+stateSuffix)),
		filepath.Join(folder, "victim")
	if err := os.Symlink(victim, string(file)); err != nil {
		t.Skip(err)
	}
	if _, err := file.Load(); err == nil ||
		!strings.HasSuffix(err.Error(), "it is not a regular file; to start again, delete it") {
		t.Errorf("a link that leads nowhere: %v", err)
	}
	if err := file.save(State{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(string(file))
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Lstat(victim); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
	if s, err := file.Load(); s != nil || err == nil {
		t.Errorf("no version: %+v, %v", s, err)
	}
}

// Rejects are not written through a link to a file, existing or not, but through a link to a
// device.
func TestRejectsThatAreALink(t *testing.T) {
	folder := t.TempDir()
	name := func(file string) string { return filepath.Join(folder, file) }
	if err := os.WriteFile(name("empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"nowhere": name("victim"), "file": name("empty"),
		"relative": "empty", "device": os.DevNull, "chain": name("file")} {
		if err := os.Symlink(to, name(link)); err != nil {
			t.Skip(err)
		}
	}
	for link, want := range map[string]string{
		"nowhere":  "it is a symbolic link to a file that can't be opened: name another file",
		"file":     "it is a symbolic link: name the file that it points to, or another",
		"relative": "it is a symbolic link: name the file that it points to, or another",
		"chain":    "it is a symbolic link: name the file that it points to, or another",
	} {
		for _, resume := range []bool{false, true} {
			if r, err := OpenRejects(name(link), 0, resume); r != nil || err == nil ||
				err.Error() != want {
				t.Errorf("%s: %v, want %s", link, err, want)
			}
		}
	}
	if _, err := os.Lstat(name("victim")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
	for _, good := range []string{"device", "empty", "new"} {
		r, err := OpenRejects(name(good), 0, false)
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	if _, err := os.Lstat(name("empty")); err != nil {
		t.Error(err)
	}
}

// Rejects may be displayed by other programs, so what controls a terminal is escaped. The JSON
// value is unchanged.
func TestRejectsEscapeWhatSteersATerminal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rejects")
	r, err := OpenRejects(name, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	row := "a\x1b[2J\u009b31m\u202eb\u2066\ufeff\x7f\U000e0041"
	err = r.truncate(0)
	_, addErr := r.add(Reject{File: row, Line: 1, Reason: row}, []byte(row))
	if err = errors.Join(err, addErr, r.sync(), r.Close()); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(name)
	const escaped = `a\u001b[2J\u009b31m\u202eb\u2066\ufeff\u007f\udb40\udc41`
	if want := fmt.Sprintf(`{"file":"%s","line":1,"reason":"%[1]s","row":"%[1]s"}`+"\n",
		escaped); string(text) != want {
		t.Errorf("got  %swant %s", text, want)
	}
	var got Reject
	if err := json.Unmarshal(text, &got); err != nil || got.Row != row {
		t.Errorf("%+q, %v", got.Row, err)
	}
}
