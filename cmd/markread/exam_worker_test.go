//go:build exam && unix

package main

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

// Facts of the exam's app. The key is no secret: it signs for the sandbox only.
const (
	examAppID = "1400000001"
	examKey   = "exam-key-5bd2850fff3ecb11d7c805251c51ee463a25727b"
)

// examStopLimit is the contract's hard limit of a stop: the drain timeout's default and 5 s.
const examStopLimit = 15 * time.Second

// examWorker is a `markread run` process.
type examWorker struct {
	*examProc
	admin string // URL of its admin server
}

// examStartWorker starts `markread run` and returns at once.
func examStartWorker(t *testing.T, k *examKafka, imURL string, extra ...string) *examWorker {
	t.Helper()
	p := examStart(t, "worker", "product", []string{"MARKREAD_IM_KEY=" + examKey}, k.run(imURL, extra...)...)
	return &examWorker{p, "http://" + p.line(t, examAdminLine, 10*time.Second)[1]}
}

// ready waits until the worker is a member of its group.
func (w *examWorker) ready(t *testing.T) {
	t.Helper()
	examWait(t, "the worker is ready", 30*time.Second, func() bool {
		status, _, err := examTryGet(w.admin + "/readyz")
		return err == nil && status == http.StatusOK
	})
}

// examState is what the exam reads of /api/state.
type examState struct {
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

// state returns what the worker shows of itself, nil if it does not answer.
func (w *examWorker) state() *examState {
	status, body, err := examTryGet(w.admin + "/api/state")
	state := &examState{}
	if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), state) != nil {
		return nil
	}
	return state
}

// keepsUp waits until hardly anything waits: what came before the first call has been worked off.
func (w *examWorker) keepsUp(t *testing.T) {
	t.Helper()
	examWait(t, "the worker keeps up", 30*time.Second, func() bool { return examScrape(t, w.admin).sum("markread_backlog_events") < 5 })
}

// examEvent is one valid event as the models see it.
type examEvent struct {
	examConversation
	readTime int64
}

// examRecordOf is the plainest record of an event: MsgReadTime as the documented string, the recommended key.
func examRecordOf(topic string, e examEvent) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: e.key(), Value: fmt.Appendf(nil,
		`{"Report_Account":%q,"Peer_Account":%q,"MsgReadTime":"%d"}`, e.report, e.peer, e.readTime)}
}

// examConversations returns n different conversations.
func examConversations(prefix string, n int) []examConversation {
	out := make([]examConversation, n)
	for i := range out {
		out[i] = examConversation{prefix + "-r" + strconv.Itoa(i), prefix + "-p" + strconv.Itoa(i%97)}
	}
	return out
}

// examOneEach returns one event for each conversation.
func examOneEach(conversations []examConversation) []examEvent {
	now := time.Now().Unix()
	out := make([]examEvent, len(conversations))
	for i, c := range conversations {
		out[i] = examEvent{c, now - int64(len(conversations)-i)%3600}
	}
	return out
}

// examMany returns n events over the conversations, every conversation at least once, in an order that the seed decides.
func examMany(seed uint64, conversations []examConversation, n int) []examEvent {
	random := rand.New(rand.NewPCG(seed, 1))
	now := time.Now().Unix()
	out := make([]examEvent, n)
	for i := range out {
		c := conversations[i%len(conversations)]
		if i >= len(conversations) {
			c = conversations[random.IntN(len(conversations))]
		}
		out[i] = examEvent{c, now - random.Int64N(86_400)}
	}
	random.Shuffle(n, func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// examLargest is the naive model of the main job: the largest T of each conversation.
func examLargest(events []examEvent) map[examConversation]int64 {
	out := map[examConversation]int64{}
	for _, e := range events {
		out[e.examConversation] = max(out[e.examConversation], e.readTime)
	}
	return out
}

// examComparePointers compares the pointers that a server came to with the expected ones.
func examComparePointers(t *testing.T, want, got map[examConversation]int64) {
	t.Helper()
	wrong := 0
	for c, readTime := range want {
		if got[c] != readTime {
			if wrong++; wrong <= 5 {
				t.Errorf("pointer of %v is %d, want %d", c, got[c], readTime)
			}
		}
	}
	for c := range got {
		if _, ok := want[c]; !ok {
			if wrong++; wrong <= 5 {
				t.Errorf("pointer of %v was never asked for", c)
			}
		}
	}
	examCheck(t, wrong == 0, "%d of %d pointers are wrong", wrong, len(want))
}

// examPointers is what a server that keeps the maximum has after these calls.
func examPointers(arrivals []examArrival) map[examConversation]int64 {
	out := map[examConversation]int64{}
	for _, a := range arrivals {
		if a.Code == 0 && !a.Cut {
			c := examConversation{a.Report, a.Peer}
			out[c] = max(out[c], a.ReadTime)
		}
	}
	return out
}

func examProduceEvents(t *testing.T, k *examKafka, topic string, events []examEvent) {
	t.Helper()
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = examRecordOf(topic, e)
	}
	k.produce(t, records...)
}
