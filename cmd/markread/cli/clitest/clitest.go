// Package clitest helps to test commands. It runs a command line in the test's own process, until
// it ends or the test stops it, and has what these tests share: an output that can be read
// meanwhile, an embedded broker, secrets to search for. It knows no commands: the function that
// runs a command line is an argument, so that tests inside and outside package cli can use it. Only
// tests import it.
package clitest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"markread/consumer/broker"
)

// Buffer is an output that a test can read while a command writes to it.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Running is a command that runs in this process.
type Running struct {
	Stdout, Stderr Buffer
	stop           context.CancelFunc
	Done           chan struct{}
	Status         int
}

// Commands is the function that runs a command line: cli.Run.
type Commands func(ctx context.Context, args, env []string, stdin io.Reader, stdout,
	stderr io.Writer) int

// Begin starts a command line, which runs until it ends, Stop is called or the test ends.
func (run Commands) Begin(t *testing.T, env []string, args ...string) *Running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Running{stop: cancel, Done: make(chan struct{})}
	go func() {
		defer close(r.Done)
		r.Status = run(ctx, args, env, strings.NewReader(""), &r.Stdout, &r.Stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.Done
		if t.Failed() {
			t.Logf("%v: status %d\n%s%s", args, r.Status, &r.Stdout, &r.Stderr)
		}
	})
	return r
}

// Stop stops the command and returns its status.
func (r *Running) Stop() int {
	r.stop()
	<-r.Done
	return r.Status
}

// WaitUntil waits until holds returns true, at most WaitLimit; what describes the condition.
func WaitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(WaitLimit)
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("waited %s for %s", WaitLimit, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// WaitFor waits for a match in the command's outputs and returns its first group.
func (r *Running) WaitFor(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var match []string
	WaitUntil(t, pattern, func() bool {
		match = re.FindStringSubmatch(r.Stdout.String() + r.Stderr.String())
		return match != nil
	})
	return match[1]
}

// NoLeaks checks at the end of the test that all goroutines that it started after this call have
// ended.
func NoLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// Find retries for half a second, which is too short for a server's goroutines on a busy
		// machine.
		err := goleak.Find(before)
		for limit := time.Now().Add(WaitLimit); err != nil && time.Now().Before(limit); {
			err = goleak.Find(before)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// TestKey is an IM key that tests search for in all output.
const TestKey = "canary-5bd2850fff3ecb11"

// Result is the exit status and the output of a command line.
type Result struct {
	Status         int
	Stdout, Stderr string
}

// Try runs a command line in this process.
func (run Commands) Try(t *testing.T, env []string, stdin string, args ...string) Result {
	t.Helper()
	var stdout, stderr Buffer // the command redirects the standard logger, which outlives it
	status := run(t.Context(), args, env, strings.NewReader(stdin), &stdout, &stderr)
	return Result{status, stdout.String(), stderr.String()}
}

// File writes a file with the content and returns its path.
func File(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// BeginWorker starts `markread run` with a broker and an IM server, and returns it and the address
// of its admin server.
func (run Commands) BeginWorker(t *testing.T, brokers, im string, extra ...string) (*Running,
	string) {
	t.Helper()
	r := run.Begin(t, []string{"MARKREAD_IM_KEY=" + TestKey},
		append([]string{"run", "--brokers", brokers, "--im-url", im, "--im-app-id", "1400000000",
			"--admin-addr", "127.0.0.1:0"}, extra...)...)
	return r, r.WaitFor(t, `"addr":"(127\.0\.0\.1:\d+)"`)
}

// StartBroker starts an embedded broker with these topics, of two partitions each.
func StartBroker(t *testing.T, topics ...string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(broker.Options{Topics: topics, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// LastLine returns the message of a log's last line, which must be its only error.
func LastLine(t *testing.T, log string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	var last struct{ Level, Message string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil ||
		last.Level != "error" || strings.Count(log, `"level":"error"`) != 1 {
		t.Errorf("the log does not end with its one error: %s", log)
	}
	return last.Message
}

// AddDeadLetters writes n dead letters of different conversations to mark-read-dead-letters.
func AddDeadLetters(t *testing.T, brokers string, n int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers),
		kgo.DefaultProduceTopic("mark-read-dead-letters"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for i := range n {
		account := fmt.Sprint("r", i)
		r := &kgo.Record{Key: []byte(account + "|p"), Value: fmt.Appendf(nil,
			`{"Report_Account":%q,"Peer_Account":"p","MsgReadTime":1700000000}`, account)}
		for _, h := range [][2]string{
			{"markread.class", "rejected"}, {"markread.code", "90048"}, {"markread.event-time",
				"1700000000000"}, {"markread.failed-at", "2026-03-01T02:48:00Z"},
		} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		records = append(records, r)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// WaitLimit is how long a test waits for something that takes milliseconds. Only a failing test
// waits so long.
const WaitLimit = 30 * time.Second

// Fetch returns the body of the response to a GET request.
func Fetch(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// WriteErrorCode writes a response of the IM API.
func WriteErrorCode(w http.ResponseWriter, code int, info string) {
	// Marshal can't fail.
	text, _ := json.Marshal(map[string]any{"ActionStatus": info, "ErrorCode": code,
		"ErrorInfo": info})
	_, _ = w.Write(text)
}

// EventJSON returns event number i of an account.
func EventJSON(account string, i int) string {
	return fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":"peer","MsgReadTime":%d}`, account,
		1_700_000_000+i)
}

// RaiseParallelism lets more parallel tests run at a time than there are cores, because they mostly
// wait. A number on the command line has precedence.
func RaiseParallelism() {
	if !strings.Contains(filepath.Base(os.Args[0]), ".test") {
		return // this process runs as a transcript's program
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", "6") // can't fail: the flag exists, and 6 is a number
	}
}
