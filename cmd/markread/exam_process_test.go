//go:build exam && unix

package main

import (
	"bufio"
	"encoding/json"
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
)

// examPipe is a standard output or standard error of which a row decides how
// far it is read.
type examPipe struct{ read, write *os.File }

func examNewPipe(t *testing.T) *examPipe {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return &examPipe{read, write}
}

// line reads up to the line that matches, byte by byte, and returns its first
// submatch.
func (p *examPipe) line(t *testing.T, pattern string) string {
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

// examInShell makes a command start by way of a shell line, in which "$@" is
// the command.
func examInShell(line string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", line, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
}

// examStartWorkerPrepared starts a worker whose admin server listens on a port
// that was free, without waiting for it to say so.
func examStartWorkerPrepared(
	t *testing.T, k *examKafka, imURL string, prepare func(*exec.Cmd), extra ...string,
) *examWorker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	p := examStartPrepared(t, "worker", "product", []string{"MARKREAD_IM_KEY=" + examKey}, prepare,
		append(k.run(imURL, extra...), "--admin-addr", addr)...)
	return &examWorker{p, "http://" + addr}
}

// examFailing makes a third of the calls fail, each with a line at debug level.
const examFailing = `{"latency":{"p50":"20ms","p99":"25ms"},"rules":[{"kind":"code","code":60008,"share":0.33}]}`

// TestExamStderrUnread: a third of the calls fail, each with a log line, and
// nobody reads standard error any more: the calls continue at the same rate.
// When it is read again, the log tells how many lines are missing. A worker
// whose standard error is not read can be stopped like any other.
func TestExamStderrUnread(t *testing.T) {
	k := examStartBroker(t)
	sandbox := examStartSandbox(t, "--rate", "0")
	sandbox.faults(t, examFailing)
	examProduceEvents(t, k, k.live, examOneEach(examConversations("unread", 60_000)))
	pipe := examNewPipe(t)
	w := examStartWorkerPrepared(t, k, sandbox.url, func(cmd *exec.Cmd) { cmd.Stderr = pipe.write },
		"--rate", "0", "--max-in-flight", "50", "--log-level", "debug", "--attempts", "100")
	pipe.line(t, "(admin server listens)")
	var stderr examLog
	reading := make(chan struct{})
	go func() { // until the deadline below
		defer close(reading)
		_, _ = io.Copy(&stderr, pipe.read)
	}()
	rate := func(when string, calls int) float64 {
		before, began := sandbox.stats(t).Calls, time.Now()
		examWait(t, "calls "+when, 30*time.Second, func() bool { return sandbox.stats(t).Calls >= before+calls })
		return float64(sandbox.stats(t).Calls-before) / time.Since(began).Seconds()
	}
	rate("at first", 1000)
	read := rate("while standard error is read", 4000)
	_ = pipe.read.SetReadDeadline(time.Now())
	<-reading
	// A third have a line. The pipe takes some 250 of them, the queue 4096.
	unread := rate("while it is not", 15_000)

	_ = pipe.read.SetReadDeadline(time.Time{})
	go func() { _, _ = io.Copy(&stderr, pipe.read) }()
	dropped := 0
	examWait(t, "the log tells what was dropped", 5*time.Second, func() bool {
		for _, line := range stderr.lines() {
			var l struct{ Dropped int }
			if json.Unmarshal([]byte(line), &l) == nil {
				dropped += l.Dropped
			}
		}
		return dropped > 0
	})
	sandbox.faults(t, `{}`)
	took := w.stop(t, syscall.SIGTERM, examStopLimit)
	examWait(t, "the last line", 2*time.Second, func() bool {
		return strings.Contains(stderr.String(), "stopped cleanly")
	})
	examFigure(t, "stderr-unread",
		"%.0f calls/s while standard error is read, %.0f/s while it is not; %d lines dropped and told; stopped in %v",
		read, unread, dropped, took.Round(time.Millisecond))
	examCheck(t, unread > 0.7*read, "%.0f calls/s while nobody reads it, %.0f/s before", unread, read)
}

// TestExamStopStderrUnread: a worker whose full standard error nobody reads
// stops as cleanly as any other, and at most a second later.
func TestExamStopStderrUnread(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	sandbox := examStartSandbox(t, "--rate", "0")
	sandbox.faults(t, examFailing)
	examProduceEvents(t, k, k.live, examOneEach(examConversations("stop-unread", 10_000)))
	pipe := examNewPipe(t)
	w := examStartWorkerPrepared(t, k, sandbox.url, func(cmd *exec.Cmd) { cmd.Stderr = pipe.write },
		"--rate", "800", "--log-level", "debug", "--attempts", "100")
	examWait(t, "a full pipe: 1000 lines", 30*time.Second, func() bool {
		return sandbox.stats(t).Calls > 3000
	})
	took := w.stop(t, syscall.SIGTERM, examStopLimit)
	examFigure(t, "stop-stderr-unread", "exit 0 after %v", took.Round(time.Millisecond))
}

