package backfill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

// fakeTopic is a publisher that checks records as the worker would, and keeps the largest T of each
// conversation.
type fakeTopic struct {
	mu      sync.Mutex
	records int
	largest map[string]int64
	fails   func(records int) error // called before each publication; nil: none fails
}

func (p *fakeTopic) Publish(_ context.Context, messages ...event.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails != nil {
		if err := p.fails(p.records); err != nil {
			return err
		}
	}
	if p.largest == nil {
		p.largest = map[string]int64{}
	}
	for _, m := range messages {
		p.records++
		e := event.Decode(event.Record{Key: m.Key, Value: m.Value, Headers: m.Headers,
			Time: m.Time}, time.Now())
		switch {
		case e.Invalid != nil:
			return fmt.Errorf("%s: %w", m.Value, e.Invalid)
		case string(m.Key) != string(event.Key(e.Report, e.Peer)):
			return fmt.Errorf("key %q of %s", m.Key, m.Value)
		case time.Since(m.Time) > time.Minute || e.EventTime != m.Time:
			return fmt.Errorf("%s has the time %s, the event time %s", m.Value, m.Time, e.EventTime)
		}
		p.largest[string(m.Key)] = max(p.largest[string(m.Key)], e.ReadTime)
	}
	return nil
}

// writeInputs writes files into a new folder and inspects them.
func writeInputs(t *testing.T, files map[string]string, names ...string) []Input {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(folder, name)
	}
	inputs, err := Inspect(paths, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return inputs
}

func TestRunCollapsesOverFiles(t *testing.T) {
	inputs := writeInputs(t, map[string]string{
		"one.csv": header + "a,b,1600000007\na,b,1600000009\nc,d,\nbad\n",
		"two.ndjson": `{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1600000008}` + "\n" +
			`{"Report_Account":"q\"\\<","Peer_Account":"|","MsgReadTime":1600000005}` + "\n",
		"empty": "",
	}, "one.csv", "empty", "two.ndjson")
	var log bytes.Buffer
	to := &fakeTopic{}
	o := Options{Inputs: inputs, To: to, State: State{ReadTime: 1_500_000_000},
		StateFile: StateFileOf(inputs), Log: zerolog.New(&log)}
	if err := o.Begin(); err != nil {
		t.Fatal(err)
	}
	done, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"a|b": 1600000009, "c|d": 1500000000, `q"\<||`: 1600000005}
	if fmt.Sprint(to.largest) != fmt.Sprint(want) || to.records != 3 {
		t.Errorf("%d records: %v, want %v", to.records, to.largest, want)
	}
	if done.Rows != 6 || done.Rejected != 1 || done.Untimed != 1 || done.Records != 3 ||
		done.Overflowed {
		t.Errorf("%+v", done)
	}
	for _, want := range []string{
		`"line":4,"read_up_to":"2017-07-14 02:40:00 UTC","do":"if it should have one, stop with ` +
			`Ctrl-C","message":"the row has no MsgReadTime; every row without one `,
		`"line":5,"reason":"it has 1 field,`, `the file has no rows`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	if logged := log.String(); strings.Count(logged, "\n") != 3 {
		t.Errorf("the log:\n%s", logged)
	}
	if _, err := os.Stat(string(StateFileOf(inputs))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state is still there: %v", err)
	}
}

// A file without rows causes a warning, whatever else it contains.
func TestNoRows(t *testing.T) {
	for _, text := range []string{
		"", "\n\n\n", header, "sep=,\n" + header, header + "\n\r\n", header + header,
		"\"no\nte\"," + header,
	} {
		inputs := writeInputs(t, map[string]string{"f": text}, "f")
		var log bytes.Buffer
		_, err := Run(t.Context(), Options{Inputs: inputs, Log: zerolog.New(&log)})
		if err != nil || strings.Count(log.String(), "the file has no rows") != 1 {
			t.Errorf("%q: %v\n%s", text, err, log.String())
		}
	}
}

