//go:build exam && unix

package kit

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceLog records the arrival time of every produce request at a broker, by topic.
type produceLog struct {
	mu sync.Mutex
	at map[string][]time.Time
}

// serveBrokerControl lets a test observe and disturb a broker that runs in another process. It
// serves HTTP and returns its address:
//
//	PUT /refuse?topic=T&error=E   every write to T fails with the Kafka error named E, until
//	PUT /accept?topic=T           ends that
//	GET /tries?topic=T            arrival times of the produce requests for T, as a JSON list
func serveBrokerControl(cluster *kfake.Cluster) (string, error) {
	tries := &produceLog{at: map[string][]time.Time{}}
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		tries.add(r.(*kmsg.ProduceRequest))
		return nil, nil, false
	})
	refused := map[string]*kfake.FaultHandle{}
	var mu sync.Mutex
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /refuse", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		topic, name := r.FormValue("topic"), r.FormValue("error")
		var reason *kerr.Error
		for code := range int16(200) {
			if e, ok := kerr.ErrorForCode(code).(*kerr.Error); ok && e.Message == name {
				reason = e
			}
		}
		if reason == nil || refused[topic] != nil {
			http.Error(w, "unknown error, or the topic refuses writes already",
				http.StatusBadRequest)
			return
		}
		refused[topic] = cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic,
			Err: reason, Count: -1})
	})
	mux.HandleFunc("PUT /accept", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if topic := r.FormValue("topic"); refused[topic] != nil {
			refused[topic].Remove()
			delete(refused, topic)
		}
	})
	mux.HandleFunc("GET /tries", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(tries.timesFor(r.FormValue("topic")))
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { fmt.Fprintln(os.Stderr, http.Serve(listener, mux)) }()
	return listener.Addr().String(), nil
}

func (e *produceLog) add(r *kmsg.ProduceRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, topic := range r.Topics {
		e.at[topic.Topic] = append(e.at[topic.Topic], time.Now())
	}
}

func (e *produceLog) timesFor(topic string) []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.at[topic])
}

// RefuseWrites makes the broker respond to every write to the topic with the error, until
// AcceptWrites.
func (k *Kafka) RefuseWrites(t *testing.T, topic, reason string) {
	t.Helper()
	put(t, k.control+"/refuse?"+url.Values{"topic": {topic}, "error": {reason}}.Encode(), "")
}

// AcceptWrites ends RefuseWrites.
func (k *Kafka) AcceptWrites(t *testing.T, topic string) {
	t.Helper()
	put(t, k.control+"/accept?"+url.Values{"topic": {topic}}.Encode(), "")
}

// WriteAttempts returns the arrival times of the produce requests for the topic.
func (k *Kafka) WriteAttempts(t *testing.T, topic string) []time.Time {
	t.Helper()
	return GetJSON[[]time.Time](t, k.control+"/tries?"+url.Values{"topic": {topic}}.Encode())
}
