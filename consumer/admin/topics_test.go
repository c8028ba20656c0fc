package admin_test

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

	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

func TestMissingTopic(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		for _, c := range []event.Topics{
			{Live: "x", Backfill: brokertest.Topics.Backfill,
				DeadLetter: brokertest.Topics.DeadLetter},
			{Live: brokertest.Topics.Live, Backfill: "x", DeadLetter: brokertest.Topics.DeadLetter},
			{Live: brokertest.Topics.Live, DeadLetter: "x"},
			{Live: "x", Backfill: "x2", DeadLetter: "x3"},
		} {
			want := slices.DeleteFunc([]string{c.Live, c.Backfill, c.DeadLetter},
				func(name string) bool { return !strings.HasPrefix(name, "x") })
			var missing *kafkaclient.MissingTopicError
			if err := admin.CheckTopics(w.Context(), w.Client(), c, false); !errors.As(err,
				&missing) || !slices.Equal(slices.Sorted(slices.Values(missing.Topics)), want) {
				w.Errorf("%+v: %v", c, err)
			}
		}
		if w.Cluster.TopicInfo("x") != nil {
			w.Error("the check has created the topic")
		}
		if err := admin.CheckTopics(w.Context(), w.Client(), brokertest.Topics, false); err != nil {
			w.Error(err)
		}
	})
}

func TestCreateTopics(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		if err := w.Cluster.CreateTopic("live", 3,
			map[string]string{"max.message.bytes": "2000000"}); err != nil {
			w.Fatal(err)
		}
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Observe: true, Count: -1,
			When: func(r kmsg.Request) bool {
				for _, t := range r.(*kmsg.CreateTopicsRequest).Topics {
					if t.ReplicationFactor != -1 {
						w.Errorf("%s: replication %d, want the broker's own", t.Topic,
							t.ReplicationFactor)
					}
				}
				return true
			}})
		created := event.Topics{Live: "live", Backfill: "backfill", DeadLetter: "dead"}
		for range 2 { // the second time there is nothing to do
			if err := admin.CheckTopics(w.Context(), w.Client(), created, true); err != nil {
				w.Fatal(err)
			}
		}
		for topic, n := range map[string]int{"live": 3, "backfill": 12, "dead": 12} {
			if got := len(w.Cluster.PartitionInfos(topic)); got != n {
				w.Errorf("%s has %d partitions, want %d", topic, got, n)
			}
		}
		configs := w.Cluster.TopicInfo("dead").Configs
		for name, want := range map[string]string{"retention.ms": "-1", "cleanup.policy": "delete",
			"max.message.bytes": "2065536"} {
			if got := configs[name]; got == nil || *got != want {
				w.Errorf("%s is %v, want %s", name, got, want)
			}
		}
		if n := len(w.Cluster.TopicInfo("backfill").Configs); n != 0 {
			w.Errorf("the backfill topic got %d settings", n)
		}
		// All topics are new: the brokers' own limit is known only after the first is created.
		brokertest.Respond(w, kmsg.DescribeConfigs,
			func(r kmsg.Request, a *kmsg.DescribeConfigsResponse) {
				for _, asked := range r.(*kmsg.DescribeConfigsRequest).Resources {
					limit := kmsg.NewDescribeConfigsResponseResourceConfig()
					limit.Name, limit.Value = "max.message.bytes", kmsg.StringPtr("3000000")
					topic := kmsg.NewDescribeConfigsResponseResource()
					topic.ResourceType, topic.ResourceName = asked.ResourceType, asked.ResourceName
					topic.Configs = append(topic.Configs, limit)
					a.Resources = append(a.Resources, topic)
				}
			})
		if err := admin.CheckTopics(w.Context(), w.Client(),
			event.Topics{Live: "a", DeadLetter: "b"}, true); err != nil {
			w.Fatal(err)
		}
		if got := *w.Cluster.TopicInfo("b").
			Configs["max.message.bytes"]; got != strconv.Itoa(3000000+65536) {
			w.Errorf("max.message.bytes is %s", got)
		}
	})
}

