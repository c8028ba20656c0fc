package worker

import (
	"maps"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/engine"
	"markread/worker/hold"
)

// metrics holds the counters that are incremented as things happen. Whatever the engine's state
// already counts is not counted again but collected from a snapshot, so that the contract's sums
// hold.
type metrics struct {
	calls          *prometheus.CounterVec
	callsOK        prometheus.Counter // of calls: most calls succeed
	callSeconds    prometheus.Histogram
	lastSuccess    prometheus.Gauge
	eventAge       *prometheus.HistogramVec
	eventAges      [2]prometheus.Observer // of eventAge, by lane
	letters        *prometheus.CounterVec
	generations    prometheus.Counter
	commitFailures *prometheus.CounterVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		options := prometheus.CounterOpts{Name: "markread_" + name, Help: help}
		return prometheus.NewCounterVec(options, labels)
	}
	m := &metrics{
		calls: counter("calls_total", "API calls by result and code.", "result", "code"),
		callSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "markread_call_duration_seconds",
			Help:    "Time from sending a call to its response.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "markread_last_success_timestamp_seconds",
			Help: "When a call last succeeded, in seconds since 1970; 0: none has yet.",
		}),
		eventAge: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "markread_event_age_seconds",
			Help: "Time from an event to its outcome: what users feel.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600,
				6 * 3600, 86400},
		}, []string{"lane"}),
		letters: counter("dead_letters_total", "Dead letters written.", "class", "code"),
		generations: counter("generations_total",
			"Generations of the consumer group that this worker was in.").WithLabelValues(),
		commitFailures: counter("commit_failures_total",
			"Offset commits that failed; they are retried.", "code"),
	}
	m.callsOK = m.calls.WithLabelValues("ok", "0")
	for lane := range m.eventAges {
		m.eventAges[lane] = m.eventAge.WithLabelValues(event.Lane(lane).String())
	}
	m.initCounters()
	return m
}

// initCounters creates the counters that alerts watch with the value 0: Prometheus sees no increase
// when a series appears with the value 1.
func (m *metrics) initCounters() {
	m.letters.WithLabelValues("invalid", "")
	failure := func(class imclient.Class, code string) {
		m.calls.WithLabelValues(class.String(), code)
		switch class {
		case imclient.Rejected:
			m.letters.WithLabelValues("rejected", code)
		case imclient.Transient:
			m.letters.WithLabelValues("exhausted", code)
		}
	}
	for _, code := range imclient.Codes() {
		failure(code.Class, strconv.Itoa(code.Code))
	}
	failure(imclient.Throttled, "http_429")
	for _, label := range []string{
		"http_500", "http_502", "http_503", "http_504", imclient.LabelTimeout, unknownCode,
		imclient.LabelConnect, imclient.LabelReset, imclient.LabelTLS, imclient.LabelAnswer,
	} {
		failure(imclient.Transient, label)
	}
	for _, code := range []string{"network", "14", "15", "16", "22", "25", "27", "30"} {
		m.commitFailures.WithLabelValues(code)
	}
}

// observeAge observes an event's age, with the ID of its trace as an exemplar; "": none.
func (m *metrics) observeAge(lane event.Lane, age time.Duration, traceID string) {
	seconds := max(0, age.Seconds())
	if traceID == "" {
		m.eventAges[lane].Observe(seconds)
		return
	}
	m.eventAges[lane].(prometheus.ExemplarObserver).ObserveWithExemplar(seconds,
		prometheus.Labels{"trace_id": traceID})
}

// CallEnded implements Observer.
func (m *metrics) CallEnded(failure *imclient.Error, took time.Duration) {
	m.callSeconds.Observe(took.Seconds())
	if failure == nil {
		m.callsOK.Inc()
		m.lastSuccess.SetToCurrentTime()
		return
	}
	m.calls.WithLabelValues(failure.Class.String(), codeLabel(failure.Label)).Inc()
}

// unknownCode is the label of each ErrorCode that the table doesn't know, so that a server can't
// create arbitrary label values.
const unknownCode = "other"

// codeLabel returns a failure's label for metrics.
func codeLabel(label string) string {
	if code, err := strconv.Atoi(label); err == nil {
		if _, known := imclient.LookUp(code); !known {
			return unknownCode
		}
	}
	return label
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.calls, m.callSeconds, m.lastSuccess, m.eventAge, m.letters, m.generations,
		m.commitFailures,
	}
}

