package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"markread/consumer/broker"
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
)

// buffer may be written by a command while the test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// running is a command that runs in this process.
type running struct {
	stdout, stderr buffer
	stop           context.CancelFunc
	done           chan struct{}
	status         int
}

// commands runs command lines: it is cli.Run.
type commands func(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int

// Begin runs a command line until the test or stop ends it.
func (run commands) Begin(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.status = run(ctx, args, env, strings.NewReader(""), &r.stdout, &r.stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if t.Failed() {
			t.Logf("%v: status %d\n%s%s", args, r.status, &r.stdout, &r.stderr)
		}
	})
	return r
}

// stopped stops the command and returns its status.
func (r *running) stopped() int {
	r.stop()
	<-r.done
	return r.status
}

// until waits for a condition that another goroutine or process brings about.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("waited %s for %s", patience, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// found waits for a match in the command's outputs and returns its first group.
func (r *running) found(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var match []string
	until(t, pattern, func() bool {
		match = re.FindStringSubmatch(r.stdout.String() + r.stderr.String())
		return match != nil
	})
	return match[1]
}

// noLeaks holds that the goroutines that the rest of the test starts have ended when it has.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

const testKey = "canary-5bd2850fff3ecb11"

// result is what a command line left behind.
type result struct {
	status         int
	stdout, stderr string
}

// Try runs a command line in this process.
func (run commands) Try(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr buffer // the standard logger, which the command takes, outlives it
	status := run(t.Context(), args, env, strings.NewReader(stdin), &stdout, &stderr)
	return result{status, stdout.String(), stderr.String()}
}

// file writes a file with the content and returns its path.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// BeginWorker begins `markread run` against a broker and an IM server and returns it with the address of its admin server.
func (run commands) BeginWorker(t *testing.T, brokers, im string, extra ...string) (*running, string) {
	t.Helper()
	r := run.Begin(t, []string{"MARKREAD_IM_KEY=" + testKey},
		append([]string{"run", "--brokers", brokers, "--im-url", im, "--im-app-id", "1400000000", "--admin-addr", "127.0.0.1:0"}, extra...)...)
	return r, r.found(t, `"addr":"(127\.0\.0\.1:\d+)"`)
}

func embedded(t *testing.T, topics ...string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(broker.Options{Topics: topics, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// lastLine is the last line of a log, which must be an error.
func lastLine(t *testing.T, log string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	var last struct{ Level, Message string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Level != "error" || strings.Count(log, `"level":"error"`) != 1 {
		t.Errorf("the log does not end with its one error: %s", log)
	}
	return last.Message
}

// letterRecords writes n letters of different conversations to the topic.
func letterRecords(t *testing.T, brokers string, n int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.DefaultProduceTopic("mark-read-dead-letters"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for i := range n {
		account := fmt.Sprint("r", i)
		r := &kgo.Record{Key: []byte(account + "|p"), Value: fmt.Appendf(nil, `{"Report_Account":%q,"Peer_Account":"p","MsgReadTime":1700000000}`, account)}
		for _, h := range [][2]string{
			{"markread.class", "rejected"}, {"markread.code", "90048"}, {"markread.event-time", "1700000000000"}, {"markread.failed-at", "2026-03-01T02:48:00Z"},
		} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		records = append(records, r)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// patience is how long a test waits for something that takes milliseconds. It is never waited for in full unless the test fails.
const patience = 30 * time.Second

// fetch returns the body of a page.
func fetch(t *testing.T, url string) string {
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

func verdict(w http.ResponseWriter, code int, info string) {
	text, _ := json.Marshal(map[string]any{"ActionStatus": info, "ErrorCode": code, "ErrorInfo": info}) // can't fail
	_, _ = w.Write(text)
}

// conversation of the event with the number i of an account.
func eventOf(account string, i int) string {
	return fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":"peer","MsgReadTime":%d}`, account, 1_700_000_000+i)
}

// sideBySide lets more tests run at a time than there are cores, unless the command line says how
// many: those that call t.Parallel mostly wait.
func sideBySide() {
	if !strings.Contains(filepath.Base(os.Args[0]), ".test") {
		return // this process is a program of a transcript
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", "6") // the flag exists, and 6 is a number
	}
}
