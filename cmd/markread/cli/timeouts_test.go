package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker/groupstatus"
	"markread/worker/preflight"
)

// dialFrozen connects to something that accepts data and never responds.
func dialFrozen(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	return ours, nil
}

// roundTrip is an http.RoundTripper.
type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func roundTripHanging(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// slowCluster is the environment of a check or status command.
type slowCluster struct {
	cluster *kfake.Cluster
	brokers []string // values for --brokers
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	call    roundTrip     // to the IM server
	patient time.Duration // when the operator interrupts the command; 0: never
}

// withSlowCluster runs a command in virtual time.
func withSlowCluster(t *testing.T, change func(*slowCluster),
	test func(t *testing.T, r *preflight.Report, took time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		cluster, err := kfake.NewCluster(kfake.Ports(9092, 9093, 9094),
			kfake.ListenFn(network.Listen),
			kfake.SeedTopics(2, "mark-read", "mark-read-backfill", "mark-read-dead-letters"))
		if err != nil {
			t.Fatal(err)
		}
		defer cluster.Close()
		im := sandbox.New(sandbox.Options{AppID: app.LocalAppID, Admin: app.LocalAdmin,
			Key: imclient.NewSecret(clitest.TestKey), OpenAccounts: true})
		s := &slowCluster{cluster: cluster, brokers: cluster.ListenAddrs(),
			dial: network.DialContext,
			call: func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
				im.ServeHTTP(w, r)
				return w.Result(), nil
			}}
		change(s)
		kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: s.brokers, Dial: s.dial,
			Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		defer kafka.Close()
		client, err := imclient.New(imclient.Options{
			BaseURL: "https://im.test", AppID: app.LocalAppID, Admin: app.LocalAdmin,
			Key: imclient.Key(imclient.NewSecret(clitest.TestKey)), Timeout: 9 * time.Second,
			Transport: s.call,
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		if s.patient > 0 {
			time.AfterFunc(s.patient, interrupt)
		}
		r := preflight.Run(ctx, preflight.Options{
			Kafka: kafka, Brokers: s.brokers, Group: "markread", Rate: 200, Calls: 200,
			AdminAddr: "127.0.0.1:0",
			Topics: event.Topics{Live: "mark-read", Backfill: "mark-read-backfill",
				DeadLetter: "mark-read-dead-letters"},
			IM: client, IMURL: "https://console.tim.qq.com", IMAdmin: app.LocalAdmin,
		})
		test(t, r, time.Since(start))
		time.Sleep(2 * stallTime) // in virtual time: stalled requests end
	})
}

// freeze makes some brokers accept data without responding; without addresses, all brokers.
func (s *slowCluster) freeze(addrs ...string) {
	inner := s.dial
	s.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if len(addrs) == 0 || slices.Contains(addrs, addr) {
			return dialFrozen(ctx, network, addr)
		}
		return inner(ctx, network, addr)
	}
}

// lead makes the group's coordinator lead all partitions.
func (s *slowCluster) lead() {
	for _, topic := range []string{"mark-read", "mark-read-backfill", "mark-read-dead-letters"} {
		for p := range int32(2) {
			if err := s.cluster.MoveTopicPartition(topic, p,
				s.cluster.CoordinatorFor("markread")); err != nil {
				panic(err)
			}
		}
	}
}

// addr returns the address of the group's coordinator, or of another broker.
func (s *slowCluster) addr(another bool) string {
	node := s.cluster.CoordinatorFor("markread")
	if another {
		node = (node + 1) % 3
	}
	return s.cluster.ListenAddrs()[node]
}

// fail makes requests of a kind fail, so that they are retried again and again.
func (s *slowCluster) fail(keys ...kmsg.Key) {
	s.cluster.Fault(kfake.Fault{Keys: keys, Err: kerr.UnknownServerError, Count: -1})
}