// Several workers start at the same moment.
func TestCreateTopicsConcurrently(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		created := event.Topics{Live: "a", Backfill: "b", DeadLetter: "c"}
		done := make(chan error)
		for range 4 {
			c := w.Client()
			go func() { done <- admin.CheckTopics(w.Context(), c, created, true) }()
		}
		for range 4 {
			if err := <-done; err != nil {
				w.Error(err)
			}
		}
	})
}

// Transient failures are retried: a worker that starts while brokers restart must not fail.
func TestCheckTopicsRetriesTransientFailures(t *testing.T) {
	cut := func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true }
	busy := func(request kmsg.Request) (kmsg.Response, error, bool) {
		response := request.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range request.(*kmsg.DescribeConfigsRequest).Resources {
			resource := kmsg.NewDescribeConfigsResponseResource()
			resource.ResourceName, resource.ResourceType, resource.ErrorCode = asked.ResourceName,
				asked.ResourceType, kerr.RequestTimedOut.Code
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
			brokertest.Run(t, 1, func(w *brokertest.World) {
				w.Cluster.ControlKey(int16(row.key), row.fault) // once
				fresh := brokertest.Topics
				fresh.DeadLetter = "fresh"
				if err := admin.CheckTopics(w.Context(), w.Client(), fresh, true); err != nil {
					w.Error(err)
				}
			})
		})
	}
}

func TestDeadLetterTopicMustNotBeCompacted(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		for _, policy := range []string{"compact", "compact,delete"} {
			if err := w.Cluster.CreateTopic("dead-"+policy[len(policy)-6:], 1,
				map[string]string{"cleanup.policy": policy}); err != nil {
				w.Fatal(err)
			}
			c := event.Topics{Live: brokertest.Topics.Live,
				DeadLetter: "dead-" + policy[len(policy)-6:]}
			if err := admin.CheckTopics(w.Context(), w.Client(), c, true); err == nil ||
				!strings.Contains(err.Error(),
					"cleanup.policy="+policy+", which loses dead letters") {
				w.Errorf("%s: %v", policy, err)
			}
		}
		// Without the permission to read the settings, a worker still starts.
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs},
			Err: kerr.TopicAuthorizationFailed, Count: -1})
		if err := admin.CheckTopics(w.Context(), w.Client(), brokertest.Topics, false); err != nil {
			w.Error(err)
		}
	})
}

func TestCheckTopicsWaitsForBrokers(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		line := &brokertest.CuttableDialer{Dial: w.Network.DialContext, Off: true}
		time.AfterFunc(time.Minute, func() { line.Cut(false) })
		start := time.Now()
		if err := admin.CheckTopics(w.Context(), w.ClientOver(line.DialContext), brokertest.Topics,
			false); err != nil || time.Since(start) < time.Minute {
			w.Errorf("after %v: %v", time.Since(start), err)
		}
		line.Cut(true)
		ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
		defer cancel()
		if err := admin.CheckTopics(ctx, w.ClientOver(line.DialContext), brokertest.Topics,
			false); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("got %v", err)
		}
	})
}

// Settings that temporarily can't be read don't stop a worker.
func TestTransientSettingsErrorsAreRetried(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		asked := 0
		brokertest.Respond(w, kmsg.DescribeConfigs,
			func(r kmsg.Request, a *kmsg.DescribeConfigsResponse) {
				asked++
				for _, about := range r.(*kmsg.DescribeConfigsRequest).Resources {
					topic := kmsg.NewDescribeConfigsResponseResource()
					topic.ResourceType, topic.ResourceName = about.ResourceType, about.ResourceName
					if asked < 4 {
						topic.ErrorCode = kerr.RequestTimedOut.Code
					}
					a.Resources = append(a.Resources, topic)
				}
			})
		err := admin.CheckTopics(w.Context(), w.Client(), brokertest.Topics, false)
		if err != nil || asked != 4 {
			w.Errorf("asked %d times: %v", asked, err)
		}
	})
}
