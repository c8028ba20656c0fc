//go:build exam && linux

package exam

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/exam/kit"
)

// generateRows runs the generator. It returns the file, and, computed from the file, the largest T
// of each conversation and the number of bad rows.
func generateRows(t *testing.T, rows int, flags ...string) (file string,
	want map[kit.Conversation]int64, bad int) {
	t.Helper()
	folder := t.TempDir()
	program := filepath.Join(folder, "generator")
	if out, err := exec.Command("go", "build", "-o", program, "markread/cmd/rows").
		CombinedOutput(); err != nil {
		t.Fatalf("the generator: %v\n%s", err, out)
	}
	file = filepath.Join(folder, "states.csv")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	generator := exec.Command(program, append([]string{"-rows", strconv.Itoa(rows)}, flags...)...)
	generator.Stdout, generator.Stderr = f, os.Stderr
	if err := generator.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	valid := regexp.MustCompile(`^(user\d+),(user\d+),(\d{10})$`)
	want = map[kit.Conversation]int64{}
	lines := bufio.NewScanner(f)
	lines.Scan()
	for n := 0; lines.Scan(); n++ {
		parts := strings.Split(lines.Text(), ",")
		if len(parts) != 3 || n < 1000 && !valid.MatchString(lines.Text()) || parts[0] == "" ||
			len(parts[2]) != 10 {
			bad++
			continue
		}
		readTime, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		c := kit.Conversation{Report: parts[0], Peer: parts[1]}
		want[c] = max(want[c], readTime)
	}
	return file, want, bad
}

// startBackfill starts the command on a file.
func startBackfill(k *kit.Kafka, t *testing.T, file string, extra ...string) *kit.Proc {
	t.Helper()
	args := []string{"backfill", "--brokers", k.Addr, "--backfill-topic", k.Backfill, "--group",
		k.Group, file}
	return kit.Start(t, "backfill", "product", nil, append(args, extra...)...)
}

// peakMemory polls a process until it ends, and returns its peak resident memory.
func peakMemory(p *kit.Proc, within time.Duration) (bytes int) {
	for limit := time.Now().Add(within); !p.Ended() && time.Now().Before(limit); {
		if peak, err := readMemory(p, "VmHWM"); err == nil { // fails if the process has ended
			bytes = max(bytes, peak)
		}
		<-time.After(20 * time.Millisecond)
	}
	return bytes
}

// largestInTopic reads a topic and returns the largest T of each conversation.
func largestInTopic(k *kit.Kafka, t *testing.T, topic string) map[kit.Conversation]int64 {
	t.Helper()
	out := map[kit.Conversation]int64{}
	k.ReadEach(t, topic, func(r *kgo.Record) {
		e := decodeEvent(t, r)
		if !bytes.Equal(r.Key, e.Key()) {
			t.Fatalf("key %s of %s", r.Key, r.Value)
		}
		out[e.Conversation] = max(out[e.Conversation], e.ReadTime)
	})
	return out
}

// decodeEvent decodes the record of an event; ReadTime is 0 if there is no MsgReadTime.
func decodeEvent(t *testing.T, r *kgo.Record) kit.Event {
	t.Helper()
	var e struct {
		Report string `json:"Report_Account"`
		Peer   string `json:"Peer_Account"`
		T      int64  `json:"MsgReadTime"`
	}
	if err := json.Unmarshal(r.Value, &e); err != nil {
		t.Fatalf("%v: %s", err, r.Value)
	}
	return kit.NewEvent(e.Report, e.Peer, e.T)
}

// TestExamBackfill: ten million rows, half of them of a conversation that has an earlier row, are
// published at 150,000 a second or more, within 300 MiB, and with hardly more records than
// conversations.
func TestExamBackfill(t *testing.T) {
	rows := 10_000_000
	if testing.Short() {
		rows = 300_000
	}
	file, want, _ := generateRows(t, rows)
	k := kit.StartEmbedded(t, "it measures the command, not the brokers")
	p := startBackfill(k, t, file)
	most := peakMemory(p, 10*time.Minute)
	if code := p.Exit(t, time.Second); code != 0 {
		t.Fatalf("exit %d", code)
	}
	records := k.Records(t, k.Backfill)
	each, ratio := float64(rows)/p.Duration.Seconds(), float64(records)/float64(len(want))
	kit.Figure(t, "backfill", "%d rows of %d conversations in %.1f s: %.0f rows/s, %d MiB of RSS "+
		"at most, %d records: %.4f for each conversation", rows, len(want), p.Duration.Seconds(),
		each, most>>20, records, ratio)
	kit.Check(t, each >= 150_000, "%.0f rows a second", each)
	kit.Check(t, most > 0 && most <= 300<<20, "%d bytes of RSS", most)
	kit.Check(t, ratio <= 1.02, "%.4f records for each conversation", ratio)
	kit.CompareReadTimes(t, want, largestInTopic(k, t, k.Backfill))
}

