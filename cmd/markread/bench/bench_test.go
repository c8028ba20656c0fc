package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"markread/cmd/markread/cli"
)

// The bench executes its own file again: here the test binary, which then is the program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench" {
		os.Exit(cli.Run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout,
			os.Stderr))
	}
	os.Exit(m.Run())
}

// run runs the bench in this process and returns its standard output.
func run(t *testing.T, ctx context.Context, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	status = cli.Run(ctx, append([]string{"bench"}, args...), nil, strings.NewReader(""), &out,
		&errors)
	return status, out.String(), errors.String()
}

// Every row runs, with every side in every run. Its figures are not judged: they depend on the
// machine.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it starts fifty processes")
	}
	if runtime.GOOS != "linux" {
		t.Skip("skipped: without /proc the figures of CPU and memory are missing")
	}
	status, stdout, stderr := run(t, t.Context(), "--runs", "2", "--scale", "0.001", "--json")
	if status != cli.ExitOK {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var document struct {
		Lines []struct {
			Row, Figure, Against string
			Markread, Other      []float64
		}
	}
	if err := json.Unmarshal([]byte(stdout), &document); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range document.Lines {
		got = append(got, fmt.Sprintf("%s, %s, %s: %d, %d", l.Row, l.Figure, l.Against,
			len(l.Markread), len(l.Other)))
	}
	want := []string{
		"uncapped, calls/s, kafka-go loop: 2, 2",
		"uncapped, calls/s, post loop: 2, 2",
		"uncapped, CPU s per 1,000 calls, kafka-go loop: 2, 2",
		"uncapped, CPU s per 1,000 calls, post loop: 2, 2",
		"rate, CPU s per 1,000 calls, : 2, 0",
		"rate, CPU s per 1,000 calls, scraped: 2, 2",
		"rate, CPU s per 1,000 calls, kafka-go loop: 2, 2",
		"latency, p50 ms, scraped: 2, 2",
		"latency, p50 ms, kafka-go loop: 2, 2",
		"latency, p99 ms, scraped: 2, 2",
		"latency, p99 ms, kafka-go loop: 2, 2",
		"latency, p50 ms since sent, scraped: 2, 2",
		"latency, p50 ms since sent, kafka-go loop: 2, 2",
		"latency, p99 ms since sent, scraped: 2, 2",
		"latency, p99 ms since sent, kafka-go loop: 2, 2",
		"intake, events/s, fetch loop: 2, 2",
		"memory, idle MiB, : 2, 0",
		"memory, MiB for many conversations, : 2, 0",
		"memory, their peak MiB, : 2, 0",
		"memory, bytes for each of them, : 2, 0",
		"memory, MiB for one conversation, : 2, 0",
		"collapse, time / ideal, : 2, 0",
		"collapse, calls per conversation, : 2, 0",
		"watched, calls/s, watched: 2, 2",
		"watched, p50 ms, watched: 2, 2",
		"watched, p99 ms, watched: 2, 2",
		"outage, accepted after 7 s, : 2, 0",
		"outage, accepted after 8 s, : 2, 0",
		"outage, accepted after 10 s, : 2, 0",
		"outage, accepted after 12 s, : 2, 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the lines are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Another build is one more side, in the rows that a worker has alone, too.
func TestBaseline(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it starts five processes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := run(t, t.Context(), "--runs", "1", "--scale", "0.0001",
		"--only", "collapse", "--baseline", self)
	if status != cli.ExitOK || strings.Count(stdout, "baseline") != 2 {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}

// Ctrl-C ends the bench and its children.
func TestStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	running := 0
	progress := writer(func() {
		running += len(children(t))
		stop()
	})
	status := cli.Run(ctx, []string{"bench", "--scale", "0.0001", "--only", "uncapped"}, nil,
		strings.NewReader(""), io.Discard, progress)
	if status != cli.ExitFailed {
		t.Errorf("status %d", status)
	}
	if runtime.GOOS == "linux" && running == 0 {
		t.Error("no child was running: the test proves nothing")
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// writer calls a function at each write.
type writer func()

func (w writer) Write(b []byte) (int, error) {
	w()
	return len(b), nil
}

// children returns the children of this process.
func children(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, file := range files {
		text, _ := os.ReadFile(file) // a thread may have ended
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

func TestUsage(t *testing.T) {
	for _, c := range [][]string{{"--runs", "0"}, {"--scale", "0"}, {"--scale", "1.5"},
		{"--scale", "NaN"}, {"--only", "uncaped"}} {
		status, _, stderr := run(t, t.Context(), c...)
		if status != cli.ExitUsage || !strings.Contains(stderr, c[0]) {
			t.Errorf("%v: status %d, %s", c, status, stderr)
		}
	}
}
