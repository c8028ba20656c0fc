package group

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker/console"
	"markread/worker/console/overview"
	"markread/worker/console/respond"
	"markread/worker/console/sample"
	"markread/worker/groupstatus"
)

func statusOf(err error) int {
	if e, ok := errors.AsType[*respond.Error](err); ok {
		return e.Status
	}
	return 0
}

// Commands and questions reach the worker with who asks, if the tokens agree.
func TestForward(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.start("localhost:8780", "token-7f3a"), w.start("localhost:8781", "another token")
		g := w.watch(func(o *Options) {
			o.Peers, o.Token = []string{"localhost:8780", "localhost:8781"},
				imclient.NewSecret("token-7f3a")
			o.Command = func(report, peer string) string { return "ls " + report + " " + peer }
			o.Letters = func(_ context.Context, report, peer string) (any, error) {
				return []string{report, peer}, nil
			}
		})
		time.Sleep(30 * time.Second)
		ctx := w.Context()
		if now, err := g.Pause(ctx, "localhost:8780", "alice", "a fix"); err != nil || !*now.Ready {
			t.Errorf("pause: %v", err)
		}
		if _, err := g.Resume(ctx, "localhost:8780", "bob", true); err != nil {
			t.Errorf("resume: %v", err)
		}
		if _, err := g.Pause(ctx, "localhost:8781", "alice", ""); err == nil ||
			!strings.Contains(err.Error(), "the same MARKREAD_ADMIN_TOKEN") {
			t.Errorf("with another token: %v", err)
		}
		if events, err := g.Rejected(ctx, "localhost:8780"); err != nil || len(events) != 1 ||
			events[0].Code != "90048" {
			t.Errorf("rejected: %v, %v", events, err)
		}
		for _, worker := range []string{"", "localhost:9", a.member()} {
			if _, err := g.Pause(ctx, worker, "alice", ""); statusOf(err) != http.StatusNotFound {
				t.Errorf("no worker %q: %v", worker, err)
			}
		}
		// Of each conversation the owner is asked.
		owned := owners(g)
		for _, peer := range []string{"p", "q", "r", "s", "t", "u", "v", "w"} {
			number := kafkaclient.PartitionOf(event.Key("alice", peer), partitions)
			c, err := g.Conversation(ctx, "", "alice", peer)
			if err != nil || c.Owner != owned[number] || c.Partition.Partition != number ||
				c.Here != (c.Owner == "localhost:8780") || c.Here != (c.Waiting != nil) ||
				c.Note == "" || c.Command != "ls alice "+peer ||
				!reflect.DeepEqual(c.Letters, []string{"alice", peer}) {
				t.Errorf("%s: %+v, %v", peer, c, err)
			}
		}
		if c, err := g.Conversation(ctx, "localhost:8780", "x", "y"); err != nil || !c.Here {
			t.Errorf("of this worker: %+v, %v", c, err)
		}
		g.Letters = func(context.Context, string, string) (any, error) {
			return nil, errors.New("no broker")
		}
		c, err := g.Conversation(ctx, "localhost:8780", "x", "y")
		if err != nil || c.Waiting == nil || c.Letters != nil ||
			!strings.Contains(c.Note, "dead letters can't be read: no broker") {
			t.Errorf("without Kafka: %+v, %v", c, err)
		}
		options := g.Options
		options.ReadOnly = true
		readOnly := New(options)
		defer readOnly.scraper.http.CloseIdleConnections()
		readOnly.rows = rowsOf(g)
		if _, err := readOnly.Rejected(ctx, "localhost:8780"); err != nil { // it changes nothing
			t.Errorf("rejected, read-only: %v", err)
		}
		_, err = readOnly.Pause(ctx, "localhost:8780", "alice", "")
		if statusOf(err) != http.StatusForbidden {
			t.Errorf("pause, read-only: %v", err)
		}
		a.stop()
		b.stop()
		want := []string{"pause by alice: a fix", "resume by bob true"}
		if len(a.asked) < 4 || !slices.Equal(a.asked[:2], want) || len(b.asked) != 0 {
			t.Errorf("%q, %q", a.asked, b.asked)
		}
	})
}

// Without a token nothing is sent that a worker would take for a proxy's.
func TestForwardWithoutToken(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = w.Write([]byte(`{"ready":true,"held":[]}`))
	}))
	defer server.Close()
	g := New(Options{})
	defer g.scraper.http.CloseIdleConnections()
	addr := server.Listener.Addr().String()
	g.rows = []overview.Member{{Worker: overview.Worker{Address: addr}, Sample: &sample.Member{}}}
	if _, err := g.Pause(t.Context(), addr, "alice", ""); err != nil ||
		got.Get("Authorization")+got.Get("X-Forwarded-User") != "" {
		t.Errorf("%v, %v", err, got)
	}
}

