//go:build exam && unix

package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// examTransactor is a producer that writes in transactions.
type examTransactor struct {
	k  *examKafka
	cl *kgo.Client
}

func examStartTransactor(t *testing.T, k *examKafka, name string, options ...kgo.Opt) *examTransactor {
	t.Helper()
	cl, err := kgo.NewClient(append(options, k.seeds(), kgo.TransactionalID(k.group+"-"+name))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &examTransactor{k, cl}
}

// begin begins a transaction and writes the events in it; it returns the records, which know their offsets then.
func (x *examTransactor) begin(t *testing.T, events []examEvent) ([]*kgo.Record, error) {
	t.Helper()
	if err := x.cl.BeginTransaction(); err != nil {
		return nil, err
	}
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = examRecordOf(x.k.live, e)
	}
	return records, x.cl.ProduceSync(examContext(t), records...).FirstErr()
}

// write writes the events in one transaction, and ends it.
func (x *examTransactor) write(t *testing.T, events []examEvent, end kgo.TransactionEndTry) error {
	t.Helper()
	if _, err := x.begin(t, events); err != nil {
		return err
	}
	return x.cl.EndTransaction(examContext(t), end)
}

// TestExamTransactions: what a producer's transaction aborted is never applied, what it committed is, and the markers that transactions
// leave in the log are no records to wait for: the committed offsets come to the end of the log.
func TestExamTransactions(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	im := examStartRecorder(t)
	producer := examStartTransactor(t, k, "alone")
	conversations := examConversations("tx", 40)
	good := examMany(5, conversations, 400)
	var bad []examEvent // later T, so that each of them would show
	for _, e := range good {
		bad = append(bad, examEvent{e.examConversation, e.readTime + 200_000 - 100_000*int64(len(bad)%2)})
	}
	transaction := func(events []examEvent, end kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.write(t, events, end); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 { // aborted, committed and plain records between each other, markers last
		transaction(bad[i*100:i*100+100], kgo.TryAbort)
		transaction(good[i*100:i*100+50], kgo.TryCommit)
		examProduceEvents(t, k, k.live, good[i*100+50:i*100+100])
		transaction(bad[:100], kgo.TryAbort)
	}

	w := examStartWorker(t, k, im.url)
	k.settled(t, 30*time.Second, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	examComparePointers(t, examLargest(good), examPointers(im.arrivals(t)))
	received := metrics.sum("markread_events_received_total")
	examCheck(t, received == 400, "%v events received, 400 were committed", received)
	examFigure(t, "transactions", "400 records committed, 800 aborted: %s", metrics.balance(t))
}

// TestExamTransactionsMixed: three producers commit and abort transactions at the same time, and a fourth writes without any, all to the
// same conversations, while the worker reads: their records lie between each other in every partition.
func TestExamTransactionsMixed(t *testing.T) {
	t.Parallel()
	const (
		producers = 3
		size      = 20
	)
	transactions := 20 // of each
	if testing.Short() {
		transactions = 8
	}
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	w := examStartWorker(t, k, im.url)
	w.ready(t)
	conversations := examConversations("mixed", 60)
	long := time.Now().Unix() - 500_000

	var mu sync.Mutex
	var good []examEvent
	aborted := 0
	var all sync.WaitGroup
	for n := range producers {
		x := examStartTransactor(t, k, "mixed-"+strconv.Itoa(n))
		random := rand.New(rand.NewPCG(11, uint64(n)))
		all.Go(func() {
			for i := range transactions {
				abort := i%2 == n%2
				events := make([]examEvent, size)
				for j := range events {
					events[j] = examEvent{conversations[random.IntN(len(conversations))], long + random.Int64N(100_000)}
					if abort {
						events[j].readTime += 200_000 // would show
					}
				}
				end := kgo.TryCommit
				if abort {
					end = kgo.TryAbort
				}
				if err := x.write(t, events, end); err != nil {
					t.Errorf("transaction %d of producer %d: %v", i, n, err)
					return
				}
				mu.Lock()
				if abort {
					aborted += len(events)
				} else {
					good = append(good, events...)
				}
				mu.Unlock()
			}
		})
	}
	all.Go(func() {
		plain := examMany(12, conversations, 400)
		for i := range plain {
			plain[i].readTime = long + int64(i)*100
			if err := k.cl.ProduceSync(examContext(t), examRecordOf(k.live, plain[i])).FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				return
			}
		}
		mu.Lock()
		good = append(good, plain...)
		mu.Unlock()
	})
	all.Wait()
	k.settled(t, 30*time.Second, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	received := metrics.sum("markread_events_received_total")
	examFigure(t, "transactions-mixed", "%d records committed, %d aborted, by %d producers at a time: %s", len(good), aborted, producers+1, metrics.balance(t))
	examCheck(t, received == float64(len(good)), "%v events received, %d were committed", received, len(good))
	k.noLetters(t, "transactions")
	examComparePointers(t, examLargest(good), examPointers(im.arrivals(t)))
}

// TestExamTransactionsOpen: an open transaction holds up what comes after it in its partitions, and nothing of that is lost: neither when
// it is committed after a while, nor when its producer has gone and the broker aborts it.
func TestExamTransactionsOpen(t *testing.T) {
	t.Parallel()
	const (
		open    = 5 * time.Second
		timeout = 6 * time.Second // of the transaction whose producer goes; Kafka looks every 10 s
	)
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	w := examStartWorker(t, k, im.url)
	w.ready(t)
	conversations := examConversations("open", 300)
	now := examOneEach(conversations)
	events := func(from, to int, later int64) []examEvent {
		out := slices.Clone(now[from:to])
		for i := range out {
			out[i].readTime += later
		}
		return out
	}
	everywhere := func(records []*kgo.Record) {
		t.Helper()
		partitions := map[int32]bool{}
		for _, r := range records {
			partitions[r.Partition] = true
		}
		if len(partitions) != examPartitions {
			t.Fatalf("the open transaction is in %d partitions: the row says nothing of the others", len(partitions))
		}
	}
	early := events(0, 100, 0)
	examProduceEvents(t, k, k.live, early)
	k.settled(t, 30*time.Second, k.live)

	slow := examStartTransactor(t, k, "slow")
	held := events(100, 200, 0)
	records, err := slow.begin(t, held)
	if err != nil {
		t.Fatal(err)
	}
	everywhere(records)
	late := events(200, 300, 0)
	examProduceEvents(t, k, k.live, late)
	<-time.After(open)
	during := im.count(t) - len(early)
	began := time.Now()
	if err := slow.cl.EndTransaction(examContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	k.settled(t, 30*time.Second, k.live)
	committed := time.Since(began)

	gone := examStartTransactor(t, k, "gone", kgo.TransactionTimeout(timeout))
	bad := events(0, 100, 100) // would show
	began = time.Now()
	if records, err = gone.begin(t, bad); err != nil {
		t.Fatal(err)
	}
	everywhere(records)
	gone.cl.Close()
	last := events(100, 200, 50)
	examProduceEvents(t, k, k.live, last)
	k.settled(t, time.Minute, k.live)
	aborted := time.Since(began)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	examFigure(t, "transactions-open", "a transaction of 100 open for %v: %d calls meanwhile, 200 settled %v after its commit; another, whose producer is gone: aborted and 100 behind it settled after %v",
		open, during, committed.Round(time.Millisecond), aborted.Round(time.Millisecond))
	examCheck(t, during == 0, "%d calls for records that are undecided, or behind such", during)
	all := slices.Concat(early, held, late, last)
	examComparePointers(t, examLargest(all), examPointers(im.arrivals(t)))
}
