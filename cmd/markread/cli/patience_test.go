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

// frozen is a connection to something that takes what it is sent, and says nothing.
func frozen(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	return ours, nil
}

// roundTrip is an http.RoundTripper.
type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func hanging(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// slow is what an examination meets.
type slow struct {
	cluster *kfake.Cluster
	brokers []string // of --brokers
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	call    roundTrip     // of the IM server
	patient time.Duration // of the operator, who then interrupts it; 0: to the end
}

// inTime runs an examination in virtual time.
func inTime(t *testing.T, change func(*slow),
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
		s := &slow{cluster: cluster, brokers: cluster.ListenAddrs(), dial: network.DialContext,
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
		time.Sleep(2 * stalled) // in virtual time: what is stalled ends
	})
}

// freeze makes some brokers take what they are sent, and say nothing; without addresses all.
func (s *slow) freeze(addrs ...string) {
	inner := s.dial
	s.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if len(addrs) == 0 || slices.Contains(addrs, addr) {
			return frozen(ctx, network, addr)
		}
		return inner(ctx, network, addr)
	}
}

// lead makes the group's coordinator lead all partitions.
func (s *slow) lead() {
	for _, topic := range []string{"mark-read", "mark-read-backfill", "mark-read-dead-letters"} {
		for p := range int32(2) {
			if err := s.cluster.MoveTopicPartition(topic, p,
				s.cluster.CoordinatorFor("markread")); err != nil {
				panic(err)
			}
		}
	}
}

// addr is the address of the group's coordinator, or of another broker.
func (s *slow) addr(another bool) string {
	node := s.cluster.CoordinatorFor("markread")
	if another {
		node = (node + 1) % 3
	}
	return s.cluster.ListenAddrs()[node]
}

// fail lets requests of a kind fail, so that they are tried again and again.
func (s *slow) fail(keys ...kmsg.Key) {
	s.cluster.Fault(kfake.Fault{Keys: keys, Err: kerr.UnknownServerError, Count: -1})
}