// randomTable returns a table with few conversations and some bad rows, with the expected result:
// the largest T of each conversation, and the rejects.
func randomTable(random *rand.Rand, rows, conversations int) (text string, largest map[string]int64,
	rejects []string) {
	var b strings.Builder
	b.WriteString(header)
	largest = map[string]int64{}
	for line := 2; line < rows+2; line++ {
		if random.IntN(50) == 0 {
			fmt.Fprintf(&b, "bad %d\n", line)
			rejects = append(rejects, fmt.Sprintf("%d bad %d", line, line))
			continue
		}
		n, at := random.IntN(conversations), 1_000_000_000+random.Int64N(700_000_000)
		report, peer := fmt.Sprintf("the-user-with-number-%d", n), "peer"
		fmt.Fprintf(&b, "%s,%s,%d\n", report, peer, at)
		largest[report+"|"+peer] = max(largest[report+"|"+peer], at)
	}
	return b.String(), largest, rejects
}

// A run over files that an operator stops ends soon, and the state has the position where it
// continues.
func TestRunIsInterrupted(t *testing.T) {
	text, _, _ := randomTable(rand.New(rand.NewPCG(1, 1)), 100_000, 100_000)
	inputs := writeInputs(t, map[string]string{"f": text}, "f")
	ctx, cancel := context.WithCancel(t.Context())
	to := &fakeTopic{fails: func(records int) error {
		if records > 20_000 {
			cancel()
		}
		return nil
	}}
	o := Options{Inputs: inputs, To: to, StateFile: StateFileOf(inputs), Window: 2,
		Log: zerolog.Nop(), State: stateFor(inputs)}
	done, err := Run(ctx, o)
	if !errors.Is(err, ErrInterrupted) || to.records > 70_000 || done.At.Rows == 0 ||
		!done.Overflowed {
		t.Errorf("%v, %d records, %+v", err, to.records, done)
	}
	if s, err := o.StateFile.Load(); err != nil || s.At != done.At {
		t.Errorf("%v, %v", s, err)
	}
}

// Standard input can't be read again: what was read of it is published, and a blocked read does not
// delay the shutdown.
func TestRunOfStandardInputIsInterrupted(t *testing.T) {
	for _, rest := range []string{
		"half a r", "e,\"half\nx,y,1600000009\na row", // one of its lines would be a valid row
	} {
		brokertest.Bubble(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			in, out := io.Pipe()
			go func() {
				fmt.Fprint(out, header+"a,b,1600000007\nc,d,1600000008\n"+rest)
				synctest.Wait() // everything was read, and Run waits for more
				cancel()
			}()
			inputs, err := Inspect([]string{Stdin}, in, false)
			if err != nil {
				t.Fatal(err)
			}
			done, err := Run(ctx,
				Options{Inputs: inputs, To: publisherFunc(func(m []event.Message) error {
					if len(m) != 2 {
						t.Errorf("%d records, not 2", len(m))
					}
					return nil
				}), Log: zerolog.Nop()})
			if !errors.Is(err, ErrInterrupted) || done.Rows != 2 || done.Records != 2 ||
				done.Rejected != 0 {
				t.Errorf("%v, %+v", err, done)
			}
			in.Close() // ends the abandoned read
		})
	}
}

// A row that can't be read to its end is not a row, however it begins.
func TestRunOfAnInputThatFailsWithinARow(t *testing.T) {
	broken := errors.New("broken")
	text := header + "a,b,1600000007\ne,\"half\nx,y,1600000009\na row"
	in := io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))
	inputs, err := Inspect([]string{Stdin}, in, false)
	if err != nil {
		t.Fatal(err)
	}
	done, err := Run(t.Context(), Options{Inputs: inputs, Log: zerolog.Nop()})
	var input *InputError
	if !errors.As(err, &input) || !errors.Is(err, broken) || done.Rows != 1 || done.Rejected != 0 {
		t.Errorf("%v, %+v", err, done)
	}
}

// Also before the first row has arrived.
func TestRunIsInterruptedBeforeTheFirstRow(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		in, out := io.Pipe()
		go func() {
			synctest.Wait()
			cancel()
		}()
		inputs, err := Inspect([]string{Stdin}, in, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Run(ctx,
			Options{Inputs: inputs, To: &fakeTopic{}, Log: zerolog.Nop()}); err != ErrInterrupted {
			t.Error(err)
		}
		out.Close()
	})
}

// publisherFunc is a Publisher that is a function.
type publisherFunc func([]event.Message) error

func (p publisherFunc) Publish(_ context.Context,
	messages ...event.Message) error {
	return p(messages)
}