// TestExamStderrClosed: a worker goes on without its standard error, be it
// that its reader has gone or that there was none from the start, and so does
// a backfill.
func TestExamStderrClosed(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T) func(*exec.Cmd){
		"reader gone": func(t *testing.T) func(*exec.Cmd) {
			pipe := examNewPipe(t)
			pipe.read.Close()
			return func(cmd *exec.Cmd) { cmd.Stderr = pipe.write }
		},
		"closed":     func(*testing.T) func(*exec.Cmd) { return examInShell(`exec "$@" 2>&-`) },
		"all closed": func(*testing.T) func(*exec.Cmd) { return examInShell(`exec "$@" <&- >&- 2>&-`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := examStartBroker(t)
			sandbox := examStartSandbox(t)
			sandbox.faults(t, examFailing)
			events := examOneEach(examConversations("closed", 400))
			examProduceEvents(t, k, k.live, events[:300])
			w := examStartWorkerPrepared(t, k, sandbox.url, prepare(t),
				"--log-level", "debug", "--attempts", "100")
			k.settled(t, 30*time.Second, k.live)

			var rows strings.Builder
			fmt.Fprintln(&rows, "Report_Account,Peer_Account,MsgReadTime")
			for _, e := range events[300:] {
				fmt.Fprintf(&rows, "%s,%s,%d\n", e.report, e.peer, e.readTime)
			}
			file := filepath.Join(t.TempDir(), "rows.csv")
			if err := os.WriteFile(file, []byte(rows.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			job := examStartPrepared(t, "backfill", "product", nil, prepare(t),
				"backfill", "--brokers", k.addr, "--backfill-topic", k.backfill, "--group", k.group,
				"--log-level", "debug", file)
			examCheck(t, job.exit(t, 30*time.Second) == 0, "the backfill ended with %v", job.cmd.ProcessState)
			k.settled(t, 30*time.Second, k.live, k.backfill)
			w.stop(t, syscall.SIGTERM, examStopLimit)
			examComparePointers(t, examLargest(events), sandbox.pointers(t))
		})
	}
}

// TestExamListIntoHead: a list whose reader has seen enough ends quietly, as
// any filter does.
func TestExamListIntoHead(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	now := time.Now()
	examWriteLetters(t, k, 20_000, func(i int) examLetter {
		e := examEvent{examConversation{"u" + strconv.Itoa(i), "p"}, now.Unix()}
		return examLetter{examEvent: e, class: "rejected", code: "90048", failedAt: now}
	})
	pipe := examNewPipe(t)
	ls := examStartPrepared(t, "dead-letters ls", "product", nil,
		func(cmd *exec.Cmd) { cmd.Stdout = pipe.write },
		"dead-letters", "ls", "--json", "--brokers", k.addr, "--dead-letter-topic", k.letters)
	pipe.write.Close()
	first := pipe.line(t, `^(\{"id":)`)
	pipe.read.Close()
	ls.exit(t, 10*time.Second)
	status, _ := ls.cmd.ProcessState.Sys().(syscall.WaitStatus)
	examFigure(t, "list-into-head", "first line %s…, then %v", first, ls.cmd.ProcessState)
	examCheck(t, status.Signaled() && status.Signal() == syscall.SIGPIPE,
		"it ended with %v", ls.cmd.ProcessState)
	examCheck(t, ls.stderr.String() == "", "it complains: %s", &ls.stderr)
}

// TestExamHangup: SIGHUP stops a worker as SIGTERM does, but not under nohup.
func TestExamHangup(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	im := examStartRecorder(t, "-latency", "2ms")
	events := examOneEach(examConversations("hangup", 2000))
	examProduceEvents(t, k, k.live, events)
	called := func() {
		t.Helper()
		more := im.count(t) + 150
		examWait(t, "calls", 30*time.Second, func() bool { return im.count(t) >= more })
	}
	w := examStartWorker(t, k, im.url)
	called()
	took := w.stop(t, syscall.SIGHUP, examStopLimit)
	examCheck(t, strings.Contains(w.stderr.String(), "stopped cleanly"), "the stop was not clean")

	w = examStartWorkerPrepared(t, k, im.url, examInShell(`trap "" HUP; exec "$@"`))
	called()
	w.signal(t, syscall.SIGHUP)
	called()
	k.settled(t, 30*time.Second, k.live)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	repeated := examRepeated(im.arrivals(t))
	examFigure(t, "hangup", "SIGHUP: exit 0 after %v; ignored: it continues; %d calls repeated",
		took.Round(time.Millisecond), repeated)
	examCheck(t, repeated == 0, "%d answered calls were repeated", repeated)
	examComparePointers(t, examLargest(events), examPointers(im.arrivals(t)))
}
