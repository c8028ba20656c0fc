package admin_test

import (
	"context"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// A broker is described at the address of the options, and at each address that it advertises.
func TestDescribeBrokersByTheirAdvertisedAddresses(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		described := admin.DescribeBrokers(w.Context(), w.Client())
		if len(described) != 1 || described[0].Addr != w.Broker.Addr() ||
			!described[0].Configured ||
			!described[0].Listed() || described[0].Err != nil ||
			len(described[0].Unsupported) != 0 {
			t.Errorf("%+v", described)
		}
		brokertest.Respond(w, kmsg.Metadata, func(_ kmsg.Request, a *kmsg.MetadataResponse) {
			for _, host := range []string{"kafka-2.invalid", "kafka-1.invalid"} {
				b := kmsg.NewMetadataResponseBroker()
				b.Host, b.Port = host, 9092
				a.Brokers = append(a.Brokers, b)
			}
		})
		described = admin.DescribeBrokers(w.Context(), w.Client())
		var got []string
		for _, v := range described {
			got = append(got, v.Addr)
		}
		if !slices.Equal(got, []string{w.Broker.Addr(), "kafka-1.invalid:9092",
			"kafka-2.invalid:9092"}) || described[0].Err != nil || described[0].Listed() {
			t.Fatalf("%+v", described)
		}
		for _, v := range described[1:] {
			if v.Configured || !v.Listed() || v.Err == nil {
				t.Errorf("%+v", v)
			}
		}
	})
}

// Transient failures of a broker are retried. Permanent ones are reported within seconds.
func TestDescribeBrokersRetriesTransientFailures(t *testing.T) {
	const always = 1 << 30
	for name, c := range map[string]struct {
		times   int           // that it fails
		refused bool          // connections are refused; else:
		slow    time.Duration // responses are late; 0: connections break
		most    time.Duration
		fails   bool
	}{
		"closes the connection":  {times: 1, most: time.Second},
		"closes each connection": {times: always, most: 8 * time.Second, fails: true},
		"is slow": {times: 1, slow: 4 * time.Second,
			most: 5 * time.Second},
		"is always slow": {times: always, slow: 3 * time.Second,
			most: 7 * time.Second},
		"is slower than the request timeout": {times: 1, slow: 6 * time.Second,
			most: 8 * time.Second},
		"is not reachable yet": {times: 3, refused: true, most: 2 * time.Second},
		"is unreachable": {times: always, refused: true, most: 2 * time.Second,
			fails: true},
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			left := c.times
			now := func() bool { left--; return left >= 0 }
			client := w.ClientOver(func(ctx context.Context, network, addr string) (net.Conn,
				error) {
				if c.refused && now() {
					return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
				}
				return w.Network.DialContext(ctx, network, addr)
			})
			if !c.refused {
				w.Cluster.ControlKey(kmsg.Metadata.Int16(),
					func(kmsg.Request) (kmsg.Response, error, bool) {
						w.Cluster.KeepControl()
						if !now() {
							return nil, nil, false
						}
						if c.slow == 0 {
							return nil, kerr.UnknownServerError, true // the connection breaks
						}
						w.Cluster.SleepControl(func() { time.Sleep(c.slow) })
						return nil, nil, false
					})
			}
			start := time.Now()
			v := admin.DescribeBrokers(w.Context(), client)[0]
			if took := time.Since(start); (v.Err != nil) != c.fails || took > c.most {
				w.Errorf("%s: after %s: %v", name, took, v.Err)
			}
			if tries := c.times - left; c.refused && tries > 4 {
				w.Errorf("%s: %d connections", name, tries)
			}
			time.Sleep(10 * time.Second) // until delayed requests in the broker end
		})
	}
}

