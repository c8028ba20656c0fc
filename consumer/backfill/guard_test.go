package backfill

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

// The state is saved from time to time, and the rejects that it counts are in their file by then.
func TestRejectsAreSyncedBeforeTheState(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		text, _, _ := randomTable(rand.New(rand.NewPCG(4, 4)), 200_000, 200_000)
		inputs := writeInputs(t, map[string]string{"f": text}, "f")
		file, name := StateFileOf(inputs), filepath.Join(t.TempDir(), "rejects")
		rejects, err := OpenRejects(name, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		defer rejects.Close()
		began, saved := time.Now(), map[Position]bool{}
		var mu sync.Mutex
		_, err = Run(t.Context(),
			Options{Inputs: inputs, StateFile: file, Rejects: rejects, Window: 2,
				Log: zerolog.Nop(), State: stateFor(inputs),
				To: publisherFunc(func([]event.Message) error {
					defer time.Sleep(saveEvery * 11 / 10)
					s, err := file.Load()
					mu.Lock()
					defer mu.Unlock()
					if err != nil || s == nil {
						return err
					}
					saved[s.At] = true
					if info, err := os.Stat(name); err != nil || info.Size() < s.At.RejectsBytes {
						t.Errorf("%d bytes of rejects, %d in the state; %v", info.Size(),
							s.At.RejectsBytes, err)
					}
					return nil
				})})
		if most := int(time.Since(began)/saveEvery) + 1; err != nil || len(saved) < 2 ||
			len(saved) > most {
			t.Errorf("%v; saved %d times, at most %d were wanted", err, len(saved), most)
		}
	})
}

// The progress of a resumed run includes the files before the one it continues with.
func TestProgressOfAResumedRun(t *testing.T) {
	inputs := writeInputs(t, map[string]string{"a": header + "a,b,1600000007\n", "b": header}, "a",
		"b")
	var p Progress
	p.begin(inputs, Position{Input: 1, Rows: 5, Rejected: 3, Untimed: 2})
	if p.Read.Load() != 55 || p.Size.Load() != 95 || p.Rows.Load() != 5 || p.Rejected.Load() != 3 ||
		p.Untimed.Load() != 2 {
		t.Errorf("%+v", &p)
	}
}

// The identity of a file depends on its end, too.
func TestIdentityOfALargeFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	text := bytes.Repeat([]byte("x"), 200<<10)
	identity := func() string {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		id, err := identify(name)
		if err != nil {
			t.Fatal(err)
		}
		return id.SHA256
	}
	before := identity()
	text[len(text)-1] = 'y'
	if identity() == before {
		t.Error("the end does not count")
	}
}

// A file that needs too much memory is refused with advice.
func TestLongWindow(t *testing.T) {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(4*maxZstdWindow))
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := w.Write(bytes.Repeat([]byte("a,b,1600000007\n"), 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := readRows(&b, "f"); err == nil ||
		!strings.Contains(err.Error(), "zstd -dc --long=31 FILE") {
		t.Errorf("%d rows, %v", len(got), err)
	}
}

// silentReader is a broken reader that never returns anything.
type silentReader struct{}

func (silentReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderWithoutProgress(t *testing.T) {
	if _, err := readRows(io.MultiReader(strings.NewReader(header), silentReader{}),
		"f"); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}