// Whatever does not respond, the check ends in time, reports each problem once, and continues with
// the rest.
func TestCheckTimeouts(t *testing.T) {
	const limit = 20*time.Second + 500*time.Millisecond
	unasked := []string{"topic mark-read: no broker is usable", "topic mark-read-backfill",
		"topic mark-read-dead-letters", "group markread: no broker", "lag mark-read: no broker",
		"lag mark-read-backfill"}
	for name, c := range map[string]struct {
		change     func(s *slowCluster)
		wrong      []string // name and found
		notChecked []string
		okay       string
	}{
		"everything is correct": {func(*slowCluster) {}, nil, nil, "lag mark-read-backfill"},
		"all brokers are frozen": {func(s *slowCluster) { s.freeze() },
			[]string{"broker localhost:9092: it accepts connections but does not respond",
				"broker localhost:9093: it",
				"broker localhost:9094: it"}, unasked, "IM account"},
		"one broker is frozen": {func(s *slowCluster) { s.lead(); s.freeze(s.addr(true)) },
			[]string{"broker localhost:909"}, nil, "lag mark-read-backfill"},
		"the coordinator is frozen": {func(s *slowCluster) { s.freeze(s.addr(false)) },
			[]string{"broker localhost:909"},
			[]string{"group markread: a broker is missing, which may be the one that " +
				"coordinates it", "lag mark-read: ",
				"lag mark-read-backfill: "}, "permission mark-read"},
		"no advertised address is reachable": {func(s *slowCluster) {
			s.brokers = []string{"bootstrap.test:9092"}
			inner := s.dial
			s.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if addr != "bootstrap.test:9092" {
					return nil, &net.OpError{Op: "dial",
						Err: &net.DNSError{Name: addr, IsNotFound: true}}
				}
				return inner(ctx, network, "localhost:9092")
			}
		}, []string{"broker localhost:9092: its name can't be resolved here; the cluster sends " +
			"its clients there " +
			"(advertised.listeners)", "broker localhost:9093", "broker localhost:9094"},
			[]string{"group markread: no broker is usable at its advertised address",
				"lag mark-read: no broker", "lag mark-read-backfill: no broker"},
			"permission mark-read"},
		"all are too old": {func(s *slowCluster) {
			s.cluster.ControlKey(kmsg.ApiVersions.Int16(),
				func(r kmsg.Request) (kmsg.Response, error, bool) {
					s.cluster.KeepControl()
					a := kmsg.NewPtrApiVersionsResponse()
					a.SetVersion(r.GetVersion())
					kversion.V0_10_0().EachMaxKeyVersion(func(key, most int16) {
						a.ApiKeys = append(a.ApiKeys,
							kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: most})
					})
					return a, nil, true
				})
		}, []string{"broker localhost:9092: it does not support markread's versions of " +
			"Produce, Fetch, ",
			"broker localhost:9093: it does", "broker localhost:9094: it does"}, unasked,
			"IM account"},
		"the IM server hangs": {func(s *slowCluster) { s.call = roundTripHanging },
			[]string{"IM server: https://console.tim.qq.com: no complete response in time"},
			[]string{"IM account: the IM server does not respond", "clock: the"},
			"lag mark-read-backfill"},
		"nothing answers": {func(s *slowCluster) { s.freeze(); s.call = roundTripHanging },
			[]string{"broker localhost:9092", "broker localhost:9093", "broker localhost:9094",
				"IM server"},
			append(slices.Clone(unasked), "IM account", "clock"), "admin server"},
		"requests about topics hang": {func(s *slowCluster) { s.stall(kmsg.DescribeConfigs) },
			nil, []string{"settings mark-read: the topic's settings can't be read",
				"settings mark-read-backfill",
				"settings mark-read-dead-letters"}, "group markread"},
		"the coordinator hangs": {func(s *slowCluster) { s.stall(kmsg.FindCoordinator) },
			[]string{"group markread: it can't be described: "},
			[]string{"lag mark-read: ", "lag mark-read-backfill: "}, "permission mark-read"},
		"the coordinator fails": {func(s *slowCluster) { s.fail(kmsg.DescribeGroups) },
			[]string{"group markread: it can't be described: "}, nil, "permission mark-read"},
		"offsets can't be listed": {func(s *slowCluster) { s.fail(kmsg.ListOffsets) }, nil,
			[]string{"lag mark-read: the request to the leader failed for 2 of 2 partitions",
				"lag mark-read-backfill: "},
			"permission mark-read"},
		// a bootstrap broker, an advertised one, and all of the lag: together more than the limit
		"one after the other": {func(s *slowCluster) {
			s.brokers = []string{"frozen.test:9092", "localhost:9092"}
			s.freeze("frozen.test:9092", "localhost:9094")
			s.lead()
			s.fail(kmsg.ListOffsets, kmsg.OffsetFetch)
		}, []string{"broker localhost:9094"}, []string{"lag mark-read", "lag mark-read-backfill"},
			"broker localhost:9092"},
	} {
		t.Run(name, func(t *testing.T) {
			withSlowCluster(t, c.change,
				func(t *testing.T, r *preflight.Report, took time.Duration) {
					if took > limit {
						t.Errorf("it took %s", took)
					}
					match := func(g preflight.Grade, want []string) {
						t.Helper()
						some := findingsOf(*r, g)
						if len(some) != len(want) {
							t.Errorf("%s: %+v, want %q", g, some, want)
							return
						}
						for i, f := range some {
							if text := f.Name() + ": " + f.Found; !strings.HasPrefix(text,
								want[i]) {
								t.Errorf("%s, want %s", text, want[i])
							}
						}
					}
					match(preflight.IsWrong, c.wrong)
					match(preflight.IsNotChecked, c.notChecked)
					var names []string
					for _, f := range findingsOf(*r, preflight.IsOK) {
						names = append(names, f.Name())
					}
					if !strings.Contains("; "+strings.Join(names, "; ")+"; ", "; "+c.okay+"; ") {
						t.Errorf("%s is not found to be right: %q", c.okay, names)
					}
					t.Logf("after %s", took)
				})
		})
	}
}

