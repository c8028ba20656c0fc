package group

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/worker/console/overview"
	"markread/worker/console/sample"
	"markread/worker/groupstatus"
)

// reads returns a peer whose worker exports this ID; "": none.
func reads(addr, id string) *peer {
	p := &peer{endpoint: endpoint{addr: addr}, sample: &sample.Member{Version: "v1", ID: id}}
	if at, err := netip.ParseAddrPort(addr); err == nil {
		p.ip = at.Addr()
	}
	return p
}

// member returns a member that owns these partitions of topic t.
func member(id, host string, partitions ...int) groupstatus.Member {
	m := groupstatus.Member{ID: id, Host: host}
	if len(partitions) > 0 {
		m.Assigned = []groupstatus.Assigned{{Topic: "t", Partitions: partitions}}
	}
	return m
}

func silent(p *peer, was string) *peer {
	p.fail("connection refused")
	p.member = was
	return p
}

func TestIdentify(t *testing.T) {
	for _, c := range []struct {
		name    string
		peers   []*peer
		members []groupstatus.Member
		want    []string
	}{
		{"by their IDs", []*peer{reads("10.0.0.1:1", "b"), reads("10.0.0.2:1", "a")},
			[]groupstatus.Member{member("a", "10.0.0.1"), member("b", "10.9.9.9")},
			[]string{"b", "a"}},
		{"the same worker twice", []*peer{reads("10.0.0.1:1", "a"), reads("10.0.0.2:1", "a")},
			[]groupstatus.Member{member("a", "h"), member("b", "10.0.0.2")}, []string{"a", ""}},
		{"another cluster's is not the member at its address",
			[]*peer{reads("10.0.0.1:1", "x")}, []groupstatus.Member{member("a", "10.0.0.1")},
			[]string{""}},
		{"beside another cluster's", []*peer{reads("10.0.0.1:1", "x"), reads("10.0.0.1:2", "")},
			[]groupstatus.Member{member("a", "10.0.0.1")}, []string{"", "a"}},
		{"without an ID, by its address", []*peer{reads("10.0.0.1:1", "a"), reads("10.0.0.2:1", "")},
			[]groupstatus.Member{member("a", "10.0.0.1"), member("b", "10.0.0.2")},
			[]string{"a", "b"}},
		{"an address with IPv6", []*peer{reads("10.0.0.1:1", "")},
			[]groupstatus.Member{member("a", "::ffff:10.0.0.1")}, []string{"a"}},
		{"two members at one address: not known", []*peer{reads("10.0.0.1:1", "")},
			[]groupstatus.Member{member("a", "10.0.0.1"), member("b", "10.0.0.1")}, []string{""}},
		{"two workers at one address: not known",
			[]*peer{reads("10.0.0.1:1", ""), reads("10.0.0.1:2", "")},
			[]groupstatus.Member{member("a", "10.0.0.1")}, []string{"", ""}},
		{"the rest at one address", []*peer{reads("10.0.0.1:1", "a"), reads("10.0.0.1:2", "")},
			[]groupstatus.Member{member("a", "10.0.0.1"), member("b", "10.0.0.1")},
			[]string{"a", "b"}},
		{"silent: what it was", []*peer{silent(reads("10.0.0.1:1", ""), "a")},
			[]groupstatus.Member{member("a", "h"), member("b", "h")}, []string{"a"}},
		{"silent, and has left", []*peer{silent(reads("10.0.0.1:1", ""), "c")},
			[]groupstatus.Member{member("a", "h")}, []string{""}},
		{"silent, and another worker is it now",
			[]*peer{silent(reads("10.0.0.1:1", ""), "a"), reads("10.0.0.2:1", "a")},
			[]groupstatus.Member{member("a", "h")}, []string{"", "a"}},
		{"nothing is known", []*peer{reads("10.0.0.1:1", "a")}, nil, []string{""}},
	} {
		identify(time.Now(), c.peers, c.members, true)
		var got []string
		for _, p := range c.peers {
			got = append(got, p.member)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A worker that is no member of the group is not counted after Kafka had time to report it; one
// that is listed twice is counted once.
func TestUnknownWorkers(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	members := []groupstatus.Member{member("a", "h")}
	a, again, unknown := reads("one:1", "a"), reads("two:1", "a"), reads("three:1", "x")
	ready, held := true, []sample.Held(nil)
	step := func(after time.Duration, current bool, want ...string) {
		t.Helper()
		now = now.Add(after)
		for i, p := range []*peer{a, again, unknown} {
			p.silent, p.sample = "", &sample.Member{ID: []string{"a", "a", "x"}[i], Ready: ready,
				Held: held}
		}
		identify(now, []*peer{a, again, unknown}, members, current)
		for i, p := range []*peer{a, again, unknown} {
			if (want[i] == "") != (p.silent == "") || !strings.Contains(p.silent, want[i]) ||
				(p.sample == nil) != (p.silent != "") {
				t.Errorf("%s: silent %q, want %q", p.addr, p.silent, want[i])
			}
		}
	}
	const twice, elsewhere = "the same worker as one:1", "another Kafka cluster"
	step(0, true, "", twice, "")
	step(unknownFor-1, true, "", twice, "")
	step(1, true, "", twice, elsewhere)
	step(1, false, "", twice, "") // Kafka is not known now
	step(unknownFor, true, "", twice, "")
	step(unknownFor, true, "", twice, elsewhere)
	held = []sample.Held{{Reason: "membership"}} // it was a member, and is cut off
	step(unknownFor, true, "", twice, "")
	step(unknownFor, true, "", twice, "")
	ready, held = false, nil
	step(unknownFor, true, "", twice, "")
	step(unknownFor, true, "", twice, "")
	ready = true
	step(unknownFor, true, "", twice, "")
	step(unknownFor, true, "", twice, elsewhere)
	members = append(members, member("x", "h"))
	step(1, true, "", twice, "")
}

// Rows are the peers, and the members that no peer is; partitions have the names of rows.
func TestJoin(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	lag, first, second := int64(7), "m1", "m2"
	oldest := 12.5
	view := &kafkaView{errors: []string{"one"}, group: &groupstatus.Group{State: "stable",
		Members: []groupstatus.Member{member("m1", "10.0.0.1", 0), {ID: "m2", Host: "10.0.0.2",
			Assigned: []groupstatus.Assigned{{Topic: "t", Partitions: []int{1}}}, Note: "slow"}}},
		lag: &groupstatus.Lag{Topics: []groupstatus.TopicLag{{Topic: "t", Lane: "live",
			Partitions: []groupstatus.PartitionLag{
				{Partition: 0, Member: &first, Lag: &lag, Oldest: &oldest},
				{Partition: 1, Member: &second, Unreadable: &groupstatus.Unreadable{Reason: "r",
					Do: "d"}},
				{Partition: 2}}}}}}
	peers := []*peer{reads("10.0.0.1:8780", "m1")}
	in := join(at, peers, view, lettersCount{err: "two"})
	want := overview.Input{At: at, Members: []overview.Member{
		{Worker: overview.Worker{Name: "10.0.0.1:8780", Address: "10.0.0.1:8780", Member: "m1"},
			Sample: peers[0].sample},
		{Worker: overview.Worker{Name: "m2", Member: "m2", Note: "slow", Silent: "no admin server " +
			"is known of its host, 10.0.0.2; add it to --peers"}},
	}, Kafka: &overview.Kafka{Errors: []string{"one", "two"}, Partitions: []overview.Partition{
		{Topic: "t", Lane: "live", Worker: "10.0.0.1:8780", Lag: new(7.0), OldestSeconds: 12.5},
		{Topic: "t", Partition: 1, Lane: "live", Worker: "m2",
			Unreadable: &overview.Unreadable{Reason: "r", Do: "d"}},
		{Topic: "t", Partition: 2, Lane: "live"},
	}}}
	if !reflect.DeepEqual(in, want) {
		t.Errorf("%+v\n%+v", in, want)
	}
	if in := join(at, peers, view, lettersCount{}); &in.Kafka.Errors[0] == &view.errors[0] {
		t.Error("the input shares memory with the view")
	}
}

func TestJoinStates(t *testing.T) {
	of := func(state string, members ...groupstatus.Member) *kafkaView {
		return &kafkaView{group: &groupstatus.Group{State: state, Members: members}}
	}
	cut := of("stable", member("m", "h"))
	cut.unreachable = true
	for _, c := range []struct {
		name                            string
		view                            *kafkaView
		unreachable, empty, rebalancing bool
		rows                            int
	}{
		{"members", of("stable", member("m", "h")), false, false, false, 1},
		{"no member", of("empty"), false, true, false, 0},
		{"no group", of("absent"), false, true, false, 0},
		{"members join", of("rebalancing", member("m", "h")), false, false, true, 1},
		{"the first member joins", of("rebalancing"), false, false, true, 0},
		{"cut off: what it was", cut, true, false, false, 1},
		{"cut off from the beginning", &kafkaView{unreachable: true}, true, false, false, 0},
	} {
		in := join(time.Now(), nil, c.view, lettersCount{err: "not counted"})
		if k := in.Kafka; k == nil || (len(k.Errors) == 0) != c.unreachable ||
			k.Unreachable != c.unreachable || k.Empty != c.empty || k.Rebalancing != c.rebalancing ||
			len(in.Members) != c.rows {
			t.Errorf("%s: %+v, %d rows", c.name, k, len(in.Members))
		}
	}
	if in := join(time.Now(), nil, nil, lettersCount{}); in.Kafka != nil {
		t.Error("before Kafka has responded, nothing is known of it")
	}
}

// A name is one worker per address; once it had several, its workers keep their names.
func TestResolve(t *testing.T) {
	var found []netip.Addr
	var failed error
	lookUp := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "workers" {
			t.Errorf("it resolves %q", host)
		}
		return found, failed
	}
	r := resolved{entry: "workers:8780"}
	for _, step := range []struct {
		found string
		err   error
		want  string
	}{
		{"", errors.New("no such host\nworkers"), "workers:8780"},
		{"10.0.0.1", nil, "workers:8780"},
		{"10.0.0.1 fd00::1", nil, "workers:8780"}, // one machine
		{"10.0.0.2 10.0.0.1 10.0.0.2 ::ffff:10.0.0.1", nil, "10.0.0.1:8780 10.0.0.2:8780"},
		{"10.0.0.2", nil, "10.0.0.2:8780"},
		{"", errors.New("timeout"), "10.0.0.2:8780"},
		{"", nil, "10.0.0.2:8780"},
		{"fd00::2 fd00::1", nil, "[fd00::1]:8780 [fd00::2]:8780"},
	} {
		found, failed = nil, step.err
		for _, a := range strings.Fields(step.found) {
			found = append(found, netip.MustParseAddr(a))
		}
		r = r.refreshed(t.Context(), lookUp)
		var got []string
		for _, e := range r.endpoints {
			got = append(got, e.addr)
			if e.unresolved == "" != (e.ip.IsValid()) || strings.Contains(e.unresolved, "\n") {
				t.Errorf("%s: %+v", step.found, e)
			}
		}
		if strings.Join(got, " ") != step.want {
			t.Errorf("%q, %v: %q, want %q", step.found, step.err, got, step.want)
		}
	}
	if r := (resolved{entry: "[::1]:8780"}).refreshed(t.Context(), lookUp); len(r.endpoints) != 1 ||
		r.endpoints[0] != (endpoint{addr: "[::1]:8780", ip: netip.IPv6Loopback()}) {
		t.Errorf("an address: %+v", r)
	}
}

// Without Peers, workers are at their members' addresses, each once.
func TestPeersOfMembers(t *testing.T) {
	g := New(Options{PeerPort: 8780})
	if got := g.wanted(nil, nil); got != nil {
		t.Errorf("before Kafka has responded: %v", got)
	}
	view := &kafkaView{group: &groupstatus.Group{Members: []groupstatus.Member{
		member("a", "10.0.0.2"), member("b", "::ffff:10.0.0.1"), member("c", "10.0.0.2"),
		member("d", "[fd00::1]:49152"), member("e", ""), member("f", "a-name")}}}
	peers, more := updatePeers(nil, g.wanted(nil, view))
	var got []string
	for _, p := range peers {
		got = append(got, p.addr)
	}
	want := []string{"10.0.0.2:8780", "10.0.0.1:8780", "[fd00::1]:8780"}
	if !slices.Equal(got, want) || more != 0 {
		t.Errorf("%q, want %q; %d more", got, want, more)
	}
}

// What is known of a peer stays while it is wanted; their number is bounded.
func TestUpdatePeers(t *testing.T) {
	var all []endpoint
	for i := range MaxWorkers + 3 {
		all = append(all, endpoint{addr: fmt.Sprint("w", i, ":1")})
	}
	old, more := updatePeers(nil, all[:2])
	old[1].silent = "refused"
	peers, more2 := updatePeers(old, all[1:])
	if more != 0 || more2 != 2 || len(peers) != MaxWorkers || peers[0] != old[1] ||
		peers[1].silent != "" {
		t.Errorf("%d, %d more, %d peers", more, more2, len(peers))
	}
	if again, _ := updatePeers(peers, all[:1]); len(again) != 1 || again[0] == old[0] {
		t.Error("a peer that was gone is remembered")
	}
}
