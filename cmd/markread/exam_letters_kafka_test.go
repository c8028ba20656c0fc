//go:build exam && linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExamLettersTransactions: letters that somebody wrote in a transaction are there when it is committed, and not before; those of an aborted one never
// are; and the markers that transactions leave are no records to wait for.
func TestExamLettersTransactions(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	x := examStartTransactor(t, k, "letters", kgo.RequiredAcks(kgo.AllISRAcks()))
	now := time.Now()
	letter := func(report string) *kgo.Record {
		return examLetter{examEvent: examEvent{examConversation{report, "p"}, now.Unix() - 100}, class: "rejected", code: "90048", failedAt: now}.record(k.letters)
	}
	transaction := func(report string, end kgo.TransactionEndTry) {
		t.Helper()
		if err := x.cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := x.cl.ProduceSync(examContext(t), letter(report), letter(report)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := x.cl.EndTransaction(examContext(t), end); err != nil {
			t.Fatal(err)
		}
	}
	readers := func() (all []string) {
		for _, l := range k.listed(t) {
			all = append(all, l["report"].(string))
		}
		slices.Sort(all)
		return all
	}
	transaction("good", kgo.TryCommit)
	transaction("bad", kgo.TryAbort)
	k.produce(t, letter("plain"))
	if got := readers(); !slices.Equal(got, []string{"good", "good", "plain"}) {
		t.Errorf("letters of %v", got)
	}
	began := time.Now()
	if err := x.cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := x.cl.ProduceSync(examContext(t), letter("open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := readers(); slices.Contains(got, "open") {
		t.Errorf("letters of %v, one of them in an open transaction", got)
	}
	took := time.Since(began)
	examCheck(t, took < 10*time.Second, "ls waits %v for a transaction", took)
	out := k.deadLetters(t, 0, "replay", "--yes", "--report", "good").stdout.String()
	examCheck(t, strings.HasPrefix(out, "replayed 2 letters of 1 conversation"), "replay says %q", out)
	if err := x.cl.EndTransaction(examContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	var got []string
	examWait(t, "the open letter is there", 20*time.Second, func() bool {
		got = readers()
		return slices.Equal(got, []string{"open", "plain"})
	})
	examFigure(t, "letters-transactions", "committed, aborted and open ones: open letters of %v in the end; ls beside an open transaction took %v",
		got, took.Round(time.Millisecond))
}
