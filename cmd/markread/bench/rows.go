package bench

import (
	"context"
	"fmt"
	"time"
)

// The sides.
const (
	markread  = "markread"
	baseline  = "baseline" // another build of markread
	kafkaLoop = "kafka-go loop"
	postLoop  = "post loop"
	fetchLoop = "fetch loop"
	scraped   = "scraped" // markread, while its metrics are scraped
	watched   = "watched" // markread, while ten tabs show its console
)

// row is one comparison. Its figures are measured for markread and for each side in against.
type row struct {
	name    string
	against []string
	figures []figure
	prepare func(ctx context.Context, b *bench, k *kafkaSide) error // produces; nil: nothing
	measure func(ctx context.Context, m *measurement) (result, error)
}

// figure is a name in a row's results, with its targets.
type figure struct {
	name    string
	digits  int // after the decimal point
	targets []target
}

// target is a bound of markread's figure, divided by that of another side.
type target struct {
	against string // "": the figure itself
	atLeast bool   // else at most
	bound   float64
}

func atLeast(bound float64, against string) target { return target{against, true, bound} }
func atMost(bound float64, against string) target  { return target{against, false, bound} }

// Sizes at scale 1.
const (
	uncappedEvents        = 120_000
	intakeEvents          = 1_000_000
	pendingEvents         = 1_000_000
	collapseEvents        = 10_000_000
	collapseConversations = 20_000
	outageConversations   = 1_000
	watchedConversations  = 500_000
	vendorRate            = 200
	inFlight              = 64
	steady                = 20 * time.Second // of the rows with a rate
)

// The names of figures.
const (
	callsPerSecond  = "calls/s"
	cpuPerThousand  = "CPU s per 1,000 calls"
	eventsPerSecond = "events/s"
	p50             = "p50 ms"
	p99             = "p99 ms"
	p50Sent         = "p50 ms since sent"
	p99Sent         = "p99 ms since sent"
	idleMiB         = "idle MiB"
	pendingMiB      = "MiB for many conversations"
	peakMiB         = "their peak MiB"
	pendingBytes    = "bytes for each of them"
	oneMiB          = "MiB for one conversation"
	ofIdeal         = "time / ideal"
	perConversation = "calls per conversation"
)

// outages are how long the outages of row outage last, in seconds. The figure is how many calls are
// accepted in the 5 s after.
var outages = []int{7, 8, 10, 12}

func acceptedAfter(seconds int) string { return fmt.Sprintf("accepted after %d s", seconds) }

var rows = []row{
	// Distinct conversations, 64 calls in flight, a server that takes 2 ms.
	{name: "uncapped", against: []string{kafkaLoop, postLoop}, figures: []figure{
		{callsPerSecond, 0, []target{atLeast(1, kafkaLoop), atLeast(0.9, postLoop)}},
		{cpuPerThousand, 4, []target{atMost(1.1, kafkaLoop), atMost(1.1, postLoop)}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		n := b.count(uncappedEvents, 100)
		return k.produce(ctx, k.topic, n, n)
	}, measure: measureUncapped},

	// A backlog of distinct conversations at the vendor's rate. Scrapes may cost 2 %; on two shared
	// cores a few runs can't tell: the ratio of the same build to itself (--baseline) was 0.85.
	{name: "rate", against: []string{scraped, kafkaLoop}, figures: []figure{
		{cpuPerThousand, 3, []target{atMost(0.25, ""), atLeast(0.98, scraped)}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		// enough for the warm-up and for what is called while the last figures are read
		n := int((b.duration(steady) + 2*b.warmUp() + 5*time.Second).Seconds() * vendorRate)
		return k.produce(ctx, k.topic, n, n)
	}, measure: measureRate},

	// From the acknowledgement of an event to its call, at 100 events a second. On a busy machine
	// the producer may notice the acknowledgement after the call; so also from the sending.
	{name: "latency", against: []string{scraped, kafkaLoop}, figures: []figure{
		{p50, 3, []target{atMost(1.25, kafkaLoop)}},
		{p99, 3, []target{atMost(1.25, kafkaLoop), atLeast(0.98, scraped)}},
		{p50Sent, 3, nil},
		{p99Sent, 3, nil},
	}, measure: measureLatency},

	// Many events of a thousand conversations, during an outage.
	{name: "intake", against: []string{fetchLoop}, figures: []figure{
		{eventsPerSecond, 0, []target{atLeast(0.5, fetchLoop)}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		return k.produce(ctx, k.topic, b.count(intakeEvents, 10_000), 1_000)
	}, measure: measureIntake},

	// Resident memory: with nothing to do; with many conversations, or one with many events, that
	// wait during an outage.
	{name: "memory", figures: []figure{
		{idleMiB, 1, []target{atMost(20, "")}},
		{pendingMiB, 1, nil},
		{peakMiB, 1, nil},
		{pendingBytes, 0, []target{atMost(250, "")}},
		{oneMiB, 1, []target{atMost(50, "")}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		n := b.count(pendingEvents, 1_000)
		for suffix, conversations := range map[string]int{"-many": n, "-one": 1} {
			if err := k.create(ctx, k.topic+suffix); err != nil {
				return err
			}
			if err := k.produce(ctx, k.topic+suffix, n, conversations); err != nil {
				return err
			}
		}
		return nil
	}, measure: measureMemory},

	// A backlog with 500 events for each conversation, at the vendor's rate.
	{name: "collapse", figures: []figure{
		{ofIdeal, 4, []target{atMost(1.03, "")}},
		{perConversation, 4, []target{atMost(1.02, "")}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		return k.produce(ctx, k.topic, b.count(collapseEvents, 10_000),
			b.count(collapseConversations, 200))
	}, measure: measureCollapse},

	// A full backlog of backfill at the vendor's rate, and live events beside it, which wait for the
	// next permit. The tabs are requests as the page makes them, without a browser's CPU.
	{name: "watched", against: []string{watched}, figures: []figure{
		{callsPerSecond, 1, []target{atLeast(0.98, watched)}},
		{p50, 3, nil},
		{p99, 3, []target{atLeast(0.98, watched)}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		n := b.count(watchedConversations, 1_000)
		return k.produce(ctx, k.topic, n, n)
	}, measure: measureWatched},

	// An outage in which all conversations wait and nothing new arrives.
	{name: "outage", figures: outageFigures(), measure: measureOutage},
}

func outageFigures() (list []figure) {
	for _, seconds := range outages {
		list = append(list, figure{acceptedAfter(seconds), 0, []target{atLeast(400, "")}})
	}
	return list
}

func rowNames() []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.name
	}
	return names
}
