//go:build exam && linux

package main

import (
	"bufio"
	"context"
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
)

// examRows has the generator make a file of rows, and returns the largest T of each conversation, reckoned from the file, and how many rows are bad.
func examRows(t *testing.T, rows int, flags ...string) (file string, want map[examConversation]int64, bad int) {
	t.Helper()
	folder := t.TempDir()
	program := filepath.Join(folder, "generator")
	if out, err := exec.Command("go", "build", "-o", program, "../rows").CombinedOutput(); err != nil {
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
	want = map[examConversation]int64{}
	lines := bufio.NewScanner(f)
	lines.Scan()
	for n := 0; lines.Scan(); n++ {
		parts := strings.Split(lines.Text(), ",")
		if len(parts) != 3 || n < 1000 && !valid.MatchString(lines.Text()) || parts[0] == "" || len(parts[2]) != 10 {
			bad++
			continue
		}
		readTime, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		c := examConversation{parts[0], parts[1]}
		want[c] = max(want[c], readTime)
	}
	return file, want, bad
}

// backfill starts the command over a file.
func (k *examKafka) backfillOf(t *testing.T, file string, extra ...string) *examProc {
	t.Helper()
	args := []string{"backfill", "--brokers", k.addr, "--backfill-topic", k.backfill, "--group", k.group, file}
	return examStart(t, "backfill", "product", nil, append(args, extra...)...)
}

// most polls a process until it ends, and returns its largest resident memory.
func (p *examProc) most(within time.Duration) (bytes int) {
	limit, tick := time.After(within), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	line := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) // when it has ended there is none
		if found := line.FindSubmatch(status); found != nil {
			kilobytes, _ := strconv.Atoi(string(found[1]))
			bytes = max(bytes, kilobytes<<10)
		}
		select {
		case <-p.exited:
			return bytes
		case <-limit:
			return bytes
		case <-tick.C:
		}
	}
}

// records returns how many records a topic has.
func (k *examKafka) records(t *testing.T, topic string) (n int64) {
	t.Helper()
	var ends map[examPartition]int64
	var err error
	examWait(t, "the leaders of "+topic+" say where it ends", 30*time.Second, func() bool {
		ends, err = k.tryEnds(examContext(t), topic)
		return err == nil
	})
	for _, end := range ends {
		n += end
	}
	return n
}

// fold reads a topic and returns the largest T of each conversation.
func (k *examKafka) fold(t *testing.T, topic string) map[examConversation]int64 {
	t.Helper()
	cl, err := kgo.NewClient(k.seeds(), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out := map[examConversation]int64{}
	for left := k.records(t, topic); left > 0; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("reading %s: %v, %d records left", topic, err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			var e struct {
				Report string `json:"Report_Account"`
				Peer   string `json:"Peer_Account"`
				T      int64  `json:"MsgReadTime"`
			}
			if err := json.Unmarshal(r.Value, &e); err != nil || string(r.Key) != e.Report+"|"+e.Peer {
				t.Fatalf("key %s of %s: %v", r.Key, r.Value, err)
			}
			c := examConversation{e.Report, e.Peer}
			out[c] = max(out[c], e.T)
		})
	}
	return out
}

// TestExamBackfill: ten million rows, half of them of a conversation that came before, at 150,000 a second or more, within 300 MiB, and hardly a record
// more than there are conversations.
func TestExamBackfill(t *testing.T) {
	rows := 10_000_000
	if testing.Short() {
		rows = 300_000
	}
	file, want, _ := examRows(t, rows)
	k := examStartEmbedded(t, "the command is measured, not the brokers")
	p := k.backfillOf(t, file)
	most := p.most(10 * time.Minute)
	if code := p.exit(t, time.Second); code != 0 {
		t.Fatalf("exit %d", code)
	}
	records := k.records(t, k.backfill)
	each, ratio := float64(rows)/p.duration.Seconds(), float64(records)/float64(len(want))
	examFigure(t, "backfill", "%d rows of %d conversations in %.1f s: %.0f rows/s, %d MiB of RSS at most, %d records: %.4f for each conversation",
		rows, len(want), p.duration.Seconds(), each, most>>20, records, ratio)
	examCheck(t, each >= 150_000, "%.0f rows a second", each)
	examCheck(t, most > 0 && most <= 300<<20, "%d bytes of RSS", most)
	examCheck(t, ratio <= 1.02, "%.4f records for each conversation", ratio)
	examComparePointers(t, want, k.fold(t, k.backfill))
}

