//go:build exam && unix

package exam

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// pipe is a standard output or standard error that the test reads when it wants.
type pipe struct{ read, write *os.File }

func newPipe(t *testing.T) *pipe {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return &pipe{read, write}
}

// line reads up to the line that matches, byte by byte, and returns its first submatch.
func (p *pipe) line(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	_ = p.read.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer func() { _ = p.read.SetReadDeadline(time.Time{}) }()
	in := bufio.NewReaderSize(&io.LimitedReader{R: p.read, N: 1 << 20}, 1)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("no line %s: %v", pattern, err)
		}
		if found := re.FindStringSubmatch(line); found != nil {
			return found[1]
		}
	}
}

// inShell starts a command through a shell line in which "$@" is the command.
func inShell(line string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", line, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
}

// startWorkerPrepared starts a worker whose admin server uses a free port, without waiting until it
// listens.
func startWorkerPrepared(
	t *testing.T, k *kit.Kafka, imURL string, prepare func(*exec.Cmd), extra ...string,
) *kit.Worker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	p := kit.StartPrepared(t, "worker", "product", []string{kit.KeyVariable}, prepare,
		append(k.RunArgs(imURL, extra...), "--admin-addr", addr)...)
	return &kit.Worker{Proc: p, Admin: "http://" + addr}
}

// failingCalls are faults that make a third of the calls fail, each with a log line at debug level.
const failingCalls = `{"latency":{"p50":"20ms","p99":"25ms"},` +
	`"rules":[{"kind":"code","code":60008,"share":0.33}]}`

// TestExamStderrUnread: a third of the calls fail, each with a log line, and standard error is no
// longer read. The calls continue at the same rate. When standard error is read again, the log
// reports how many lines are missing. A worker whose standard error is not read can be stopped like
// any other.
func TestExamStderrUnread(t *testing.T) {
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t, "--rate", "0")
	sandbox.SetFaults(t, failingCalls)
	kit.ProduceEvents(t, k, k.Live, kit.OneEventEach(kit.Conversations("unread", 60_000)))
	pipe := newPipe(t)
	w := startWorkerPrepared(t, k, sandbox.URL, func(cmd *exec.Cmd) { cmd.Stderr = pipe.write },
		"--rate", "0", "--max-in-flight", "50", "--log-level", "debug", "--attempts", "100")
	pipe.line(t, "(admin server listens)")
	var stderr kit.Log
	reading := make(chan struct{})
	go func() { // until the read deadline below
		defer close(reading)
		_, _ = io.Copy(&stderr, pipe.read)
	}()
	rate := func(when string, calls int) float64 {
		before, began := sandbox.Stats(t).Calls, time.Now()
		kit.Wait(t, "calls "+when, 30*time.Second,
			func() bool { return sandbox.Stats(t).Calls >= before+calls })
		return float64(sandbox.Stats(t).Calls-before) / time.Since(began).Seconds()
	}
	rate("at first", 1000)
	read := rate("while standard error is read", 4000)
	_ = pipe.read.SetReadDeadline(time.Now())
	<-reading
	// A third have a line. The pipe holds some 250 of them, the queue 4096.
	unread := rate("while it is not", 15_000)

	_ = pipe.read.SetReadDeadline(time.Time{})
	go func() { _, _ = io.Copy(&stderr, pipe.read) }()
	dropped := 0
	kit.Wait(t, "the log reports what was dropped", 5*time.Second, func() bool {
		for _, entry := range kit.Entries[struct{ Dropped int }](&stderr) {
			dropped += entry.Dropped
		}
		return dropped > 0
	})
	sandbox.SetFaults(t, `{}`)
	took := w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	kit.Wait(t, "the last line", 2*time.Second, func() bool {
		return strings.Contains(stderr.String(), "stopped cleanly")
	})
	kit.Figure(t, "stderr-unread",
		"%.0f calls/s while standard error is read, %.0f/s while it is not; %d lines dropped and "+
			"reported; stopped in %v", read, unread, dropped, took.Round(time.Millisecond))
	kit.Check(t, unread > 0.7*read, "%.0f calls/s while nobody reads it, %.0f/s before", unread,
		read)
}

// TestExamStopStderrUnread: a worker whose standard error is full and not read stops as cleanly as
// any other, and at most a second later.
func TestExamStopStderrUnread(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t, "--rate", "0")
	sandbox.SetFaults(t, failingCalls)
	kit.ProduceEvents(t, k, k.Live, kit.OneEventEach(kit.Conversations("stop-unread", 10_000)))
	pipe := newPipe(t)
	w := startWorkerPrepared(t, k, sandbox.URL, func(cmd *exec.Cmd) { cmd.Stderr = pipe.write },
		"--rate", "800", "--log-level", "debug", "--attempts", "100")
	kit.Wait(t, "a full pipe: 1000 lines", 30*time.Second, func() bool {
		return sandbox.Stats(t).Calls > 3000
	})
	took := w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	kit.Figure(t, "stop-stderr-unread", "exit 0 after %v", took.Round(time.Millisecond))
}

