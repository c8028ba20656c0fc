package sample

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"markread/consumer/printable"
)

// The bounds of a [Member]. What is beyond them is ignored.
const (
	MaxText       = 4 << 20 // bytes that Parse reads; more are an error
	MaxPartitions = 5000
	maxCodes      = 100
	maxTopics     = 100
	maxHeld       = 20
	maxSettings   = 100
	maxLabel      = 100 // bytes of a label's value
	maxTopic      = 249 // bytes of a topic's name, as in Kafka
	maxCount      = 1e15
	maxTime       = 1e11 // Unix seconds; JSON has no years beyond 9999
)

// Parse decodes the text format of /metrics.
func Parse(at time.Time, text io.Reader) (*Member, error) {
	limited := &io.LimitedReader{R: text, N: MaxText + 1}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := parser.TextToMetricFamilies(limited)
	if limited.N <= 0 {
		return nil, fmt.Errorf("the metrics are longer than %d bytes: "+
			"check that this is the admin server of a markread worker", MaxText)
	}
	if err != nil {
		return nil, fmt.Errorf("the metrics can't be parsed: %s: "+
			"check that this is the admin server of a markread worker",
			printable.Line(printable.Truncate(err.Error(), 2*maxLabel)))
	}
	families := make([]*dto.MetricFamily, 0, len(byName))
	for _, f := range byName {
		families = append(families, f)
	}
	return Decode(at, families)
}

// Decode decodes gathered metrics. It fails if they are not those of a worker.
func Decode(at time.Time, families []*dto.MetricFamily) (*Member, error) {
	d := decoder{Member: newMember(at), partitions: map[partitionID]*Partition{}}
	// Families may come in any order, and some depend on others.
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int {
		return cmp.Compare(a.GetName(), b.GetName())
	})
	isWorker := false
	for _, f := range families {
		decode, known := decoders[f.GetName()]
		if !known {
			continue
		}
		isWorker = isWorker || f.GetName() == "markread_build_info"
		for _, m := range f.GetMetric() {
			decode(&d, labels(m.GetLabel()), m)
		}
	}
	if !isWorker {
		return nil, fmt.Errorf("markread_build_info is missing: " +
			"check that this is the admin server of a markread worker")
	}
	d.finish()
	return d.Member, nil
}

func newMember(at time.Time) *Member {
	nan := math.NaN()
	m := &Member{At: at, Rate: nan, Share: nan, Limit: nan, InFlight: nan, MaxPending: nan,
		Assigned: nan, GroupPartitions: nan, Generations: nan, CommitFailures: nan,
		CallCodes: map[Code]float64{}, Letters: map[Code]float64{}, Lost: map[string]float64{},
		Settings: map[string]string{}}
	for i := range m.Calls {
		m.Calls[i] = nan
	}
	for i := range m.Lanes {
		l := &m.Lanes[i]
		l.Received, l.Returned, l.Conversations, l.Events = nan, nan, nan, nan
		for j := range l.Finished {
			l.Finished[j] = nan
		}
		for j := range l.Ages {
			l.Ages[j] = nan
		}
	}
	return m
}

type partitionID struct {
	topic  string
	number int
}

type decoder struct {
	*Member
	partitions map[partitionID]*Partition
	holds      []Held // whose beginning is not known
}

// partition returns the partition that labels name; nil if they name none, or there are too many.
func (d *decoder) partition(l labels) *Partition {
	topic := l.text("topic", maxTopic)
	n, err := strconv.ParseInt(l.get("partition"), 10, 32)
	if err != nil || n < 0 || topic == "" {
		return nil
	}
	id := partitionID{topic, int(n)}
	p := d.partitions[id]
	if p == nil && len(d.partitions) < MaxPartitions {
		nan := math.NaN()
		p = &Partition{Topic: topic, Number: int(n), Lag: nan, Oldest: nan, RetentionLeft: nan}
		d.partitions[id] = p
	}
	return p
}

// finish sorts lists, and adds holds that only markread_held knows.
func (d *decoder) finish() {
	for _, h := range d.holds {
		known := slices.ContainsFunc(d.Held, func(k Held) bool { return k.Reason == h.Reason })
		if !known && len(d.Held) < maxHeld {
			d.Held = append(d.Held, h)
		}
	}
	slices.SortFunc(d.Held, func(a, b Held) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Reason, b.Reason),
			cmp.Compare(a.Lane, b.Lane))
	})
	for _, p := range d.partitions {
		d.Partitions = append(d.Partitions, *p)
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	})
}

// labels are the labels of one series.
type labels []*dto.LabelPair

func (l labels) get(name string) string {
	for _, p := range l {
		if p.GetName() == name {
			return p.GetValue()
		}
	}
	return ""
}

// text returns a label's value as one printable line of at most n bytes.
func (l labels) text(name string, n int) string {
	return printable.Line(printable.Truncate(l.get(name), n))
}

// lane returns the number of the lane in a label, and false if it has none.
func (l labels) lane() (int, bool) {
	n := slices.Index([]string{"live", "backfill"}, l.get("lane"))
	return n, n >= 0
}

// raw returns the value of a counter, a gauge or an untyped series.
func raw(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Untyped != nil:
		return m.Untyped.GetValue()
	}
	return math.NaN()
}

// count returns a value that can't be negative; NaN if it makes no sense.
func count(m *dto.Metric) float64 { return sane(raw(m)) }

func sane(v float64) float64 {
	if v >= 0 && v <= maxCount {
		return v
	}
	return math.NaN()
}

// moment returns the time of a value in Unix seconds; zero if there is none.
func moment(m *dto.Metric) time.Time {
	v := raw(m)
	if !(v > 0 && v < maxTime) {
		return time.Time{}
	}
	return time.UnixMilli(int64(math.Round(v * 1000))).UTC()
}

// add adds v to a sum that is not known before its first part.
func add(sum *float64, v float64) {
	if math.IsNaN(*sum) {
		*sum = v
		return
	}
	*sum += v
}
