//go:build exam && linux

package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// deadLetters runs a command about the row's dead letters to its end, which must have the exit status.
func (k *examKafka) deadLetters(t *testing.T, status int, args ...string) *examProc {
	t.Helper()
	p := k.startDeadLetters(t, args...)
	if code := p.exit(t, time.Minute); code != status {
		t.Fatalf("dead-letters %s ended with %d, want %d: %s", strings.Join(args, " "), code, status, p.stderr.tail(5))
	}
	return p
}

func (k *examKafka) startDeadLetters(t *testing.T, args ...string) *examProc {
	t.Helper()
	names := []string{"--brokers", k.addr, "--dead-letter-topic", k.letters}
	if args[0] == "replay" {
		names = append(names, "--topic", k.live, "--backfill-topic", k.backfill)
	}
	return examStart(t, "dead-letters "+args[0], "product", nil, slices.Concat([]string{"dead-letters"}, args, names)...)
}

// TestExamLettersList: 200,000 letters are counted, and listed, within 5 s and 200 MiB.
func TestExamLettersList(t *testing.T) {
	letters := 200_000
	if testing.Short() {
		letters = 40_000
	}
	k := examStartBroker(t)
	began := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	codes := []string{"90048", "90008", "timeout", "http_502"}
	examWriteLetters(t, k, letters, func(i int) examLetter {
		l := examLetter{examEvent: examEvent{examConversation{"u" + strconv.Itoa(i/2), "p" + strconv.Itoa(i%97)}, began.Unix() - 60}, class: "rejected"}
		l.code = codes[i%len(codes)]
		if i%len(codes) > 1 {
			l.class = "exhausted"
		}
		l.failedAt = began.Add(time.Duration(i) * time.Millisecond)
		return l
	})
	for _, c := range []struct {
		name  string
		args  []string
		lines int // of JSON; -1: text
	}{
		{"ls", nil, -1},
		{"ls, filtered", []string{"--class", "exhausted", "--report", "u1"}, -1},
		{"ls --json", []string{"--json"}, letters},
		{"ls --json, filtered", []string{"--json", "--code", "90048", "--since", "2h"}, letters / 4},
		{"ls --json, one reader", []string{"--json", "--report", "u1"}, 2},
	} {
		p := k.startDeadLetters(t, append([]string{"ls"}, c.args...)...)
		most := p.most(time.Minute)
		if code := p.exit(t, time.Minute); code != 0 {
			t.Fatalf("%s ended with %d", c.name, code)
		}
		examFigure(t, "letters-"+c.name, "%d letters: %.2f s, %d MiB of RSS at most", letters, p.duration.Seconds(), most>>20)
		examCheck(t, p.duration <= 5*time.Second, "%s took %v", c.name, p.duration)
		examCheck(t, most <= 200<<20, "%s took %d bytes of RSS", c.name, most)
		if c.lines < 0 {
			continue
		}
		lines := p.stdout.lines()
		examCheck(t, len(lines) == c.lines, "%s printed %d lines, want %d", c.name, len(lines), c.lines)
		last := ""
		for _, line := range lines {
			var l struct {
				ID       string `json:"id"`
				FailedAt string `json:"failed_at"`
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.FailedAt == "" {
				t.Fatalf("%s printed %s: %v", c.name, line, err)
			}
			if at, _ := time.Parse(time.RFC3339Nano, l.FailedAt); at.UTC().Format("2006-01-02T15:04:05.000") < last {
				t.Fatalf("%s is not in order at %s", c.name, line)
			} else {
				last = at.UTC().Format("2006-01-02T15:04:05.000")
			}
		}
	}
}

// TestExamLettersLarge: letters that somebody else wrote, with headers as large as a record may be and failed in any order, are listed within 200 MiB.
func TestExamLettersLarge(t *testing.T) {
	const letters = 250
	k := examStartBroker(t)
	lane := strings.Repeat("x", 850_000)
	for i := range letters {
		l := examLetter{examEvent: examEvent{examConversation{"u" + strconv.Itoa(i), "p"}, 1_700_000_000}, class: "rejected", code: "90048"}
		l.failedAt = time.Now().Add(-time.Duration(i*7919%letters) * time.Minute)
		r := l.record(k.letters)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "markread.lane", Value: []byte(lane)})
		k.produce(t, r)
	}
	p := k.startDeadLetters(t, "ls", "--json")
	most := p.most(time.Minute)
	if code := p.exit(t, time.Minute); code != 0 {
		t.Fatalf("ls ended with %d", code)
	}
	examFigure(t, "letters-large", "%d letters of 850 KB: %.2f s, %d MiB of RSS at most", letters, p.duration.Seconds(), most>>20)
	examCheck(t, most <= 200<<20, "ls took %d bytes of RSS", most)
	examCheck(t, len(p.stdout.lines()) == letters, "ls printed %d lines", len(p.stdout.lines()))
}