var descs []*prometheus.Desc // all descriptions below

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("markread_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}

var (
	descBuild = desc("build_info", "What is running; the value is always 1.",
		"version", "commit", "go")
	descSetting = desc("setting_info",
		"Effective settings; the value is always 1. Workers of a group should have the same.",
		"name", "value")
	descMember = desc("member_info",
		"This worker's ID in its group, in its last generation; the value is always 1.", "member")
	descReceived = desc("events_received_total", "Events fetched.", "lane")
	descFinished = desc("events_total", "Events finished, by outcome.", "lane", "outcome")
	descReturned = desc("events_returned_total",
		"Events dropped unfinished at a revoke; their partition's next owner gets them.", "lane")
	descLost = desc("events_lost_total",
		"Records that retention deleted before they were read.", "topic")
	descBacklogEvents = desc("backlog_events", "Unfinished events in memory.", "lane")
	descBacklog       = desc("backlog_conversations",
		"Conversations that wait for a call or its response.", "lane")
	descInFlight = desc("calls_in_flight", "Calls in flight.")
	descLimit    = desc("quota_limit", "Calls a second that this worker may make now.")
	descRate     = desc("quota_rate", "Calls a second of the whole group (--rate).")
	descShare    = desc("quota_share",
		"Calls a second that this worker may make if nothing limits them.")
	descGroup = desc("group_partitions",
		"Partitions of the group's topics in this worker's last generation.")
	descAssigned = desc("assigned_partitions",
		"Partitions that are assigned to this worker now.")
	descTopic = desc("topic_info", "Which topic is which lane; the value is always 1.",
		"topic", "lane")
	descPaused = desc("fetching_paused",
		"1 while the lane is not fetched, because memory is full.", "lane")
	descMaxPending = desc("max_pending",
		"Conversations in memory at which fetching pauses (--max-pending).")
	descReady     = desc("ready", "1 while this worker is a member of its group; see /readyz.")
	descHeld      = desc("held", "1 while calls are held for this reason.", "reason")
	descHeldSince = desc("hold_since_timestamp_seconds",
		"When an active hold began, in seconds since 1970.", "reason", "lane")
	descLag = desc("partition_lag",
		"Records behind the committed offset.", "topic", "partition")
	descOldest = desc("partition_oldest_unfinished_seconds",
		"Age of the oldest unfinished event; of an unreadable partition at "+
			"least the time since its last good fetch.", "topic", "partition")
	descUnreadable = desc("partition_unreadable",
		"1 while the partition can't be read, else 0.", "topic", "partition")
	descRetention = desc("retention_left_seconds",
		"Time until retention.ms deletes the oldest unfinished record; 0: it may be deleted now.",
		"topic", "partition")
)

// withNames returns the settings of the options, with the names of the group and the topics.
func withNames(o Options) map[string]string {
	settings := map[string]string{"group": oneLine(o.Group, maxName), "topic": o.Topics.Live,
		"backfill-topic": o.Topics.Backfill, "dead-letter-topic": o.Topics.DeadLetter}
	maps.Copy(settings, o.Settings)
	return settings
}

const maxName = 255 // bytes of a group's name in a metric

// Describe implements prometheus.Collector.
func (w *Worker) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range w.metrics.collectors() {
		c.Describe(ch)
	}
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector. All values from the snapshot belong to the same moment.
func (w *Worker) Collect(ch chan<- prometheus.Metric) {
	w.mu.Lock()
	s := w.snapshot()
	w.mu.Unlock()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descBuild, 1, w.options.Version, w.options.Commit, runtime.Version())
	for name, value := range w.options.Settings {
		gauge(descSetting, 1, name, value)
	}
	if s.memberID != "" {
		gauge(descMember, 1, s.memberID)
	}
	for i, n := range s.Counts {
		lane := event.Lane(i).String()
		count(descReceived, n.Received, lane)
		count(descReturned, n.Returned, lane)
		for outcome, finished := range n.Finished {
			count(descFinished, finished, lane, engine.Outcome(outcome).String())
		}
		gauge(descBacklogEvents, float64(n.Unsettled()), lane)
		gauge(descBacklog, float64(s.Conversations[i]), lane)
	}
	for topic, n := range s.lost {
		count(descLost, uint64(n), topic)
	}
	gauge(descInFlight, float64(s.InFlight))
	if w.options.Rate > 0 {
		gauge(descRate, float64(w.options.Rate))
		gauge(descShare, float64(s.Share))
		gauge(descLimit, float64(s.Limit))
	}
	gauge(descMaxPending, float64(w.options.MaxPending))
	gauge(descGroup, float64(s.groupSize))
	gauge(descAssigned, float64(len(s.partitions)))
	for i, topic := range w.options.Topics.Consumed() {
		lane := event.Lane(i).String()
		gauge(descTopic, 1, topic, lane)
		gauge(descPaused, oneIf(s.full[i]), lane)
	}
	gauge(descReady, oneIf(w.Ready()))
	held := map[hold.Reason]float64{}
	for _, h := range s.holds {
		held[h.Reason] = 1
		lane := "all"
		if h.Lane != hold.All {
			lane = event.Lane(h.Lane).String()
		}
		gauge(descHeldSince, float64(h.Since.UnixMilli())/1000, string(h.Reason), lane)
	}
	for _, reason := range hold.Reasons() {
		gauge(descHeld, held[reason], string(reason))
	}
	s.collectPartitions(gauge)
	for _, c := range w.metrics.collectors() {
		c.Collect(ch)
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// collectPartitions passes the gauges of each assigned partition to gauge.
func (s snapshot) collectPartitions(gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	for _, p := range s.partitions {
		if lag, known := p.lag(); known {
			gauge(descLag, float64(lag), p.Topic, p.number())
		}
		gauge(descOldest, p.waited(s.at).Seconds(), p.Topic, p.number())
		gauge(descUnreadable, oneIf(p.Unreadable != nil), p.Topic, p.number())
		if left, known := p.retentionLeft(s.at, s.retention); known {
			gauge(descRetention, left, p.Topic, p.number())
		}
	}
}