// Whatever does not answer, the check ends in time, says each thing once, and goes on with the
// rest.
func TestCheckIsPatientWithinBounds(t *testing.T) {
	const limit = 20*time.Second + 500*time.Millisecond
	unasked := []string{"topic mark-read: no broker can be asked", "topic mark-read-backfill",
		"topic mark-read-dead-letters", "group markread: no broker", "lag mark-read: no broker",
		"lag mark-read-backfill"}
	for name, c := range map[string]struct {
		change     func(s *slow)
		wrong      []string // name and found
		notChecked []string
		okay       string
	}{
		"everything is right": {func(*slow) {}, nil, nil, "lag mark-read-backfill"},
		"all brokers are frozen": {func(s *slow) { s.freeze() },
			[]string{"broker localhost:9092: it accepts connections and says nothing",
				"broker localhost:9093: it",
				"broker localhost:9094: it"}, unasked, "IM account"},
		"one broker is frozen": {func(s *slow) { s.lead(); s.freeze(s.addr(true)) },
			[]string{"broker localhost:909"}, nil, "lag mark-read-backfill"},
		"the coordinator is frozen": {func(s *slow) { s.freeze(s.addr(false)) },
			[]string{"broker localhost:909"},
			[]string{"group markread: a broker is missing, which may be the one that coordinates it", "lag mark-read: ",
				"lag mark-read-backfill: "}, "permission mark-read"},
		"all are advertised where nobody is": {func(s *slow) {
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
			[]string{"group markread: no broker can be asked at the address that the cluster has " +
				"for it",
				"lag mark-read: no broker", "lag mark-read-backfill: no broker"},
			"permission mark-read"},
		"all are too old": {func(s *slow) {
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
		}, []string{"broker localhost:9092: it does not understand what markread says in " +
			"Produce, Fetch, ",
			"broker localhost:9093: it does", "broker localhost:9094: it does"}, unasked,
			"IM account"},
		"the IM server hangs": {func(s *slow) { s.call = hanging },
			[]string{"IM server: https://console.tim.qq.com: no complete response in time"},
			[]string{"IM account: the IM server does not answer", "clock: the"},
			"lag mark-read-backfill"},
		"nothing answers": {func(s *slow) { s.freeze(); s.call = hanging },
			[]string{"broker localhost:9092", "broker localhost:9093", "broker localhost:9094",
				"IM server"},
			append(slices.Clone(unasked), "IM account", "clock"), "admin server"},
		"requests about topics hang": {func(s *slow) { s.stall(kmsg.DescribeConfigs) },
			nil, []string{"settings mark-read: the topic's settings can't be read",
				"settings mark-read-backfill",
				"settings mark-read-dead-letters"}, "group markread"},
		"the coordinator hangs": {func(s *slow) { s.stall(kmsg.FindCoordinator) },
			[]string{"group markread: it can't be described: "},
			[]string{"lag mark-read: ", "lag mark-read-backfill: "}, "permission mark-read"},
		"the coordinator fails": {func(s *slow) { s.fail(kmsg.DescribeGroups) },
			[]string{"group markread: it can't be described: "}, nil, "permission mark-read"},
		"offsets can't be listed": {func(s *slow) { s.fail(kmsg.ListOffsets) }, nil,
			[]string{"lag mark-read: of 2 of 2 partitions the leader can't be asked",
				"lag mark-read-backfill: "},
			"permission mark-read"},
		// a broker that is given, one that is advertised, and all of the lag: together more than
		// the limit
		"one after the other": {func(s *slow) {
			s.brokers = []string{"frozen.test:9092", "localhost:9092"}
			s.freeze("frozen.test:9092", "localhost:9094")
			s.lead()
			s.fail(kmsg.ListOffsets, kmsg.OffsetFetch)
		}, []string{"broker localhost:9094"}, []string{"lag mark-read", "lag mark-read-backfill"},
			"broker localhost:9092"},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, c.change, func(t *testing.T, r *preflight.Report, took time.Duration) {
				if took > limit {
					t.Errorf("it took %s", took)
				}
				match := func(g preflight.Grade, want []string) {
					t.Helper()
					some := found(*r, g)
					if len(some) != len(want) {
						t.Errorf("%s: %+v, want %q", g, some, want)
						return
					}
					for i, f := range some {
						if text := f.Name() + ": " + f.Found; !strings.HasPrefix(text, want[i]) {
							t.Errorf("%s, want %s", text, want[i])
						}
					}
				}
				match(preflight.IsWrong, c.wrong)
				match(preflight.IsNotChecked, c.notChecked)
				var names []string
				for _, f := range found(*r, preflight.IsOK) {
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

// Who interrupts it gets what is known by then, and nothing that is wrong only because of that.
func TestCheckInterrupted(t *testing.T) {
	inTime(t, func(s *slow) { s.freeze(); s.patient = 3 * time.Second },
		func(t *testing.T, r *preflight.Report, took time.Duration) {
			if took > 4*time.Second || r.Wrong+r.NotChecked > 0 || len(r.Checks) != 4 ||
				r.Checks[0].Name() != "IM server" || r.Checks[3].Name() != "admin server" {
				t.Errorf("after %s: %+v", took, r.Checks)
			}
		})
}

// stalled is longer than anybody waits.
const stalled = time.Minute

// stall lets requests wait; others are answered.
func (s *slow) stall(key kmsg.Key) {
	s.cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		s.cluster.SleepControl(func() { time.Sleep(stalled) })
		return nil, nil, false
	})
}

// Leaders that are frozen, of both topics, are found within 15 s.
func TestStatusOfFrozenLeaders(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets} {
		virtual(t, false, func(t *testing.T, cluster *kfake.Cluster, l *groupstatus.Options) {
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
			r := groupstatus.Run(t.Context(), *l)
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
			time.Sleep(2 * time.Minute) // the broker's own
		})
	}
}

// Nobody is kept waiting for brokers that are not there, whatever it is that does not answer.
func TestStatusIsPatientWithinBounds(t *testing.T) {
	virtual(t, true, func(t *testing.T, _ *kfake.Cluster, l *groupstatus.Options) {
		start := time.Now()
		r := groupstatus.Run(t.Context(), *l)
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
		virtual(t, false, func(t *testing.T, cluster *kfake.Cluster, l *groupstatus.Options) {
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
			r := groupstatus.Run(t.Context(), *l)
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

// An interrupted look is no report.
func TestStatusInterrupted(t *testing.T) {
	r := begin(t, nil, "status", "--brokers", "127.0.0.1:1")
	r.Found(t, `(no broker in --brokers is reachable; retrying)`)
	if status := r.Stopped(); status != ExitFailed || r.Stdout.String() != "" ||
		!strings.HasSuffix(strings.TrimSpace(r.Stderr.String()), `"message":"interrupted"}`) {
		t.Errorf("%d: %s%s", status, &r.Stdout, &r.Stderr)
	}
}
