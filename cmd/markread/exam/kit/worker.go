//go:build exam && unix

package kit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The exam's app. The key is not secret: it signs only for the sandbox and the recorder.
const (
	AppID = "1400000001"
	Key   = "exam-key-5bd2850fff3ecb11d7c805251c51ee463a25727b"
	// KeyVariable sets Key in an environment.
	KeyVariable = "MARKREAD_IM_KEY=" + Key
)

// StopLimit is the contract's hard limit of a shutdown: the default drain timeout and 5 s.
const StopLimit = 15 * time.Second

// Worker is a `markread run` process.
type Worker struct {
	*Proc
	Admin string // URL of its admin server
}

// StartWorker starts `markread run` and returns when its admin server listens.
func StartWorker(t *testing.T, k *Kafka, imURL string, extra ...string) *Worker {
	t.Helper()
	return StartWorkerWithEnv(t, k, imURL, []string{KeyVariable}, extra...)
}

// StartWorkerWithEnv is StartWorker with an environment that contains the secrets.
func StartWorkerWithEnv(t *testing.T, k *Kafka, imURL string, env []string,
	extra ...string) *Worker {
	t.Helper()
	p := Start(t, "worker", "product", env, k.RunArgs(imURL, extra...)...)
	return &Worker{p, "http://" + p.Line(t, AdminLine, 10*time.Second)[1]}
}

// WaitReady waits until the worker is a member of its group.
func (w *Worker) WaitReady(t *testing.T) {
	t.Helper()
	Wait(t, "the worker is ready", 30*time.Second, func() bool {
		status, _, err := TryGet(w.Admin + "/readyz")
		return err == nil && status == http.StatusOK
	})
}

// State is the part of /api/state that the exam reads.
type State struct {
	Group struct {
		Generation *int32 `json:"generation"`
		Assigned   int    `json:"assigned"`
		Partitions int    `json:"partitions"`
	} `json:"group"`
	Quota struct {
		Rate  int `json:"rate"`
		Share int `json:"share"`
	} `json:"quota"`
	Partitions []struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Committed *int64 `json:"committed"`
		Oldest    *struct {
			Offset   int64 `json:"offset"`
			Attempts int   `json:"attempts"`
		} `json:"oldest_unfinished"`
	} `json:"partitions"`
}

// State returns the worker's /api/state, or nil if it does not respond.
func (w *Worker) State() *State {
	status, body, err := TryGet(w.Admin + "/api/state")
	state := &State{}
	if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), state) != nil {
		return nil
	}
	return state
}

// WaitCaughtUp waits until the backlog is below 5 events, so that events from before the first call
// are finished.
func (w *Worker) WaitCaughtUp(t *testing.T) {
	t.Helper()
	Wait(t, "the worker has caught up", 30*time.Second,
		func() bool { return Scrape(t, w.Admin).Sum("markread_backlog_events") < 5 })
}

// Event is one valid event in the exam's models.
type Event struct {
	Conversation
	ReadTime int64 `json:"read_time"`
}

// NewEvent returns an event of the conversation of report and peer.
func NewEvent(report, peer string, readTime int64) Event {
	return Event{Conversation{report, peer}, readTime}
}

// RecordOf returns the plainest record of an event: MsgReadTime as the documented string, and the
// recommended key.
func RecordOf(topic string, e Event) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: e.Key(), Value: fmt.Appendf(nil,
		`{"Report_Account":%q,"Peer_Account":%q,"MsgReadTime":"%d"}`, e.Report, e.Peer, e.ReadTime)}
}

// Conversations returns n different conversations.
func Conversations(prefix string, n int) []Conversation {
	out := make([]Conversation, n)
	for i := range out {
		out[i] = Conversation{prefix + "-r" + strconv.Itoa(i), prefix + "-p" + strconv.Itoa(i%97)}
	}
	return out
}

// OneEventEach returns one event for each conversation.
func OneEventEach(conversations []Conversation) []Event {
	now := time.Now().Unix()
	out := make([]Event, len(conversations))
	for i, c := range conversations {
		out[i] = Event{c, now - int64(len(conversations)-i)%3600}
	}
	return out
}

// RandomEvents returns n events over the conversations, every conversation at least once, in an
// order that depends on the seed.
func RandomEvents(seed uint64, conversations []Conversation, n int) []Event {
	random := rand.New(rand.NewPCG(seed, 1))
	now := time.Now().Unix()
	out := make([]Event, n)
	for i := range out {
		c := conversations[i%len(conversations)]
		if i >= len(conversations) {
			c = conversations[random.IntN(len(conversations))]
		}
		out[i] = Event{c, now - random.Int64N(86_400)}
	}
	random.Shuffle(n, func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// Largest is the naive model of the product: the largest T of each conversation.
func Largest(events []Event) map[Conversation]int64 {
	out := map[Conversation]int64{}
	for _, e := range events {
		out[e.Conversation] = max(out[e.Conversation], e.ReadTime)
	}
	return out
}

// CompareReadTimes compares a server's read times with the expected ones.
func CompareReadTimes(t *testing.T, want, got map[Conversation]int64) {
	t.Helper()
	wrong := 0
	for c, readTime := range want {
		if got[c] != readTime {
			if wrong++; wrong <= 5 {
				t.Errorf("the read time of %v is %d, want %d", c, got[c], readTime)
			}
		}
	}
	for c := range got {
		if _, ok := want[c]; !ok {
			if wrong++; wrong <= 5 {
				t.Errorf("the read time of %v was never requested", c)
			}
		}
	}
	Check(t, wrong == 0, "%d of %d read times are wrong", wrong, len(want))
}

// ReadTimes returns the read times of a server that keeps the maximum, after these calls.
func ReadTimes(arrivals []Arrival) map[Conversation]int64 {
	out := map[Conversation]int64{}
	for _, a := range arrivals {
		if a.Code == 0 && !a.Truncated {
			out[a.Conversation] = max(out[a.Conversation], a.ReadTime)
		}
	}
	return out
}

// RecordsOf returns the records of the events.
func RecordsOf(topic string, events []Event) []*kgo.Record {
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = RecordOf(topic, e)
	}
	return records
}

// ProduceEvents produces the events to the topic, in order.
func ProduceEvents(t *testing.T, k *Kafka, topic string, events []Event) {
	t.Helper()
	k.Produce(t, RecordsOf(topic, events)...)
}
