package overview

import (
	"encoding/json"
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
	Worker                // Name, Address, Member, Note, Controllable, and Silent if it does not respond
	Sample *sample.Member // the latest one; nil: none yet
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
	Outside    time.Time   // since when it is in no generation; zero: it is in one
	Partitions []Partition // those with Unreadable or Oldest, to be added to the others
}

// Command is an operator's command, as it is recorded.
type Command struct {
	At              time.Time
	What            string // pause, resume, accept-rejections, replay or stop-replay
	Worker, By, Why string
}

// Monitor keeps the latest overview and the history. It is safe for concurrent use.
type Monitor struct {
	mu      sync.Mutex
	scope   string
	group   string
	history *history.History
	latest  Overview
}

// NewMonitor returns a monitor for a scope, worker or group, of the group with the name.
func NewMonitor(scope, group string) *Monitor {
	return &Monitor{scope: scope, group: group, history: history.New()}
}

// Update adds the state of one moment. One goroutine calls it, about once a second or two.
func (m *Monitor) Update(in Input) {}

// Record records an operator's command among what happened.
func (m *Monitor) Record(c Command) {}

// JSON returns the latest overview, with the points of a range after a time in Unix seconds, as
// JSON: an Overview whose field history has the points.
func (m *Monitor) JSON(r history.Range, after int64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, _ := json.Marshal(struct {
		Overview
		History history.Points `json:"history"`
	}{m.latest, m.history.Points(r, after)})
	return b
}
