//go:build exam && linux

package exam

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/exam/kit"
	"markread/worker/format"
)

// runDeadLetters runs a `dead-letters` command on the test's topic to its end, and requires the
// exit status.
func runDeadLetters(k *kit.Kafka, t *testing.T, status int, args ...string) *kit.Proc {
	t.Helper()
	p := startDeadLetters(k, t, args...)
	if code := p.Exit(t, time.Minute); code != status {
		t.Fatalf("dead-letters %s ended with %d, want %d: %s", strings.Join(args, " "), code,
			status, p.Stderr.Tail(5))
	}
	return p
}

func startDeadLetters(k *kit.Kafka, t *testing.T, args ...string) *kit.Proc {
	t.Helper()
	names := []string{"--brokers", k.Addr, "--dead-letter-topic", k.DeadLetters}
	if args[0] == "replay" {
		names = append(names, "--topic", k.Live, "--backfill-topic", k.Backfill)
	}
	return kit.Start(t, "dead-letters "+args[0], "product", nil,
		slices.Concat([]string{"dead-letters"}, args, names)...)
}

// TestExamLettersList: 200,000 dead letters are counted and listed within 5 s and 200 MiB.
func TestExamLettersList(t *testing.T) {
	letters := 200_000
	if testing.Short() {
		letters = 40_000
	}
	k := kit.StartBroker(t)
	began := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	codes := []string{"90048", "90008", "timeout", "http_502"}
	kit.ProduceDeadLetters(t, k, letters, func(i int) kit.DeadLetter {
		l := kit.DeadLetter{
			Event: kit.NewEvent("u"+strconv.Itoa(i/2), "p"+strconv.Itoa(i%97), began.Unix()-60),
			Class: "rejected"}
		l.Code = codes[i%len(codes)]
		if i%len(codes) > 1 {
			l.Class = "exhausted"
		}
		l.FailedAt = began.Add(time.Duration(i) * time.Millisecond)
		return l
	})
	for _, c := range []struct {
		name  string
		args  []string
		lines int // of JSON; -1: plain text
	}{
		{"ls", nil, -1},
		{"ls, filtered", []string{"--class", "exhausted", "--report", "u1"}, -1},
		{"ls --json", []string{"--json"}, letters},
		{"ls --json, filtered", []string{"--json", "--code", "90048", "--since", "2h"},
			letters / 4},
		{"ls --json, one reader", []string{"--json", "--report", "u1"}, 2},
	} {
		p := startDeadLetters(k, t, append([]string{"ls"}, c.args...)...)
		most := peakMemory(p, time.Minute)
		if code := p.Exit(t, time.Minute); code != 0 {
			t.Fatalf("%s ended with %d", c.name, code)
		}
		kit.Figure(t, "letters-"+c.name, "%d dead letters: %.2f s, %d MiB of RSS at most", letters,
			p.Duration.Seconds(), most>>20)
		kit.Check(t, p.Duration <= 5*time.Second, "%s took %v", c.name, p.Duration)
		kit.Check(t, most <= 200<<20, "%s took %d bytes of RSS", c.name, most)
		if c.lines < 0 {
			continue
		}
		lines := p.Stdout.Lines()
		kit.Check(t, len(lines) == c.lines, "%s printed %d lines, want %d", c.name, len(lines),
			c.lines)
		last := ""
		for _, line := range lines {
			var l struct {
				ID       string `json:"id"`
				FailedAt string `json:"failed_at"`
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.FailedAt == "" {
				t.Fatalf("%s printed %s: %v", c.name, line, err)
			}
			if at, _ := time.Parse(time.RFC3339Nano, l.FailedAt); at.UTC().
				Format("2006-01-02T15:04:05.000") < last {
				t.Fatalf("%s is not in order at %s", c.name, line)
			} else {
				last = at.UTC().Format("2006-01-02T15:04:05.000")
			}
		}
	}
}

// TestExamLettersLarge: dead letters of another program, with headers as large as a record may be
// and failed-at in any order, are listed within 200 MiB.
func TestExamLettersLarge(t *testing.T) {
	const letters = 250
	k := kit.StartBroker(t)
	lane := strings.Repeat("x", 850_000)
	for i := range letters {
		l := kit.DeadLetter{Event: kit.NewEvent("u"+strconv.Itoa(i), "p", 1_700_000_000),
			Class: "rejected", Code: "90048"}
		l.FailedAt = time.Now().Add(-time.Duration(i*7919%letters) * time.Minute)
		r := l.Record(k.DeadLetters)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "markread.lane", Value: []byte(lane)})
		k.Produce(t, r)
	}
	p := startDeadLetters(k, t, "ls", "--json")
	most := peakMemory(p, time.Minute)
	if code := p.Exit(t, time.Minute); code != 0 {
		t.Fatalf("ls ended with %d", code)
	}
	kit.Figure(t, "letters-large", "%d dead letters of 850 KB: %.2f s, %d MiB of RSS at most",
		letters, p.Duration.Seconds(), most>>20)
	kit.Check(t, most <= 200<<20, "ls took %d bytes of RSS", most)
	kit.Check(t, len(p.Stdout.Lines()) == letters, "ls printed %d lines", len(p.Stdout.Lines()))
}

