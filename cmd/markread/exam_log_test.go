//go:build exam && unix

package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExamTransactions: what a producer's transaction aborted is never applied, what it committed is, and the markers that transactions
// leave in the log are no records to wait for: the committed offsets come to the end of the log.
func TestExamTransactions(t *testing.T) {
	k := examStartBroker(t)
	im := examStartRecorder(t)
	producer, err := kgo.NewClient(kgo.SeedBrokers(k.addr), kgo.TransactionalID("exam"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	conversations := examConversations("tx", 40)
	good := examMany(5, conversations, 400)
	var bad []examEvent // later T, so that each of them would show
	for _, e := range good {
		bad = append(bad, examEvent{e.examConversation, e.readTime + 200_000 - 100_000*int64(len(bad)%2)})
	}
	transaction := func(events []examEvent, end kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var records []*kgo.Record
		for _, e := range events {
			records = append(records, examRecordOf(examLive, e))
		}
		if err := producer.ProduceSync(examContext(t), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(examContext(t), end); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 { // aborted, committed and plain records between each other, markers last
		transaction(bad[i*100:i*100+100], kgo.TryAbort)
		transaction(good[i*100:i*100+50], kgo.TryCommit)
		examProduceEvents(t, k, examLive, good[i*100+50:i*100+100])
		transaction(bad[:100], kgo.TryAbort)
	}

	w := examStartWorker(t, k, im.url)
	k.settled(t, 30*time.Second, examLive)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	examComparePointers(t, examLargest(good), examPointers(im.arrivals(t)))
	received := metrics.sum("markread_events_received_total")
	examCheck(t, received == 400, "%v events received, 400 were committed", received)
	examFigure(t, "transactions", "400 records committed, 800 aborted: %s", metrics.balance(t))
}
