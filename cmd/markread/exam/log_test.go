//go:build exam && unix

package exam

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/exam/kit"
)

// transactor is a transactional producer.
type transactor struct {
	k  *kit.Kafka
	cl *kgo.Client
}

func startTransactor(t *testing.T, k *kit.Kafka, name string, options ...kgo.Opt) *transactor {
	t.Helper()
	options = append(options, kgo.TransactionalID(k.Group+"-"+name))
	return &transactor{k, k.NewClient(t, options...)}
}

// begin begins a transaction and writes the records in it.
func (x *transactor) begin(t *testing.T, records ...*kgo.Record) error {
	t.Helper()
	if err := x.cl.BeginTransaction(); err != nil {
		return err
	}
	return x.cl.ProduceSync(kit.Context(t), records...).FirstErr()
}

// write writes the events in one transaction, and ends it.
func (x *transactor) write(t *testing.T, events []kit.Event, end kgo.TransactionEndTry) error {
	t.Helper()
	if err := x.begin(t, kit.RecordsOf(x.k.Live, events)...); err != nil {
		return err
	}
	return x.cl.EndTransaction(kit.Context(t), end)
}

// TestExamTransactions: events of an aborted transaction are never applied, those of a committed
// one are, and the worker does not wait for the markers that transactions leave in the log: the
// committed offsets reach its end.
func TestExamTransactions(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t)
	producer := startTransactor(t, k, "alone")
	conversations := kit.Conversations("tx", 40)
	good := kit.RandomEvents(5, conversations, 400)
	var bad []kit.Event // larger T, so that applying one would show
	for _, e := range good {
		bad = append(bad, kit.Event{Conversation: e.Conversation,
			ReadTime: e.ReadTime + 200_000 - 100_000*int64(len(bad)%2)})
	}
	transaction := func(events []kit.Event, end kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.write(t, events, end); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 { // aborted, committed and plain records alternate; markers last
		transaction(bad[i*100:i*100+100], kgo.TryAbort)
		transaction(good[i*100:i*100+50], kgo.TryCommit)
		kit.ProduceEvents(t, k, k.Live, good[i*100+50:i*100+100])
		transaction(bad[:100], kgo.TryAbort)
	}

	w := kit.StartWorker(t, k, im.URL)
	k.WaitCommitted(t, 30*time.Second, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	kit.CompareReadTimes(t, kit.Largest(good), kit.ReadTimes(im.Arrivals(t)))
	received := metrics.Sum("markread_events_received_total")
	kit.Check(t, received == 400, "%v events received, 400 were committed", received)
	kit.Figure(t, "transactions", "400 records committed, 800 aborted: %s", metrics.Balance(t))
}

// TestExamTransactionsMixed: three producers commit and abort transactions at the same time, and a
// fourth writes without transactions, all to the same conversations, while the worker reads. Their
// records alternate in every partition.
func TestExamTransactionsMixed(t *testing.T) {
	t.Parallel()
	const (
		producers = 3
		size      = 20
	)
	transactions := 20 // of each producer
	if testing.Short() {
		transactions = 8
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	w := kit.StartWorker(t, k, im.URL)
	w.WaitReady(t)
	conversations := kit.Conversations("mixed", 60)
	long := time.Now().Unix() - 500_000

	var mu sync.Mutex
	var good []kit.Event
	aborted := 0
	var all sync.WaitGroup
	for n := range producers {
		x := startTransactor(t, k, "mixed-"+strconv.Itoa(n))
		random := rand.New(rand.NewPCG(11, uint64(n)))
		all.Go(func() {
			for i := range transactions {
				abort := i%2 == n%2
				events := make([]kit.Event, size)
				for j := range events {
					events[j] = kit.Event{
						Conversation: conversations[random.IntN(len(conversations))],
						ReadTime:     long + random.Int64N(100_000)}
					if abort {
						events[j].ReadTime += 200_000 // applying it would show
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
		plain := kit.RandomEvents(12, conversations, 400)
		for i := range plain {
			plain[i].ReadTime = long + int64(i)*100
			if err := k.Client.ProduceSync(kit.Context(t), kit.RecordOf(k.Live, plain[i])).
				FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				return
			}
		}
		mu.Lock()
		good = append(good, plain...)
		mu.Unlock()
	})
	all.Wait()
	k.WaitCommitted(t, 30*time.Second, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	received := metrics.Sum("markread_events_received_total")
	kit.Figure(t, "transactions-mixed",
		"%d records committed, %d aborted, by %d concurrent producers: %s", len(good), aborted,
		producers+1, metrics.Balance(t))
	kit.Check(t, received == float64(len(good)), "%v events received, %d were committed", received,
		len(good))
	k.CheckNoDeadLetters(t, "transactions")
	kit.CompareReadTimes(t, kit.Largest(good), kit.ReadTimes(im.Arrivals(t)))
}

// TestExamTransactionsOpen: an open transaction delays the records after it in its partitions, and
// none of them is lost, whether it is committed after a while, or its producer is gone and the
// broker aborts it.
func TestExamTransactionsOpen(t *testing.T) {
	t.Parallel()
	const (
		open = 5 * time.Second
		// of the transaction whose producer is closed; Kafka checks every 10 s
		timeout = 6 * time.Second
	)
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	w := kit.StartWorker(t, k, im.URL)
	w.WaitReady(t)
	conversations := kit.Conversations("open", 300)
	now := kit.OneEventEach(conversations)
	events := func(from, to int, later int64) []kit.Event {
		out := slices.Clone(now[from:to])
		for i := range out {
			out[i].ReadTime += later
		}
		return out
	}
	everywhere := func(records []*kgo.Record) {
		t.Helper()
		partitions := map[int32]bool{}
		for _, r := range records {
			partitions[r.Partition] = true
		}
		if len(partitions) != kit.Partitions {
			t.Fatalf("the open transaction is in %d partitions: the test proves nothing about "+
				"the others", len(partitions))
		}
	}
	early := events(0, 100, 0)
	kit.ProduceEvents(t, k, k.Live, early)
	k.WaitCommitted(t, 30*time.Second, k.Live)

	slow := startTransactor(t, k, "slow")
	held := events(100, 200, 0)
	records := kit.RecordsOf(k.Live, held)
	if err := slow.begin(t, records...); err != nil {
		t.Fatal(err)
	}
	everywhere(records)
	late := events(200, 300, 0)
	kit.ProduceEvents(t, k, k.Live, late)
	<-time.After(open)
	during := im.Count(t) - len(early)
	began := time.Now()
	if err := slow.cl.EndTransaction(kit.Context(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	k.WaitCommitted(t, 30*time.Second, k.Live)
	committed := time.Since(began)

	gone := startTransactor(t, k, "gone", kgo.TransactionTimeout(timeout))
	bad := events(0, 100, 100) // applying it would show
	began = time.Now()
	records = kit.RecordsOf(k.Live, bad)
	if err := gone.begin(t, records...); err != nil {
		t.Fatal(err)
	}
	everywhere(records)
	gone.cl.Close()
	last := events(100, 200, 50)
	kit.ProduceEvents(t, k, k.Live, last)
	k.WaitCommitted(t, time.Minute, k.Live)
	aborted := time.Since(began)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	kit.Figure(t, "transactions-open",
		"a transaction of 100 open for %v: %d calls meanwhile, 200 committed %v after its "+
			"commit; another, whose producer is gone: aborted, and 100 after it committed after %v",
		open, during, committed.Round(time.Millisecond), aborted.Round(time.Millisecond))
	kit.Check(t, during == 0, "%d calls for records of an open transaction, or after it", during)
	all := slices.Concat(early, held, late, last)
	kit.CompareReadTimes(t, kit.Largest(all), kit.ReadTimes(im.Arrivals(t)))
}
