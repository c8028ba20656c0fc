//go:build exam && unix

// Package kit is the harness of the acceptance tests (the exam): it starts brokers, IM servers and
// workers as processes, produces events, and checks the results.
//
// The exam runs the product as an operator would: real processes on loopback, on ports chosen by
// the kernel. The test binary executes itself again for each role, so that the exam needs nothing
// but Go. No process survives it, even if it is killed. It reads and writes Kafka through franz-go,
// and naive models compute the expected results from the input. So it shares no code with the
// product, except the command line itself, the embedded broker and the report of `check`.
//
// Run it with: go test -tags exam ./cmd/markread/exam -count=1 -v -timeout 30m; -short shortens the
// longest tests.
//
// Two variables let it run on a real Kafka, which deploy/kafka/kafka can start:
// MARKREAD_TEST_BROKERS (host:port,host:port) is for the tests that any cluster can serve,
// MARKREAD_TEST_KAFKA (the folder of a cluster of three nodes) for package cluster, which disturbs
// the nodes. Tests that can't run are skipped with the reason.
package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/cli"
)

// roleVariable is the environment variable that gives the test binary its role. Without it the
// binary runs the tests.
const roleVariable = "EXAM_ROLE"

// Main runs the tests of a package of the exam, or a role.
func Main(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		setParallelism()
		os.Exit(m.Run())
	}
	os.Unsetenv(roleVariable)
	go dieWithParent()
	switch role {
	case "product":
		ctx, stop := cli.UntilSignal(context.Background())
		status := cli.Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(status)
	case "broker":
		os.Exit(runBroker(os.Args[1:], os.Stdout))
	case "recorder":
		os.Exit(runRecorder(os.Args[1:], os.Stdout))
	}
	fmt.Fprintln(os.Stderr, "exam: unknown role:", role)
	os.Exit(2)
}

// setParallelism allows six parallel tests, more than there are cores, unless -test.parallel is
// given: tests that call t.Parallel mostly wait. Tests that measure a rate to the per cent don't
// call it, and have the machine to themselves.
func setParallelism() {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", "6") // the flag exists, and 6 is a number
	}
}

// dieWithParent kills this process when the exam has ended: descriptor 3 is a pipe whose other end
// only the exam holds. So no process survives an exam that was killed.
func dieWithParent() {
	pipe := os.NewFile(3, "parent")
	if pipe == nil {
		return
	}
	_, _ = io.Copy(io.Discard, pipe)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// Proc is one process of the exam. It is killed when its test ends, and its output is logged if the
// test failed.
type Proc struct {
	name     string
	Cmd      *exec.Cmd
	Stdout   Log
	Stderr   Log
	Exited   chan struct{}
	parent   *os.File // our end of descriptor 3: the process may live while it is open
	Started  time.Time
	Duration time.Duration
}

// Start starts the test binary in a role. env is added to a minimal environment, so that none of
// the caller's variables leaks in.
func Start(t *testing.T, name, role string, env []string, args ...string) *Proc {
	t.Helper()
	return StartPrepared(t, name, role, env, Stdin(""), args...)
}

// Stdin prepares a command to read the text on standard input.
func Stdin(text string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(text) }
}

// StartPrepared starts the test binary in a role, after prepare has changed the command.
func StartPrepared(
	t *testing.T, name, role string, env []string, prepare func(*exec.Cmd), args ...string,
) *Proc {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &Proc{name: name, Cmd: exec.Command(self, args...), Exited: make(chan struct{}),
		parent: write, Started: time.Now()}
	p.Cmd.Env = append([]string{
		roleVariable + "=" + role, "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"TMPDIR=" + os.TempDir(), "GOTRACEBACK=all",
	}, env...)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Stdout, &p.Stderr
	p.Cmd.ExtraFiles = []*os.File{read}
	prepare(p.Cmd)
	err = p.Cmd.Start()
	read.Close()
	if err != nil {
		write.Close()
		t.Fatal(err)
	}
	go func() {
		_ = p.Cmd.Wait() // the status is in ProcessState
		p.Duration = time.Since(p.Started)
		close(p.Exited)
	}()
	t.Cleanup(func() {
		_ = p.Cmd.Process.Kill() // an error means that the process has ended already
		<-p.Exited
		p.parent.Close()
		if secret := secret.FindString(p.Stdout.String() + p.Stderr.String()); secret != "" {
			t.Errorf("%s prints a secret: %s", p.name, secret)
		}
		if t.Failed() {
			t.Logf("%s (pid %d, %v)\n--- stdout\n%s--- stderr\n%s", p.name, p.Cmd.Process.Pid,
				p.Cmd.ProcessState, p.Stdout.Tail(40), p.Stderr.Tail(80))
		}
	})
	return p
}

// Signal sends a signal to the process.
func (p *Proc) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// Ended reports whether the process has ended.
func (p *Proc) Ended() bool {
	select {
	case <-p.Exited:
		return true
	default:
		return false
	}
}

// Exit waits until the process ends and returns its exit status: -1 if a signal ended it.
func (p *Proc) Exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.Exited:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(within):
		_ = p.Cmd.Process.Signal(syscall.SIGQUIT) // SIGQUIT makes it print the goroutines' stacks
		select {
		case <-p.Exited:
		case <-time.After(5 * time.Second):
		}
		t.Fatalf("%s did not end within %v", p.name, within)
		return -1
	}
}

// Stop sends the signal and requires exit status 0 within the limit. It returns how long the
// shutdown took.
func (p *Proc) Stop(t *testing.T, s syscall.Signal, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	p.Signal(t, s)
	if code := p.Exit(t, within); code != 0 {
		t.Fatalf("%s ended with %d after %v", p.name, code, s)
	}
	return time.Since(began)
}

// Line waits for a matching line on standard output or standard error, and returns its submatches.
func (p *Proc) Line(t *testing.T, pattern string, within time.Duration) []string {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	var found []string
	Wait(t, p.name+" prints "+pattern, within, func() bool {
		if found = re.FindStringSubmatch(p.Stdout.String()); found == nil {
			found = re.FindStringSubmatch(p.Stderr.String())
		}
		if found == nil && p.Ended() {
			t.Fatalf("%s ended (%v) without printing %s", p.name, p.Cmd.ProcessState, pattern)
		}
		return found != nil
	})
	return found
}

// secret matches what no process may print: the app's key, or a signature in a URL.
var secret = regexp.MustCompile(regexp.QuoteMeta(Key) + `|usersig=[A-Za-z0-9*_-]{20,}`)

// Log collects the output of a process.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Lines returns the non-empty lines printed so far.
func (l *Log) Lines() []string {
	var out []string
	for line := range strings.Lines(l.String()) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// Tail returns the last n lines.
func (l *Log) Tail(n int) string {
	lines := l.Lines()
	if len(lines) > n {
		lines = append([]string{fmt.Sprintf("… %d lines omitted", len(lines)-n)},
			lines[len(lines)-n:]...)
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// Entries decodes the lines of a log that are JSON objects.
func Entries[T any](l *Log) (out []T) {
	for _, line := range l.Lines() {
		var entry T
		if json.Unmarshal([]byte(line), &entry) == nil {
			out = append(out, entry)
		}
	}
	return out
}

// Wait polls until ok returns true, and fails the test after the limit.
func Wait(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	limit := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(limit) {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
}

// Figure logs a measured figure in one line that can be searched for.
func Figure(t *testing.T, name, format string, args ...any) {
	t.Helper()
	t.Logf("FIGURE %s: %s", name, fmt.Sprintf(format, args...))
}

// Check is an assertion that lets the test continue, so that one run shows all failures.
func Check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}