// A worker without a token takes the user's name for a sign of a proxy, and refuses.
func TestForwardToWorkerWithoutToken(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.start("localhost:8780", "")
		g := w.watch(func(o *Options) {
			o.Peers, o.Token = []string{"localhost:8780"}, imclient.NewSecret("secret")
		})
		time.Sleep(30 * time.Second)
		_, err := g.Pause(w.Context(), "localhost:8780", "alice", "")
		if err == nil || !strings.Contains(err.Error(), "it has no MARKREAD_ADMIN_TOKEN") {
			t.Errorf("%v", err)
		}
		a.stop()
	})
}

// Nothing is sent to a worker of another machine, or with --read-only.
func TestForwardNowhere(t *testing.T) {
	g := New(Options{Topics: event.Topics{Live: "t"}, Token: imclient.NewSecret("t"),
		Letters: func(context.Context, string, string) (any, error) { return nil, nil },
		Dial: func(context.Context, string, string) (net.Conn, error) {
			t.Error("it connects")
			return nil, errors.New("no")
		}})
	g.rows = []overview.Member{{Worker: overview.Worker{Name: "w", Address: "10.0.0.1:8780",
		Member: "m"}, Sample: &sample.Member{}}}
	ctx := t.Context()
	_, pause := g.Pause(ctx, "10.0.0.1:8780", "alice", "")
	_, resume := g.Resume(ctx, "10.0.0.1:8780", "alice", false)
	_, rejected := g.Rejected(ctx, "10.0.0.1:8780")
	_, conversation := g.Conversation(ctx, "10.0.0.1:8780", "a", "b")
	for i, err := range []error{pause, resume, rejected, conversation} {
		if statusOf(err) != http.StatusConflict {
			t.Errorf("%d: %v", i, err)
		}
	}
	member := "m"
	of := func(owner *string) *kafkaView {
		return &kafkaView{lag: &groupstatus.Lag{Topics: []groupstatus.TopicLag{{Topic: "t",
			Partitions: []groupstatus.PartitionLag{{Member: owner}}}}}}
	}
	backfill := of(&member)
	backfill.lag.Topics[0].Topic = "other"
	for _, c := range []struct {
		view        *kafkaView
		owner, note string
	}{
		{nil, "", "can't be read from Kafka"}, {&kafkaView{}, "", "can't be read from Kafka"},
		{backfill, "", "can't be read from Kafka"}, {of(nil), "", "no worker has this partition"},
		{of(&member), "w", "only to that worker"},
	} {
		g.view = c.view
		got, err := g.Conversation(ctx, "", "a", "b")
		if err != nil || got.Owner != c.owner || !strings.Contains(got.Note, c.note) || got.Here {
			t.Errorf("%q: %+v, %v", c.note, got, err)
		}
	}
}

// Only workers of this machine that respond can be controlled, and none with ReadOnly.
func TestControllable(t *testing.T) {
	for _, c := range []struct {
		address  string
		sample   *sample.Member
		readOnly bool
		want     bool
	}{
		{"127.0.0.1:8780", &sample.Member{}, false, true},
		{"localhost:8780", &sample.Member{}, false, true},
		{"[::1]:8780", &sample.Member{}, false, true},
		{"127.0.0.1:8780", &sample.Member{}, true, false},
		{"127.0.0.1:8780", nil, false, false},
		{"10.0.0.1:8780", &sample.Member{}, false, false},
		{"localhost.example:8780", &sample.Member{}, false, false},
		{"", &sample.Member{}, false, false},
	} {
		g := New(Options{ReadOnly: c.readOnly})
		if got := g.controllable(overview.Member{Worker: overview.Worker{Address: c.address},
			Sample: c.sample}); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// The workers' settings are shown beside the console's own, and where they differ.
func TestSettings(t *testing.T) {
	row := func(name string, settings map[string]string) overview.Member {
		return overview.Member{Worker: overview.Worker{Name: name},
			Sample: &sample.Member{Settings: settings}}
	}
	g := New(Options{})
	g.rows = []overview.Member{
		row("a", map[string]string{"rate": "200", "topic": "t", "attempts": "8", "group": "g"}),
		row("b", map[string]string{"rate": "100", "topic": "t", "group": "g"}),
		{Worker: overview.Worker{Name: "silent"}},
	}
	own := []console.Setting{{Name: "--topic", Value: "t", Source: "default"},
		{Name: "--group", Value: "x", Source: "flag"}, {Name: "--peers", Value: "p"}}
	both := func(a, b string) map[string]string { return map[string]string{"a": a, "b": b} }
	want := console.Settings{Workers: []string{"a", "b"}, Settings: []console.Setting{
		{Name: "--topic", Value: "t", Source: "default", Values: both("t", "t")},
		{Name: "--group", Value: "x", Source: "flag", Values: both("g", "g"), Differs: true},
		{Name: "--peers", Value: "p"},
		{Name: "--attempts", Values: map[string]string{"a": "8"}, Differs: true},
		{Name: "--rate", Values: both("200", "100"), Differs: true},
	}}
	if got := g.Settings(own); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%+v", got, want)
	}
	if own[0].Values != nil {
		t.Error("the console's own settings are changed")
	}
	if got := New(Options{}).Settings(nil); got.Workers == nil || got.Settings == nil {
		t.Errorf("lists are null: %+v", got)
	}
}
