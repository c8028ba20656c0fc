package worker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/imclient/sandbox"
	"markread/worker"
)

// lockedLog is a log that can be read while it is written.
type lockedLog struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(b)
}

// withMessage returns the log lines whose message contains message.
func (l *lockedLog) withMessage(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.lines.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(fields["message"].(string), message) {
			found = append(found, fields)
		}
	}
	return found
}

// stallReason is the reason of an event whose calls fail.
var stallReason = regexp.MustCompile(`^its calls fail; [1-9]\d* attempts count so far, ` +
	`at --attempts 1000 it becomes a dead letter; throttled calls, and calls during a hold, ` +
	`don't count$`)

// An event that does not finish stops its partition's offset. That is logged once, with the event's
// place and the reason, and once when the offset moves again.
func TestStalledPartitionIsLogged(t *testing.T) {
	tooLongForARace(t)
	inBubble(t, func(s *stack) {
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 60008,
			Report: "stuck"}}})
		log := &lockedLog{}
		w := s.start(func(o *worker.Options) { o.Log, o.Attempts = zerolog.New(log), 1000 })
		s.publishMessages(topics.Live, event.Message{Key: event.Key("stuck", "peer"),
			Value:   []byte(eventJSON("stuck", "peer", time.Now().Unix())),
			Headers: []event.Header{traceparent(traceID)}})
		for i := range 20 * 60 { // other events finish
			if i == 4*60 {
				if logged := log.withMessage(t, "has not moved"); len(logged) != 0 {
					t.Errorf("logged after %d s: %v", i, logged)
				}
			}
			s.publish(topics.Live, eventJSON(fmt.Sprint("reader", i), "peer", time.Now().Unix()))
			time.Sleep(time.Second)
		}
		var topic string
		var partition, offset float64
		for _, p := range w.State().Partitions {
			if u := p.OldestUnfinished; u != nil {
				topic, partition, offset = p.Topic, float64(p.Partition), float64(u.Offset)
			}
		}
		logged := log.withMessage(t, "has not moved")
		if len(logged) != 1 || logged[0]["topic"] != topic || logged[0]["partition"] != partition ||
			logged[0]["offset"] != offset || logged[0]["waits_for"] != "retry" ||
			!stallReason.MatchString(logged[0]["reason"].(string)) ||
			logged[0]["level"] != "warn" || logged[0]["trace_id"] != traceID {
			t.Errorf("logged %v; stalled is %s/%v at %v", logged, topic, partition, offset)
		}
		s.fault(sandbox.Faults{})
		time.Sleep(2 * time.Minute)
		if moved := log.withMessage(t, "moves again"); len(moved) != 1 ||
			moved[0]["partition"] != partition {
			t.Errorf("logged at the end: %v", moved)
		}
		if late := log.withMessage(t, "finished late"); len(late) != 1 ||
			late[0]["offset"] != offset || late[0]["trace_id"] != traceID ||
			late[0]["attempts"].(float64) < 20 {
			t.Errorf("logged late events: %v", late)
		}
		s.mustStop(w)
	})
}

// The stalled event may have collapsed into a later one, whose trace is not its own.
func TestStalledEventThatCollapsed(t *testing.T) {
	inBubble(t, func(s *stack) {
		log := &lockedLog{}
		w := s.start(func(o *worker.Options) { o.Log = zerolog.New(log) })
		time.Sleep(20 * time.Second)
		w.Pause("", "")
		for i := range int64(2) {
			s.publishMessages(topics.Live, event.Message{Key: event.Key("stuck", "peer"),
				Value:   []byte(eventJSON("stuck", "peer", time.Now().Unix()+i)),
				Headers: []event.Header{traceparent(traceID)}})
		}
		time.Sleep(6 * time.Minute)
		logged := log.withMessage(t, "has not moved")
		if len(logged) != 1 || logged[0]["offset"] != 0. || logged[0]["trace_id"] != nil ||
			logged[0]["waits_for"] != "hold" {
			t.Errorf("logged %v", logged)
		}
		s.mustStop(w)
	})
}