// TestExamLettersTransactions: dead letters that another program wrote in a transaction appear once
// it is committed, and not before. Those of an aborted transaction never appear, and `ls` does not
// wait for the transactions' markers.
func TestExamLettersTransactions(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	x := startTransactor(t, k, "letters")
	now := time.Now()
	letter := func(report string) *kgo.Record {
		return kit.DeadLetter{Event: kit.NewEvent(report, "p", now.Unix()-100), Class: "rejected",
			Code: "90048", FailedAt: now}.Record(k.DeadLetters)
	}
	transaction := func(report string, end kgo.TransactionEndTry) {
		t.Helper()
		if err := x.begin(t, letter(report), letter(report)); err != nil {
			t.Fatal(err)
		}
		if err := x.cl.EndTransaction(kit.Context(t), end); err != nil {
			t.Fatal(err)
		}
	}
	readers := func() (all []string) {
		for _, l := range listDeadLetters(k, t) {
			all = append(all, l["report"].(string))
		}
		slices.Sort(all)
		return all
	}
	transaction("good", kgo.TryCommit)
	transaction("bad", kgo.TryAbort)
	k.Produce(t, letter("plain"))
	if got := readers(); !slices.Equal(got, []string{"good", "good", "plain"}) {
		t.Errorf("dead letters of %v", got)
	}
	began := time.Now()
	if err := x.begin(t, letter("open")); err != nil {
		t.Fatal(err)
	}
	if got := readers(); slices.Contains(got, "open") {
		t.Errorf("dead letters of %v, one of them in an open transaction", got)
	}
	took := time.Since(began)
	kit.Check(t, took < 10*time.Second, "ls waits %v for a transaction", took)
	out := runDeadLetters(k, t, 0, "replay", "--yes", "--report", "good").Stdout.String()
	kit.Check(t, strings.HasPrefix(out, "replayed 2 dead letters of 1 conversation"),
		"replay prints %q", out)
	if err := x.cl.EndTransaction(kit.Context(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	var got []string
	kit.Wait(t, "the dead letter of the open transaction appears", 20*time.Second, func() bool {
		got = readers()
		return slices.Equal(got, []string{"open", "plain"})
	})
	kit.Figure(t, "letters-transactions",
		"committed, aborted and open ones: open dead letters of %v in the end; ls beside an open "+
			"transaction took %v", got, took.Round(time.Millisecond))
}

// TestExamLettersFewConversations: the cost of a replay grows with the dead letters, however few
// conversations they have: 300,000 of 3,000 conversations, in no order of time.
func TestExamLettersFewConversations(t *testing.T) {
	letters, conversations := 300_000, 3_000
	if testing.Short() {
		letters = 60_000
	}
	k := kit.StartBroker(t)
	now := time.Now()
	kit.ProduceDeadLetters(t, k, letters, func(i int) kit.DeadLetter {
		l := kit.DeadLetter{Event: kit.NewEvent("u"+strconv.Itoa(i%conversations), "p",
			now.Unix()-int64(i*7919%letters)), Class: "rejected", Code: "90048"}
		l.FailedAt = now.Add(-time.Duration(i*104_729%letters) * time.Millisecond)
		return l
	})
	p := startDeadLetters(k, t, "replay", "--yes")
	most := peakMemory(p, 2*time.Minute)
	code := p.Exit(t, 2*time.Minute)
	out := strings.TrimSpace(p.Stdout.String())
	kit.Figure(t, "letters-few-conversations", "%s: %.2f s, %d MiB of RSS at most", out,
		p.Duration.Seconds(), most>>20)
	want := fmt.Sprintf("replayed %s dead letters of 3,000 conversations to %s",
		format.Thousands(int64(letters)), k.Backfill)
	kit.Check(t, code == 0 && out == want, "%d: %s", code, out)
	kit.Check(t, p.Duration < 20*time.Second && most < 200<<20, "it took %v, and %d bytes",
		p.Duration, most)
}
