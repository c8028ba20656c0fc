package consumer_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
)

func TestMissingTopic(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		for _, c := range []consumer.Topics{
			{Live: "x", Backfill: topics.Backfill, DeadLetter: topics.DeadLetter},
			{Live: topics.Live, Backfill: "x", DeadLetter: topics.DeadLetter},
			{Live: topics.Live, DeadLetter: "x"},
			{Live: "x", Backfill: "x2", DeadLetter: "x3"},
		} {
			want := slices.DeleteFunc([]string{c.Live, c.Backfill, c.DeadLetter}, func(name string) bool { return !strings.HasPrefix(name, "x") })
			var missing *consumer.MissingTopicError
			if err := w.client().CheckTopics(w.Context(), c, false); !errors.As(err, &missing) || !slices.Equal(slices.Sorted(slices.Values(missing.Topics)), want) {
				w.Errorf("%+v: %v", c, err)
			}
		}
		if w.cluster.TopicInfo("x") != nil {
			w.Error("the check has created the topic")
		}
		if err := w.client().CheckTopics(w.Context(), topics, false); err != nil {
			w.Error(err)
		}
	})
}

func TestCreateTopics(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		if err := w.cluster.CreateTopic("live", 3, map[string]string{"max.message.bytes": "2000000"}); err != nil {
			w.Fatal(err)
		}
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
			for _, t := range r.(*kmsg.CreateTopicsRequest).Topics {
				if t.ReplicationFactor != -1 {
					w.Errorf("%s: replication %d, want the broker's own", t.Topic, t.ReplicationFactor)
				}
			}
			return true
		}})
		made := consumer.Topics{Live: "live", Backfill: "backfill", DeadLetter: "dead"}
		for range 2 { // the second time there is nothing to do
			if err := w.client().CheckTopics(w.Context(), made, true); err != nil {
				w.Fatal(err)
			}
		}
		for topic, n := range map[string]int{"live": 3, "backfill": 12, "dead": 12} {
			if got := len(w.cluster.PartitionInfos(topic)); got != n {
				w.Errorf("%s has %d partitions, want %d", topic, got, n)
			}
		}
		configs := w.cluster.TopicInfo("dead").Configs
		for name, want := range map[string]string{"retention.ms": "-1", "cleanup.policy": "delete", "max.message.bytes": "2065536"} {
			if got := configs[name]; got == nil || *got != want {
				w.Errorf("%s is %v, want %s", name, got, want)
			}
		}
		if n := len(w.cluster.TopicInfo("backfill").Configs); n != 0 {
			w.Errorf("the backfill topic got %d settings", n)
		}
		// All at once, with the brokers' own limit.
		if err := w.client().CheckTopics(w.Context(), consumer.Topics{Live: "a", DeadLetter: "b"}, true); err != nil {
			w.Fatal(err)
		}
		if got := *w.cluster.TopicInfo("b").Configs["max.message.bytes"]; got != strconv.Itoa(1048588+65536) {
			w.Errorf("max.message.bytes is %s", got)
		}
	})
}

// Two workers start at the same moment.
func TestCreateTopicsTwice(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		made := consumer.Topics{Live: "a", Backfill: "b", DeadLetter: "c"}
		done := make(chan error)
		for range 4 {
			c := w.client()
			go func() { done <- c.CheckTopics(w.Context(), made, true) }()
		}
		for range 4 {
			if err := <-done; err != nil {
				w.Error(err)
			}
		}
	})
}

// What passes is waited out: a worker that starts while brokers restart must not give up.
func TestCheckTopicsOutlastsPassingFailures(t *testing.T) {
	cut := func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true }
	busy := func(request kmsg.Request) (kmsg.Response, error, bool) {
		response := request.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range request.(*kmsg.DescribeConfigsRequest).Resources {
			resource := kmsg.NewDescribeConfigsResponseResource()
			resource.ResourceName, resource.ResourceType, resource.ErrorCode = asked.ResourceName, asked.ResourceType, kerr.RequestTimedOut.Code
			response.Resources = append(response.Resources, resource)
		}
		return response, nil, true
	}
	for name, row := range map[string]struct {
		key   kmsg.Key
		fault func(kmsg.Request) (kmsg.Response, error, bool)
	}{
		"metadata, connection cut": {kmsg.Metadata, cut},
		"settings, connection cut": {kmsg.DescribeConfigs, cut},
		"settings, timed out":      {kmsg.DescribeConfigs, busy},
		"creation, connection cut": {kmsg.CreateTopics, cut},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				w.cluster.ControlKey(int16(row.key), row.fault) // once
				fresh := topics
				fresh.DeadLetter = "fresh"
				if err := w.client().CheckTopics(w.Context(), fresh, true); err != nil {
					w.Error(err)
				}
			})
		})
	}
}

func TestDeadLetterTopicMustKeepLetters(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		for _, policy := range []string{"compact", "compact,delete"} {
			if err := w.cluster.CreateTopic("dead-"+policy[len(policy)-6:], 1, map[string]string{"cleanup.policy": policy}); err != nil {
				w.Fatal(err)
			}
			var wrong *consumer.CleanupPolicyError
			c := consumer.Topics{Live: topics.Live, DeadLetter: "dead-" + policy[len(policy)-6:]}
			if err := w.client().CheckTopics(w.Context(), c, true); !errors.As(err, &wrong) || wrong.Policy != policy {
				w.Errorf("%s: %v", policy, err)
			}
		}
		// Not being allowed to look is no reason not to work.
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		if err := w.client().CheckTopics(w.Context(), topics, false); err != nil {
			w.Error(err)
		}
	})
}

func TestCheckTopicsWaitsForBrokers(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		line := &switchboard{dial: w.network.DialContext, off: true}
		time.AfterFunc(time.Minute, func() { line.cut(false) })
		start := time.Now()
		if err := w.clientOver(line.DialContext).CheckTopics(w.Context(), topics, false); err != nil || time.Since(start) < time.Minute {
			w.Errorf("after %v: %v", time.Since(start), err)
		}
		line.cut(true)
		ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
		defer cancel()
		if err := w.clientOver(line.DialContext).CheckTopics(ctx, topics, false); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("got %v", err)
		}
	})
}