// An interrupted check reports what is known by then, and nothing that is wrong only because of the
// interruption.
func TestCheckInterrupted(t *testing.T) {
	withSlowCluster(t, func(s *slowCluster) { s.freeze(); s.patient = 3 * time.Second },
		func(t *testing.T, r *preflight.Report, took time.Duration) {
			if took > 4*time.Second || r.Wrong+r.NotChecked > 0 || len(r.Checks) != 4 ||
				r.Checks[0].Name() != "IM server" || r.Checks[3].Name() != "admin server" {
				t.Errorf("after %s: %+v", took, r.Checks)
			}
		})
}

// stallTime is longer than any timeout.
const stallTime = time.Minute

// stall delays requests of a kind; others get responses.
func (s *slowCluster) stall(key kmsg.Key) {
	s.cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		s.cluster.SleepControl(func() { time.Sleep(stallTime) })
		return nil, nil, false
	})
}

// Frozen leaders of both topics are detected within 15 s.
func TestStatusOfFrozenLeaders(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets} {
		statusInVirtualTime(t, false,
			func(t *testing.T, cluster *kfake.Cluster, l *groupstatus.Options) {
				if err := cluster.CreateTopic("backfill", 2, nil); err != nil {
					t.Fatal(err)
				}
				l.Topics.Backfill = "backfill"
				cluster.ControlKey(int16(key), func(r kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					frozen := false
					switch r := r.(type) {
					case *kmsg.FetchRequest:
						frozen = r.Topics[0].Topic != "letters" &&
							r.Topics[0].Partitions[0].Partition == 1
					case *kmsg.ListOffsetsRequest:
						frozen = r.Topics[0].Topic != "letters" &&
							r.Topics[0].Partitions[0].Partition == 1
					}
					if frozen {
						cluster.SleepControl(func() { time.Sleep(time.Minute) })
					}
					return nil, nil, false
				})
				start := time.Now()
				r := groupstatus.NewCollector(*l).Report(t.Context())
				if took := time.Since(start); took > 15*time.Second || len(r.Errors) != 2 {
					t.Errorf("%v: after %s: %v", key, took, r.Errors)
				}
				for i, topic := range []string{"backfill", "live"} {
					if i < len(r.Errors) &&
						!strings.HasPrefix(r.Errors[i],
							`topic "`+topic+`", partition 1 can't be read: `) {
						t.Errorf("%v: %s", key, r.Errors[i])
					}
				}
				time.Sleep(2 * time.Minute) // the broker's own timeout
			})
	}
}

// status does not wait long for missing brokers, whatever does not respond.
func TestStatusTimeouts(t *testing.T) {
	statusInVirtualTime(t, true, func(t *testing.T, _ *kfake.Cluster, l *groupstatus.Options) {
		start := time.Now()
		r := groupstatus.NewCollector(*l).Report(t.Context())
		if took := time.Since(start); took > 10*time.Second || len(r.Errors) != 1 ||
			!strings.Contains(r.Errors[0], "--brokers") ||
			!strings.Contains(r.Errors[0], "connection refused") {
			t.Errorf("after %s: %v", took, r.Errors)
		}
		if r.Group != nil || r.Lag != nil || r.Letters != nil || printed(t, r) != "" {
			t.Errorf("something is known of nothing: %+v", r)
		}
	})
	for key, want := range map[kmsg.Key]string{kmsg.DescribeGroups: `group "g"`,
		kmsg.OffsetFetch: "committed offsets",
		kmsg.ListOffsets: "partition 0", kmsg.Fetch: "dead letters can't be counted"} {
		statusInVirtualTime(t, false,
			func(t *testing.T, cluster *kfake.Cluster, l *groupstatus.Options) {
				if err := deadletter.NewWriter(l.Kafka, "letters").
					Write(t.Context(),
						event.DeadLetter{Event: event.Event{Record: event.Record{Key: []byte("k"),
							Value: []byte("v")}},
							Class: "invalid"}); err != nil {
					t.Fatal(err)
				}
				cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.UnknownServerError,
					Count: -1})
				start := time.Now()
				r := groupstatus.NewCollector(*l).Report(t.Context())
				if took := time.Since(start); took > 30*time.Second || len(r.Errors) == 0 ||
					!strings.Contains(strings.Join(r.Errors, "; "), want) {
					t.Errorf("%v: after %s: %v", key, took, r.Errors)
				}
				if (r.Group == nil) != (key == kmsg.DescribeGroups) ||
					(r.Lag == nil) != (key == kmsg.OffsetFetch) ||
					(r.Letters == nil) != (key == kmsg.ListOffsets || key == kmsg.Fetch) {
					t.Errorf("%v hides what it is not about: %+v", key, r)
				}
			})
	}
}

// An interrupted status command prints no report.
func TestStatusInterrupted(t *testing.T) {
	r := begin(t, nil, "status", "--brokers", "127.0.0.1:1")
	r.WaitFor(t, `(no broker in --brokers is reachable; retrying)`)
	if status := r.Stop(); status != ExitFailed || r.Stdout.String() != "" ||
		!strings.HasSuffix(strings.TrimSpace(r.Stderr.String()), `"message":"interrupted"}`) {
		t.Errorf("%d: %s%s", status, &r.Stdout, &r.Stderr)
	}
}