// TestExamBackfillKilled: SIGKILL while it reads and twice while it publishes, at random points, and --resume each time. Every conversation gets to its
// largest T, and every bad row is rejected once.
func TestExamBackfillKilled(t *testing.T) {
	rows := 10_000_000
	if testing.Short() {
		rows = 1_000_000
	}
	file, want, bad := examRows(t, rows, "-bad", "0.001")
	rejects := file + ".rejects"
	k := examStartBroker(t)
	var killed []string
	resume := []string(nil)
	for kill := range 3 {
		p := k.backfillOf(t, file, append(resume, "--rejects", rejects)...)
		resume = []string{"--resume"}
		examWait(t, "a state", 30*time.Second, func() bool { _, err := os.Stat(file + ".markread-resume"); return err == nil })
		before := k.records(t, k.backfill)
		after := int64(0) // records: in the first run none, so that it dies while it reads
		if kill > 0 {
			after = 1 + rand.Int64N(int64(len(want))/4)
		} else {
			<-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		}
		for k.records(t, k.backfill) < before+after {
			select {
			case <-p.exited:
				t.Fatalf("it ended before it was killed: the row says nothing")
			default:
			}
		}
		p.signal(t, syscall.SIGKILL)
		p.exit(t, 5*time.Second)
		killed = append(killed, fmt.Sprint(k.records(t, k.backfill)-before))
	}
	p := k.backfillOf(t, file, append(resume, "--rejects", rejects)...)
	if code := p.exit(t, 10*time.Minute); code != 3 {
		t.Fatalf("exit %d, want 3", code)
	}
	records := k.records(t, k.backfill)
	examFigure(t, "backfill-killed", "%d rows of %d conversations, killed three times after %s records; %d records in all, %.2f for each conversation", rows,
		len(want), strings.Join(killed, ", "), records, float64(records)/float64(len(want)))
	examComparePointers(t, want, k.fold(t, k.backfill))
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
	examCheck(t, len(numbers) == bad && slices.IsSorted(numbers) && len(slices.Compact(numbers)) == bad, "%d rejects of %d bad rows", len(numbers), bad)
	_, err = os.Stat(file + ".markread-resume")
	examCheck(t, os.IsNotExist(err), "the state is still there: %v", err)
}

// TestExamBackfillApplied: from the file to the server: every conversation is marked as read up to its largest T, by one call.
func TestExamBackfillApplied(t *testing.T) {
	t.Parallel()
	file, want, _ := examRows(t, 20_000, "-format", "csv", "-seed", "3")
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "0")
	p := k.backfillOf(t, file)
	if code := p.exit(t, time.Minute); code != 0 {
		t.Fatalf("exit %d", code)
	}
	w := examStartWorker(t, k, im.url, "--rate", "0")
	k.settled(t, time.Minute, k.backfill)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	arrivals := im.arrivals(t)
	examCheck(t, len(arrivals) == len(want), "%d calls for %d conversations", len(arrivals), len(want))
	examComparePointers(t, want, examPointers(arrivals))
}

// TestExamBackfillInterrupted: Ctrl-C; Ctrl-C while the brokers are dead; brokers that die and come back. It ends soon, with 1 and with what to do, which
// does it; and it needs nobody when the brokers come back by themselves.
func TestExamBackfillInterrupted(t *testing.T) {
	t.Parallel()
	file, want, _ := examRows(t, 3_000_000, "-seed", "5")
	data := t.TempDir()
	k := examStartEmbedded(t, "the brokers are killed", "-data-dir", data)
	published := func(p *examProc, n int64) {
		before := k.records(t, k.backfill)
		examWait(t, "records are published", time.Minute, func() bool {
			select {
			case <-p.exited:
				t.Fatalf("it ended before it was interrupted: the row says nothing")
			default:
			}
			return k.records(t, k.backfill) >= before+n
		})
	}
	says := func(p *examProc, status int, want string) {
		if code := p.exit(t, 20*time.Second); code != status {
			t.Fatalf("exit %d, want %d", code, status)
		}
		lines := p.stderr.lines()
		examCheck(t, strings.Contains(lines[len(lines)-1], want), "the last line does not say %q: %s", want, lines[len(lines)-1])
	}
	p := k.backfillOf(t, file)
	published(p, 1)
	p.signal(t, syscall.SIGINT)
	says(p, 1, "go on with the same command and --resume")

	p = k.backfillOf(t, file, "--resume")
	published(p, 1)
	k.signal(t, syscall.SIGKILL)
	k.exit(t, 5*time.Second)
	p.line(t, "(not published yet; trying again)", 10*time.Second)
	p.signal(t, syscall.SIGINT)
	says(p, 1, "go on with the same command and --resume")

	start := func() *examProc {
		broker := examStart(t, "broker", "broker", nil, "-data-dir", data, "-addr", k.addr)
		broker.line(t, `listening on (\S+)`, 10*time.Second)
		return broker
	}
	broker := start()
	p = k.backfillOf(t, file, "--resume")
	published(p, 1)
	broker.signal(t, syscall.SIGKILL)
	broker.exit(t, 5*time.Second)
	p.line(t, "(not published yet; trying again)", 10*time.Second)
	start()
	if code := p.exit(t, time.Minute); code != 0 {
		t.Fatalf("exit %d", code)
	}
	examComparePointers(t, want, k.fold(t, k.backfill))
}