// TestExamBackfillKilled: SIGKILL at random points, once while it reads and twice while it
// publishes, and --resume each time. The largest T of every conversation is published, and every
// bad row is rejected once.
func TestExamBackfillKilled(t *testing.T) {
	rows := 10_000_000
	if testing.Short() {
		rows = 1_000_000
	}
	file, want, bad := generateRows(t, rows, "-bad", "0.001")
	rejects := file + ".rejects"
	k := kit.StartBroker(t)
	var killed []string
	resume := []string(nil)
	for kill := range 3 {
		p := startBackfill(k, t, file, append(resume, "--rejects", rejects)...)
		resume = []string{"--resume"}
		kit.Wait(t, "a resume file", 30*time.Second,
			func() bool { _, err := os.Stat(file + ".markread-resume"); return err == nil })
		before := k.Records(t, k.Backfill)
		after := int64(0) // in records; none in the first run, so that it is killed while it reads
		if kill > 0 {
			after = 1 + rand.Int64N(int64(len(want))/4)
		} else {
			<-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		}
		for k.Records(t, k.Backfill) < before+after {
			if p.Ended() {
				t.Fatalf("it ended before it was killed: the test proves nothing")
			}
		}
		p.Signal(t, syscall.SIGKILL)
		p.Exit(t, 5*time.Second)
		killed = append(killed, fmt.Sprint(k.Records(t, k.Backfill)-before))
	}
	p := startBackfill(k, t, file, append(resume, "--rejects", rejects)...)
	if code := p.Exit(t, 10*time.Minute); code != 3 {
		t.Fatalf("exit %d, want 3", code)
	}
	records := k.Records(t, k.Backfill)
	kit.Figure(t, "backfill-killed",
		"%d rows of %d conversations, killed three times after %s records; %d records in all, "+
			"%.2f for each conversation", rows, len(want), strings.Join(killed, ", "), records,
		float64(records)/float64(len(want)))
	kit.CompareReadTimes(t, want, largestInTopic(k, t, k.Backfill))
	text, err := os.ReadFile(rejects)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for line := range strings.Lines(string(text)) {
		var r struct{ Line int }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		numbers = append(numbers, r.Line)
	}
	kit.Check(t, len(numbers) == bad && slices.IsSorted(numbers) &&
		len(slices.Compact(numbers)) == bad, "%d rejects of %d bad rows", len(numbers), bad)
	_, err = os.Stat(file + ".markread-resume")
	kit.Check(t, os.IsNotExist(err), "the resume file is still there: %v", err)
}

// TestExamBackfillApplied: from the file to the server. Every conversation is marked as read up to
// its largest T, by one call.
func TestExamBackfillApplied(t *testing.T) {
	t.Parallel()
	file, want, _ := generateRows(t, 20_000, "-format", "csv", "-seed", "3")
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "0")
	p := startBackfill(k, t, file)
	if code := p.Exit(t, time.Minute); code != 0 {
		t.Fatalf("exit %d", code)
	}
	w := kit.StartWorker(t, k, im.URL, "--rate", "0")
	k.WaitCommitted(t, time.Minute, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	arrivals := im.Arrivals(t)
	kit.Check(t, len(arrivals) == len(want), "%d calls for %d conversations", len(arrivals),
		len(want))
	kit.CompareReadTimes(t, want, kit.ReadTimes(arrivals))
}

// TestExamBackfillInterrupted: Ctrl-C; Ctrl-C while the brokers are down; and brokers that are
// killed and restarted. After Ctrl-C it ends soon with exit status 1 and the command that
// continues, which works. When the brokers are back, it continues without an operator.
func TestExamBackfillInterrupted(t *testing.T) {
	t.Parallel()
	file, want, _ := generateRows(t, 3_000_000, "-seed", "5")
	data := t.TempDir()
	k := kit.StartEmbedded(t, "it kills the broker", "-data-dir", data)
	published := func(p *kit.Proc, n int64) {
		before := k.Records(t, k.Backfill)
		kit.Wait(t, "records are published", time.Minute, func() bool {
			if p.Ended() {
				t.Fatalf("it ended before it was interrupted: the test proves nothing")
			}
			return k.Records(t, k.Backfill) >= before+n
		})
	}
	expectEnd := func(p *kit.Proc, status int, want string) {
		if code := p.Exit(t, 20*time.Second); code != status {
			t.Fatalf("exit %d, want %d", code, status)
		}
		lines := p.Stderr.Lines()
		kit.Check(t, strings.Contains(lines[len(lines)-1], want),
			"the last line does not contain %q: %s", want, lines[len(lines)-1])
	}
	p := startBackfill(k, t, file)
	published(p, 1)
	p.Signal(t, syscall.SIGINT)
	expectEnd(p, 1, "continue with the same command and --resume")

	p = startBackfill(k, t, file, "--resume")
	published(p, 1)
	k.Signal(t, syscall.SIGKILL)
	k.Exit(t, 5*time.Second)
	p.Line(t, "(not published yet; retrying)", 10*time.Second)
	p.Signal(t, syscall.SIGINT)
	expectEnd(p, 1, "continue with the same command and --resume")

	start := func() *kit.Proc {
		broker := kit.Start(t, "broker", "broker", nil, "-data-dir", data, "-addr", k.Addr)
		broker.Line(t, `listening on (\S+)`, 10*time.Second)
		return broker
	}
	broker := start()
	p = startBackfill(k, t, file, "--resume")
	published(p, 1)
	broker.Signal(t, syscall.SIGKILL)
	broker.Exit(t, 5*time.Second)
	p.Line(t, "(not published yet; retrying)", 10*time.Second)
	start()
	if code := p.Exit(t, time.Minute); code != 0 {
		t.Fatalf("exit %d", code)
	}
	kit.CompareReadTimes(t, want, largestInTopic(k, t, k.Backfill))
}