// A run is interrupted also while it publishes the window.
func TestRunIsInterruptedAtItsEnd(t *testing.T) {
	text, largest, _ := randomTable(rand.New(rand.NewPCG(1, 1)), 60_000, 60_000)
	inputs := writeInputs(t, map[string]string{"f": text}, "f")
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Inputs: inputs, StateFile: StateFileOf(inputs), Log: zerolog.Nop(),
		To: publisherFunc(func([]event.Message) error { cancel(); return nil })}
	done, err := Run(ctx, o)
	if !errors.Is(err, ErrInterrupted) || done.Records == 0 ||
		done.Records == int64(len(largest)) || done.Overflowed {
		t.Errorf("%v, %+v; %d conversations", err, done, len(largest))
	}
}

// A dry run counts like any other run.
func TestDryRun(t *testing.T) {
	text, largest, rejects := randomTable(rand.New(rand.NewPCG(1, 3)), 50_000, 20_000)
	inputs := writeInputs(t, map[string]string{"f": text}, "f")
	done, err := Run(t.Context(), Options{Inputs: inputs, Log: zerolog.Nop()})
	if err != nil || done.Records != int64(len(largest)) || done.Rejected != int64(len(rejects)) ||
		done.Rows != 50_000 || done.Overflowed {
		t.Errorf("%+v, %v; %d conversations", done, err, len(largest))
	}
}

func TestAllRejectedIsLoggedOnce(t *testing.T) {
	inputs := writeInputs(t, map[string]string{"f": header + strings.Repeat("x\n", 5000)}, "f")
	var log bytes.Buffer
	done, err := Run(t.Context(), Options{Inputs: inputs, To: &fakeTopic{}, Log: zerolog.New(&log)})
	if err != nil || done.Rejected != 5000 ||
		strings.Count(log.String(), "check whether it is the right file") != 1 ||
		strings.Count(log.String(), "\n") != loggedRejects+2 {
		t.Errorf("%+v, %v\n%s", done, err, log.String())
	}
}

func BenchmarkRun(b *testing.B) {
	for _, format := range []string{"csv", "ndjson"} {
		b.Run(format, func(b *testing.B) {
			var text strings.Builder
			if format == "csv" {
				text.WriteString(header)
			}
			const rows = 100_000
			for i := range rows {
				report, peer := fmt.Sprintf("user%010d", i/2), fmt.Sprintf("user%010d", i/3*2)
				if format == "csv" {
					fmt.Fprintf(&text, "%s,%s,%d\n", report, peer, 1_600_000_000+i)
				} else {
					fmt.Fprintf(&text,
						`{"Report_Account":%q,"Peer_Account":%q,"MsgReadTime":%d}`+"\n", report,
						peer, 1_600_000_000+i)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				inputs, _ := Inspect([]string{Stdin}, strings.NewReader(text.String()), false)
				if _, err := Run(b.Context(),
					Options{Inputs: inputs, Log: zerolog.Nop()}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// Rows without a time are rejects if the run has no read time for them.
func TestRowsWithoutATime(t *testing.T) {
	text := map[string]string{
		"f": header + "a,b,\nc,d,1600000007\n",
		"g": `{"Report_Account":"e","Peer_Account":"f"}` + "\n",
	}
	for readTime, rejected := range map[int64]int64{0: 2, 1_600_000_009: 0} {
		inputs := writeInputs(t, text, "f", "g")
		o := Options{Inputs: inputs, Log: zerolog.Nop(), State: State{ReadTime: readTime}}
		done, err := Run(t.Context(), o)
		want := Times{1_600_000_007, max(readTime, 1_600_000_007)}
		if err != nil || done.Rejected != rejected || done.Untimed != 2-rejected ||
			done.Times != want {
			t.Errorf("%d: %+v, %v", readTime, done, err)
		}
	}
}

func TestTimes(t *testing.T) {
	var none Times
	for want, got := range map[string]Times{
		"": none.union(none),
		"read time 2020-09-13 12:26:47 UTC": none.union(Times{1600000007,
			1600000007}).union(none),
		"read times from 2020-09-13 12:26:40 to 2020-09-13 12:26:49 UTC": Times{1600000003,
			1600000009}.
			union(Times{1600000000, 1600000000}).union(Times{1600000005, 1600000007}),
	} {
		if got.String() != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
