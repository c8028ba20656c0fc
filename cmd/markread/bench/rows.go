package bench

import (
	"context"
	"time"
)

// The sides.
const (
	markread  = "markread"
	baseline  = "baseline" // another build of markread
	kafkaLoop = "kafka-go loop"
	postLoop  = "post loop"
	fetchLoop = "fetch loop"
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
	uncappedEvents = 120_000
	intakeEvents   = 1_000_000
	vendorRate     = 200
	steady         = 20 * time.Second // of the rows with a rate
)

// The names of figures.
const (
	callsPerSecond  = "calls/s"
	cpuPerThousand  = "CPU s per 1,000 calls"
	eventsPerSecond = "events/s"
)

var rows = []row{
	// Distinct conversations, 64 calls in flight, a server that takes 2 ms.
	{name: "uncapped", against: []string{kafkaLoop, postLoop}, figures: []figure{
		{callsPerSecond, 0, []target{atLeast(1, kafkaLoop), atLeast(0.9, postLoop)}},
		{cpuPerThousand, 4, []target{atMost(1.1, kafkaLoop), atMost(1.1, postLoop)}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		n := b.count(uncappedEvents, 100)
		return k.produce(ctx, k.topic, n, n)
	}, measure: measureUncapped},

	// A backlog of distinct conversations at the vendor's rate.
	{name: "rate", against: []string{kafkaLoop}, figures: []figure{
		{cpuPerThousand, 3, []target{atMost(0.25, "")}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		// enough for the warm-up and for what is called while the last figures are read
		n := int((b.duration(steady) + 2*b.warmUp() + 5*time.Second).Seconds() * vendorRate)
		return k.produce(ctx, k.topic, n, n)
	}, measure: measureRate},

	// Many events of a thousand conversations.
	{name: "intake", against: []string{fetchLoop}, figures: []figure{
		{eventsPerSecond, 0, []target{atLeast(0.5, fetchLoop)}},
	}, prepare: func(ctx context.Context, b *bench, k *kafkaSide) error {
		return k.produce(ctx, k.topic, b.count(intakeEvents, 10_000), 1_000)
	}, measure: measureIntake},
}

func rowNames() []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.name
	}
	return names
}
