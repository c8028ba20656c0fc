//go:build exam && unix

// The exam runs the product as an operator would: real processes on loopback, ports chosen by the kernel. The test binary plays every
// role by executing itself again, so the exam needs nothing but Go. What it reads and writes in Kafka goes through franz-go and what it
// expects is computed from the input by naive models, so that it shares no code with what it judges.
//
// Run it with: go test -tags exam ./cmd/markread -run '^TestExam' -count=1 -v -timeout 30m; -short makes the longest rows shorter.
//
// Two variables let it run on a real Kafka, which deploy/kafka/kafka can make: MARKREAD_TEST_BROKERS (host:port,host:port) for the rows that
// need nothing special of it, and MARKREAD_TEST_KAFKA (the folder of a cluster of three nodes) for those that disturb it. Rows that can't run
// are skipped with the reason.
package main

import (
	"bytes"
	"context"
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

// examRole is the variable that tells the test binary which part to play; without it the binary is the exam itself.
const examRole = "EXAM_ROLE"

// ExamMain runs the tests of a package of the exam, or plays a role.
func ExamMain(m *testing.M) {
	role := os.Getenv(examRole)
	if role == "" {
		examSideBySide()
		os.Exit(m.Run())
	}
	os.Unsetenv(examRole)
	go examEndWithParent()
	switch role {
	case "product":
		ctx, stop := cli.UntilSignal(context.Background())
		status := cli.Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(status)
	case "broker":
		os.Exit(examBrokerRole(os.Args[1:], os.Stdout))
	case "recorder":
		os.Exit(examRecorderRole(os.Args[1:], os.Stdout))
	}
	fmt.Fprintln(os.Stderr, "exam: no such role:", role)
	os.Exit(2)
}

// examSideBySide lets more rows run at a time than there are cores, unless the command line says how many: those that call t.Parallel mostly wait.
// Those that measure a rate to the per cent don't call it, and have the machine to themselves.
func examSideBySide() {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", "6") // the flag exists, and 6 is a number
	}
}

// examEndWithParent ends this process when the exam is gone: descriptor 3 is a pipe whose other end only the exam holds. So nothing
// outlives an exam that was killed.
func examEndWithParent() {
	pipe := os.NewFile(3, "parent")
	if pipe == nil {
		return
	}
	_, _ = io.Copy(io.Discard, pipe)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// examProc is one process of the exam. It is ended when its test ends, and its output is printed if the test failed.
type examProc struct {
	name     string
	cmd      *exec.Cmd
	stdout   examLog
	stderr   examLog
	exited   chan struct{}
	parent   *os.File // our end of descriptor 3: while it is open, the process may live
	started  time.Time
	duration time.Duration
}

// examStart starts the test binary in a role. env is added to a bare environment, so that nothing of the caller's leaks in.
func examStart(t *testing.T, name, role string, env []string, args ...string) *examProc {
	t.Helper()
	return examStartWithInput(t, name, role, env, "", args...)
}

func examStartWithInput(t *testing.T, name, role string, env []string, stdin string, args ...string) *examProc {
	t.Helper()
	withInput := func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(stdin) }
	return examStartPrepared(t, name, role, env, withInput, args...)
}

// examStartPrepared starts the test binary in a role; prepare may change the command before.
func examStartPrepared(
	t *testing.T, name, role string, env []string, prepare func(*exec.Cmd), args ...string,
) *examProc {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &examProc{name: name, cmd: exec.Command(self, args...), exited: make(chan struct{}), parent: write, started: time.Now()}
	p.cmd.Env = append([]string{
		examRole + "=" + role, "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(), "GOTRACEBACK=all",
	}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.ExtraFiles = []*os.File{read}
	prepare(p.cmd)
	err = p.cmd.Start()
	read.Close()
	if err != nil {
		write.Close()
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the status is in ProcessState
		p.duration = time.Since(p.started)
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // this very process; an error means that it has ended by itself
		<-p.exited
		p.parent.Close()
		if secret := examSecret.FindString(p.stdout.String() + p.stderr.String()); secret != "" {
			t.Errorf("%s prints a secret: %s", p.name, secret)
		}
		if t.Failed() {
			t.Logf("%s (pid %d, %v)\n--- stdout\n%s--- stderr\n%s", p.name, p.cmd.Process.Pid, p.cmd.ProcessState, p.stdout.tail(40), p.stderr.tail(80))
		}
	})
	return p
}

// signal sends a signal to the process.
func (p *examProc) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// exit waits for the end of the process and returns its exit status: -1 if a signal ended it.
func (p *examProc) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // the goroutines' stacks, for the log
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
		}
		t.Fatalf("%s did not end within %v", p.name, within)
		return -1
	}
}

// stop sends the signal and requires exit status 0 within the limit of a stop. It returns how long the stop took.
func (p *examProc) stop(t *testing.T, s syscall.Signal, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	p.signal(t, s)
	if code := p.exit(t, within); code != 0 {
		t.Fatalf("%s ended with %d after %v", p.name, code, s)
	}
	return time.Since(began)
}

// line waits for a line of standard output or standard error that matches, and returns its submatches.
func (p *examProc) line(t *testing.T, pattern string, within time.Duration) []string {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	var found []string
	examWait(t, p.name+" prints "+pattern, within, func() bool {
		if found = re.FindStringSubmatch(p.stdout.String()); found == nil {
			found = re.FindStringSubmatch(p.stderr.String())
		}
		if found == nil {
			select {
			case <-p.exited:
				t.Fatalf("%s ended (%v) and never printed %s", p.name, p.cmd.ProcessState, pattern)
			default:
			}
		}
		return found != nil
	})
	return found
}

// examSecret is what no process may print: the app's key, or a signature in a URL.
var examSecret = regexp.MustCompile(regexp.QuoteMeta(examKey) + `|usersig=[A-Za-z0-9*_-]{20,}`)

// examLog collects what a process prints.
type examLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *examLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *examLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines returns the non-empty lines printed so far.
func (l *examLog) lines() []string {
	var out []string
	for line := range strings.Lines(l.String()) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func (l *examLog) tail(n int) string {
	lines := l.lines()
	if len(lines) > n {
		lines = append([]string{fmt.Sprintf("… %d lines before", len(lines)-n)}, lines[len(lines)-n:]...)
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// examWait polls until ok, and fails the test when that takes too long.
func examWait(t *testing.T, what string, within time.Duration, ok func() bool) {
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

// examFigure reports a measured figure: one line that a reader can search for.
func examFigure(t *testing.T, name, format string, args ...any) {
	t.Helper()
	t.Logf("FIGURE %s: %s", name, fmt.Sprintf(format, args...))
}

// examCheck is an assertion that lets the test go on, so that one run shows all that is wrong.
func examCheck(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}
