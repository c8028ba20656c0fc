package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/imclient"
	"markread/imclient/sandbox"
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

// inTime runs an examination in virtual time. change gets the cluster, and may replace how brokers are dialled and the IM server called.
func inTime(t *testing.T, change func(cluster *kfake.Cluster, dial *func(context.Context, string, string) (net.Conn, error), call *roundTrip),
	test func(t *testing.T, r *checkReport, took time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		cluster, err := kfake.NewCluster(kfake.Ports(9092, 9093, 9094), kfake.ListenFn(network.Listen), kfake.SeedTopics(2, "mark-read", "mark-read-backfill", "mark-read-dead-letters"))
		if err != nil {
			t.Fatal(err)
		}
		defer cluster.Close()
		dial := network.DialContext
		im := sandbox.New(sandbox.Options{AppID: localAppID, Admin: localAdmin, Key: imclient.NewSecret(testKey), OpenAccounts: true})
		call := roundTrip(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
			im.ServeHTTP(w, r)
			return w.Result(), nil
		})
		change(cluster, &dial, &call)
		kafka, err := consumer.New(consumer.Options{Brokers: cluster.ListenAddrs(), Dial: dial, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		defer kafka.Close()
		flags := parsed(t, nil, "--brokers", strings.Join(cluster.ListenAddrs(), ","), "--im-app-id", "1400000000", "--im-timeout", "9s", "--admin-addr", "127.0.0.1:0").workerFlags
		client, err := imclient.New(imclient.Options{
			BaseURL: "https://im.test", AppID: localAppID, Admin: localAdmin, Key: imclient.Key(imclient.NewSecret(testKey)), Timeout: flags.IMTimeout, Transport: call,
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		r := (&examination{flags: &flags, env: newEnvironment(nil), kafka: kafka, im: client}).report(t.Context())
		test(t, r, time.Since(start))
		time.Sleep(2 * stalled) // in virtual time: what is stalled ends
	})
}

func brokerDial(frozenAddr string, dial *func(context.Context, string, string) (net.Conn, error)) {
	inner := *dial
	*dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if frozenAddr == "" || addr == frozenAddr {
			return frozen(ctx, network, addr)
		}
		return inner(ctx, network, addr)
	}
}

type dialFunc = func(context.Context, string, string) (net.Conn, error)

// Whatever does not answer, the check ends in time, says each thing once, and goes on with the rest.
func TestCheckIsPatientWithinBounds(t *testing.T) {
	const limit = checkLimit + 8*time.Second // the last request, and what finds out why
	for name, c := range map[string]struct {
		change     func(cluster *kfake.Cluster, dial *dialFunc, call *roundTrip)
		wrong      []string // name and found
		notChecked []string
		okay       string
	}{
		"everything is right": {func(*kfake.Cluster, *dialFunc, *roundTrip) {}, nil, nil, "lag mark-read-backfill"},
		"all brokers are frozen": {func(_ *kfake.Cluster, dial *dialFunc, _ *roundTrip) { brokerDial("", dial) },
			[]string{"broker localhost:9092, localhost:9093, localhost:9094: it accepts connections, but does not answer"}, []string{"Kafka topics, group, lag: no broker can be asked"}, "IM account"},
		"one broker is frozen": {func(_ *kfake.Cluster, dial *dialFunc, _ *roundTrip) { brokerDial("localhost:9094", dial) },
			[]string{"broker localhost:9094: the cluster sends its clients to it, but it accepts connections, but does not answer"}, nil, "brokers"},
		"the IM server hangs": {func(_ *kfake.Cluster, _ *dialFunc, call *roundTrip) { *call = hanging },
			[]string{"IM server: https://console.tim.qq.com: no whole answer in time"}, []string{"IM account, clock: the IM server does not answer"}, "lag mark-read-backfill"},
		"nothing answers": {func(_ *kfake.Cluster, dial *dialFunc, call *roundTrip) { brokerDial("", dial); *call = hanging },
			[]string{"broker localhost:9092", "IM server"}, []string{"Kafka topics", "IM account"}, "admin server"},
		"requests about topics hang": {func(cluster *kfake.Cluster, _ *dialFunc, _ *roundTrip) { stall(cluster, kmsg.DescribeConfigs) },
			[]string{"topics: they can't be described: "}, nil, "group markread"},
		"the coordinator hangs": {func(cluster *kfake.Cluster, _ *dialFunc, _ *roundTrip) { stall(cluster, kmsg.FindCoordinator) },
			[]string{`group markread: group "markread"`}, []string{"lag mark-read: "}, "permissions"},
		"the coordinator is not ready": {func(cluster *kfake.Cluster, _ *dialFunc, _ *roundTrip) {
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups}, Err: kerr.CoordinatorNotAvailable, Count: -1})
		}, []string{`group markread: group "markread"`}, nil, "permissions"},
		"offsets can't be listed": {func(cluster *kfake.Cluster, _ *dialFunc, _ *roundTrip) {
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.UnknownServerError, Count: -1})
		}, nil, []string{"lag mark-read, mark-read-backfill: of 2 of 2 partitions the leader can't be asked"}, "permissions"},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, c.change, func(t *testing.T, r *checkReport, took time.Duration) {
				if took > limit {
					t.Errorf("it took %s", took)
				}
				match := func(g grade, want []string) {
					t.Helper()
					some := r.found(g)
					if g == isNotChecked && len(want) == 1 && strings.HasPrefix(want[0], "lag mark-read: ") {
						some = some[:min(len(some), 1)] // one for each topic
					}
					if strings.Contains(name, "one broker") { // what else can't be had depends on what it keeps
						some = some[:min(len(some), len(want))]
					}
					if len(some) != len(want) {
						t.Errorf("%s: %+v, want %q", g, some, want)
						return
					}
					for i, f := range some {
						if text := f.name() + ": " + f.Found; !strings.HasPrefix(text, want[i]) {
							t.Errorf("%s, want %s", text, want[i])
						}
					}
				}
				match(isWrong, c.wrong)
				match(isNotChecked, c.notChecked)
				var names []string
				for _, f := range r.found(isOK) {
					names = append(names, f.name())
				}
				if !strings.Contains("; "+strings.Join(names, "; ")+"; ", "; "+c.okay+"; ") {
					t.Errorf("%s is not found to be right: %q", c.okay, names)
				}
				t.Logf("after %s", took)
			})
		})
	}
}

// stalled is longer than anybody waits.
const stalled = time.Minute

// stall lets requests wait; others are answered.
func stall(cluster *kfake.Cluster, key kmsg.Key) {
	cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { time.Sleep(stalled) })
		return nil, nil, false
	})
}