// Requests that a broker does not support any more, or not yet, are named; so is its release.
func TestDescribeUnsupportedBrokers(t *testing.T) {
	for name, c := range map[string]struct {
		versions *kversion.Versions
		raised   bool // all supported versions are newer than ours
		lacks    []string
		release  string
	}{
		"0.10": {versions: kversion.V0_10_2(), lacks: []string{"Fetch", "Metadata"},
			release: "0.10.2"},
		"9.0": {raised: true, lacks: []string{"Produce", "Fetch", "Metadata"}},
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			brokertest.Respond(w, kmsg.ApiVersions,
				func(_ kmsg.Request, a *kmsg.ApiVersionsResponse) {
					if c.raised {
						for key := range int16(50) {
							a.ApiKeys = append(a.ApiKeys,
								kmsg.ApiVersionsResponseApiKey{ApiKey: key,
									MinVersion: 100, MaxVersion: 101})
						}
						return
					}
					c.versions.EachMaxKeyVersion(func(key, most int16) {
						a.ApiKeys = append(a.ApiKeys,
							kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: most})
					})
				})
			start := time.Now()
			v := admin.DescribeBrokers(w.Context(), w.Client())[0]
			if v.Err != nil || time.Since(start) > time.Second {
				t.Errorf("%s: after %s: %v", name, time.Since(start), v.Err)
			}
			for _, name := range c.lacks {
				if !slices.Contains(v.Unsupported, name) {
					t.Errorf("%s: lacks %v, want %s", name, v.Unsupported, name)
				}
			}
			if v.Release != c.release {
				t.Errorf("%s: release %q", name, v.Release)
			}
		})
	}
}

// An unsupported request is not retried.
func TestDescribeTopicsOfABrokerWithoutSettings(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		brokertest.Respond(w, kmsg.ApiVersions, func(_ kmsg.Request, a *kmsg.ApiVersionsResponse) {
			for key, most := range map[kmsg.Key]int16{kmsg.ApiVersions: 0, kmsg.Metadata: 8} {
				a.ApiKeys = append(a.ApiKeys,
					kmsg.ApiVersionsResponseApiKey{ApiKey: key.Int16(), MaxVersion: most})
			}
		})
		start := time.Now()
		described, err := admin.DescribeTopics(w.Context(), w.Client(), brokertest.Topics, false)
		if err != nil || described[0].Settings != nil || described[0].SettingsErr == nil ||
			len(described[0].Partitions) != 1 || time.Since(start) > time.Second {
			w.Errorf("after %s: %+v %v", time.Since(start), described, err)
		}
	})
}

// The topics are described as the brokers report them, in the given order, each with its error.
func TestDescribeTopics(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		c := w.Client()
		named := event.Topics{Live: brokertest.Topics.Live, Backfill: "missing",
			DeadLetter: brokertest.Topics.DeadLetter}
		described, err := admin.DescribeTopics(w.Context(), c, named, false)
		if err != nil || len(described) != 3 || described[0].Name != brokertest.Topics.Live ||
			!described[1].Missing || described[1].Refused != nil ||
			described[2].Name != brokertest.Topics.DeadLetter {
			t.Fatalf("%+v %v", described, err)
		}
		for _, v := range []admin.DescribedTopic{described[0], described[2]} {
			if v.Err != nil || len(v.Partitions) != 2 || v.Partitions[0].Replicas == 0 ||
				v.Partitions[0].InSync == 0 || v.Partitions[0].Leaderless ||
				!v.May.Known() ||
				!v.May.Has(kafkaclient.MayRead|kafkaclient.MayWrite|
					kafkaclient.MayDescribeConfigs) ||
				v.Settings[kafkaclient.RetentionMs] != "86400000" ||
				v.Settings[kafkaclient.MaxMessageBytes] != "1048588" ||
				v.Settings[kafkaclient.CleanupPolicy] != "delete" {
				t.Errorf("%+v", v)
			}
		}
		if described, err := admin.DescribeTopics(w.Context(), c, named, true); err != nil ||
			!described[1].Missing || described[1].Refused != nil ||
			w.Cluster.TopicInfo("missing") != nil {
			t.Errorf("%+v %v", described, err)
		}
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.PolicyViolation,
			Count: -1})
		if described, err := admin.DescribeTopics(w.Context(), c, named, true); err != nil ||
			described[1].Refused == nil || kafkaclient.Denied(described[1].Refused) ||
			described[0].Refused != nil {
			t.Errorf("%+v %v", described, err)
		}

		brokertest.Respond(w, kmsg.Metadata, func(r kmsg.Request, a *kmsg.MetadataResponse) {
			for _, asked := range r.(*kmsg.MetadataRequest).Topics {
				topic := kmsg.NewMetadataResponseTopic()
				topic.Topic = asked.Topic
				switch *asked.Topic {
				case brokertest.Topics.Live:
					topic.ErrorCode = kerr.TopicAuthorizationFailed.Code
				case brokertest.Topics.DeadLetter:
					for n, leader := range []int32{-1, 0} {
						p := kmsg.NewMetadataResponseTopicPartition()
						p.Partition, p.Leader, p.Replicas, p.ISR = int32(1-n), leader,
							[]int32{0, 1, 2}, []int32{1}
						topic.Partitions = append(topic.Partitions, p)
					}
					topic.ErrorCode = kerr.LeaderNotAvailable.Code
				default:
					continue // missing in the response
				}
				a.Topics = append(a.Topics, topic)
			}
		})
		described, err = admin.DescribeTopics(w.Context(), c, named, false)
		if err != nil || !kafkaclient.Denied(described[0].Err) || described[1].Err == nil ||
			described[1].Missing || described[2].Err != nil {
			t.Fatalf("%+v %v", described, err)
		}
		if want := []kafkaclient.Partition{{Replicas: 3, InSync: 1}, {Leaderless: true, Replicas: 3,
			InSync: 1}}; !slices.Equal(described[2].Partitions, want) || described[2].May.Known() {
			t.Errorf("%+v", described[2])
		}
	})
}

