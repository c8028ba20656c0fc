package overview

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"markread/worker/console/history"
	"markread/worker/console/sample"
)

// Input is all that an overview is built from.
type Input struct {
	At      time.Time
	Members []Member
	Kafka   *Kafka // nil: a worker's own page, or Kafka has never responded
	Details *Details
	Replay  any
}

// Member is a worker as its console sees it.
type Member struct {
	Worker                // Name, Address, Member, Note, Controllable; Silent: why it is silent
	Sample *sample.Member // the latest one; nil: none yet
	// Details has the holds and partitions that the worker's own page describes, some seconds ago;
	// nil: not known.
	Details *Details
}

// Kafka is what Kafka reports about the group.
type Kafka struct {
	Errors      []string // parts that can't be read
	Unreachable bool     // no broker responds
	Empty       bool     // the group has no member
	Rebalancing bool
	Partitions  []Partition // with lag and owner, also those that no worker reports
	DeadLetters *DeadLetters
}

// Details is what only the worker's own process knows.
type Details struct {
	Holds      []Hold
	Outside    time.Time   // since when it is in no generation; zero: it is in one, or never was
	NoBroker   bool        // no broker responds
	Partitions []Partition // those with Unreadable or Oldest, to be added to the others
}

// Command is an operator's command, as it is recorded.
type Command struct {
	At              time.Time
	What            string // pause, resume, accept-rejections, replay or stop-replay
	Worker, By, Why string // Why of a replay: the number of its dead letters
}

// Monitor keeps the latest overview and the history. It is safe for concurrent use.
type Monitor struct {
	mu      sync.Mutex
	builder *builder
	history *history.History
	head    []byte // the latest overview as JSON, without its last brace
}

// NewMonitor returns a monitor for a scope, worker or group, of the group with the name.
func NewMonitor(scope, group string) *Monitor {
	m := &Monitor{builder: newBuilder(scope, group), history: history.New()}
	m.encode(m.builder.empty())
	return m
}

// Update adds the state of one moment. One goroutine calls it, about once a second or two.
func (m *Monitor) Update(in Input) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.encode(m.builder.build(in))
	samples := make(map[string]*sample.Member, len(in.Members))
	for _, member := range in.Members {
		if member.Silent == "" && member.Sample != nil {
			samples[member.Name] = member.Sample
		}
	}
	m.history.Add(in.At, samples)
}

// encode encodes the overview once for all viewers.
func (m *Monitor) encode(o Overview) {
	b, err := json.Marshal(o)
	if err != nil { // of the replay: all else can be encoded
		o.Replay, o.Errors = nil, append(o.Errors, "the replay can't be shown: "+err.Error())
		b, _ = json.Marshal(o)
	}
	m.head = b[:max(0, len(b)-1)]
}

// Record records an operator's command among what happened.
func (m *Monitor) Record(c Command) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.builder.record(c)
}

// Workers returns the workers of the latest overview.
func (m *Monitor) Workers() []Worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.builder.workers)
}

// JSON returns the latest overview, with the points of a range after a time in Unix seconds, as
// JSON: an Overview whose field history has the points.
func (m *Monitor) JSON(r history.Range, after int64) []byte {
	m.mu.Lock()
	head, points := m.head, m.history.Points(r, after)
	m.mu.Unlock()
	tail, _ := json.Marshal(points) // they are numbers
	b := make([]byte, 0, len(head)+len(tail)+len(`,"history":}`))
	b = append(append(b, head...), `,"history":`...)
	return append(append(b, tail...), '}')
}