// TestExamStderrClosed: a worker continues without its standard error, whether its reader has gone
// or there was none from the start, and so does a backfill.
func TestExamStderrClosed(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T) func(*exec.Cmd){
		"reader gone": func(t *testing.T) func(*exec.Cmd) {
			pipe := newPipe(t)
			pipe.read.Close()
			return func(cmd *exec.Cmd) { cmd.Stderr = pipe.write }
		},
		"closed":     func(*testing.T) func(*exec.Cmd) { return inShell(`exec "$@" 2>&-`) },
		"all closed": func(*testing.T) func(*exec.Cmd) { return inShell(`exec "$@" <&- >&- 2>&-`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := kit.StartBroker(t)
			sandbox := kit.StartSandbox(t)
			sandbox.SetFaults(t, failingCalls)
			events := kit.OneEventEach(kit.Conversations("closed", 400))
			kit.ProduceEvents(t, k, k.Live, events[:300])
			w := startWorkerPrepared(t, k, sandbox.URL, prepare(t), "--log-level", "debug",
				"--attempts", "100")
			k.WaitCommitted(t, 30*time.Second, k.Live)

			var rows strings.Builder
			fmt.Fprintln(&rows, "Report_Account,Peer_Account,MsgReadTime")
			for _, e := range events[300:] {
				fmt.Fprintf(&rows, "%s,%s,%d\n", e.Report, e.Peer, e.ReadTime)
			}
			file := filepath.Join(t.TempDir(), "rows.csv")
			if err := os.WriteFile(file, []byte(rows.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			job := kit.StartPrepared(t, "backfill", "product", nil, prepare(t), "backfill",
				"--brokers", k.Addr, "--backfill-topic", k.Backfill, "--group", k.Group,
				"--log-level", "debug", file)
			kit.Check(t, job.Exit(t, 30*time.Second) == 0, "the backfill ended with %v",
				job.Cmd.ProcessState)
			k.WaitCommitted(t, 30*time.Second, k.Live, k.Backfill)
			w.Stop(t, syscall.SIGTERM, kit.StopLimit)
			kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
		})
	}
}

// TestExamListIntoHead: `ls` ends quietly when its reader has read enough, as any filter does.
func TestExamListIntoHead(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	now := time.Now()
	kit.ProduceDeadLetters(t, k, 20_000, func(i int) kit.DeadLetter {
		e := kit.NewEvent("u"+strconv.Itoa(i), "p", now.Unix())
		return kit.DeadLetter{Event: e, Class: "rejected", Code: "90048", FailedAt: now}
	})
	pipe := newPipe(t)
	ls := kit.StartPrepared(t, "dead-letters ls", "product", nil,
		func(cmd *exec.Cmd) { cmd.Stdout = pipe.write }, "dead-letters", "ls", "--json",
		"--brokers", k.Addr, "--dead-letter-topic", k.DeadLetters)
	pipe.write.Close()
	first := pipe.line(t, `^(\{"id":)`)
	pipe.read.Close()
	ls.Exit(t, 10*time.Second)
	status, _ := ls.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	kit.Figure(t, "list-into-head", "first line %s…, then %v", first, ls.Cmd.ProcessState)
	kit.Check(t, status.Signaled() && status.Signal() == syscall.SIGPIPE, "it ended with %v",
		ls.Cmd.ProcessState)
	kit.Check(t, ls.Stderr.String() == "", "output on standard error: %s", &ls.Stderr)
}

// TestExamHangup: SIGHUP stops a worker as SIGTERM does, but not under nohup.
func TestExamHangup(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-latency", "2ms")
	events := kit.OneEventEach(kit.Conversations("hangup", 2000))
	kit.ProduceEvents(t, k, k.Live, events)
	called := func() {
		t.Helper()
		more := im.Count(t) + 150
		kit.Wait(t, "calls", 30*time.Second, func() bool { return im.Count(t) >= more })
	}
	w := kit.StartWorker(t, k, im.URL)
	called()
	took := w.Stop(t, syscall.SIGHUP, kit.StopLimit)
	kit.Check(t, strings.Contains(w.Stderr.String(), "stopped cleanly"),
		"the shutdown was not clean")

	w = startWorkerPrepared(t, k, im.URL, inShell(`trap "" HUP; exec "$@"`))
	called()
	w.Signal(t, syscall.SIGHUP)
	called()
	k.WaitCommitted(t, 30*time.Second, k.Live)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	repeated := kit.CountRepeated(im.Arrivals(t))
	kit.Figure(t, "hangup", "SIGHUP: exit 0 after %v; ignored: it continues; %d calls repeated",
		took.Round(time.Millisecond), repeated)
	kit.Check(t, repeated == 0, "%d answered calls were repeated", repeated)
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(im.Arrivals(t)))
}