// Transient failures are retried; permanent ones end within the time limit.
func TestDescribeTopicsRetriesWithinBounds(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		failures := 2
		w.Cluster.ControlKey(kmsg.DescribeConfigs.Int16(),
			func(kmsg.Request) (kmsg.Response, error, bool) {
				w.Cluster.KeepControl()
				if failures--; failures >= 0 {
					return nil, kerr.UnknownServerError, true // the connection breaks
				}
				return nil, nil, false
			})
		c := w.Client()
		if described, err := admin.DescribeTopics(w.Context(), c, brokertest.Topics,
			false); err != nil || len(described) != 3 || described[2].Settings == nil {
			t.Errorf("%+v %v", described, err)
		}
		failures = 1 << 30
		start := time.Now()
		described, err := admin.DescribeTopics(w.Context(), c, brokertest.Topics, false)
		if err != nil || len(described) != 3 || described[2].Settings != nil ||
			described[2].SettingsErr == nil || !described[2].May.Known() ||
			time.Since(start) > 9*time.Second {
			t.Errorf("after %s: the result without settings: %+v %v", time.Since(start),
				described, err)
		}
		w.Cluster.ControlKey(kmsg.Metadata.Int16(),
			func(kmsg.Request) (kmsg.Response, error, bool) {
				w.Cluster.KeepControl()
				return nil, kerr.UnknownServerError, true
			})
		start = time.Now()
		if described, err := admin.DescribeTopics(w.Context(), c, brokertest.Topics,
			false); err == nil || time.Since(start) > 9*time.Second {
			t.Errorf("after %s: %+v %v", time.Since(start), described, err)
		}
	})
}

// A topic that was created meanwhile exists, and a request to a former controller is retried.
func TestDescribeTopicsChecksCreation(t *testing.T) {
	for name, c := range map[string]struct {
		code  *kerr.Error
		times int
		fails bool
	}{
		"created meanwhile": {kerr.TopicAlreadyExists, 1 << 30, false},
		"a new leader":      {kerr.NotController, 1, false},
		"no leader":         {kerr.NotController, 1 << 30, true},
		"a policy":          {kerr.PolicyViolation, 1 << 30, true},
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: c.code,
				Count: c.times})
			start := time.Now()
			described, err := admin.DescribeTopics(w.Context(), w.Client(),
				event.Topics{Live: brokertest.Topics.Live, DeadLetter: "missing"}, true)
			if err != nil || !described[1].Missing || (described[1].Refused != nil) != c.fails ||
				time.Since(start) > 9*time.Second {
				w.Errorf("%s: after %s: %+v %v", name, time.Since(start), described, err)
			}
		})
	}
}
