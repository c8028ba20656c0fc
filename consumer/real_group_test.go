package consumer_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/broker/brokertest"
)

// raw is a member that does nothing by itself.
type rawMember struct {
	r          *realTest
	kgo        *kgo.Client // a join holds up its connection
	id         string
	generation int32
	leader     bool
}

func (r *realTest) rawMember() *rawMember {
	return &rawMember{r: r, kgo: r.kgo(kgo.RequestTimeoutOverhead(90 * time.Second))}
}

// join joins the group, and tells when it is in.
func (m *rawMember) join() <-chan int16 {
	done := make(chan int16, 1)
	go func() {
		for {
			request := kmsg.NewPtrJoinGroupRequest()
			request.Group, request.MemberID, request.ProtocolType = m.r.group, m.id, "consumer"
			request.SessionTimeoutMillis, request.RebalanceTimeoutMillis = 15000, 60000
			protocol := kmsg.NewJoinGroupRequestProtocol()
			subscription := kmsg.NewConsumerMemberMetadata()
			subscription.Topics = []string{m.r.topics.Live}
			protocol.Name, protocol.Metadata = "markread", subscription.AppendTo(nil)
			request.Protocols = append(request.Protocols, protocol)
			answer, err := request.RequestWith(context.Background(), m.kgo)
			switch {
			case err != nil:
				m.r.Errorf("join: %v", err)
				done <- -1
			case answer.ErrorCode == kerr.MemberIDRequired.Code:
				m.id = answer.MemberID
				continue
			default:
				m.id, m.generation, m.leader = answer.MemberID, answer.Generation,
					answer.LeaderID == answer.MemberID
				done <- answer.ErrorCode
			}
			return
		}
	}()
	return done
}

func (m *rawMember) sync() <-chan int16 {
	done := make(chan int16, 1)
	go func() {
		request := kmsg.NewPtrSyncGroupRequest()
		kind, name := "consumer", "markread"
		request.Group, request.MemberID, request.Generation = m.r.group, m.id, m.generation
		request.ProtocolType, request.Protocol = &kind, &name
		if m.leader {
			assignment := kmsg.NewSyncGroupRequestGroupAssignment()
			assignment.MemberID = m.id
			request.GroupAssignment = append(request.GroupAssignment, assignment)
		}
		answer, err := request.RequestWith(context.Background(), m.kgo)
		if err != nil {
			m.r.Errorf("sync: %v", err)
			done <- -1
			return
		}
		done <- answer.ErrorCode
	}()
	return done
}

func (m *rawMember) heartbeat() int16 {
	request := kmsg.NewPtrHeartbeatRequest()
	request.Group, request.MemberID, request.Generation = m.r.group, m.id, m.generation
	return mustRequest(m.r, request).ErrorCode
}

func (m *rawMember) commit(generation int32, offset int64) int16 {
	return m.r.tryCommit(commitOf{topic: m.r.topics.Live, offset: offset, generation: generation,
		member: m.id})
}

func (m *rawMember) leave() {
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group, request.MemberID = m.r.group, m.id
	gone := kmsg.NewLeaveGroupRequestMember()
	gone.MemberID = m.id
	request.Members = append(request.Members, gone)
	mustRequest(m.r, request)
}

// What a coordinator answers to commits and heartbeats in each state of the group: our Commit and
// our heartbeats rely on it.
func TestRealCommitInEachState(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	one, two := r.rawMember(), r.rawMember()
	// several: Kafka and the embedded broker differ
	answered := func(what string, got int16, want ...int16) {
		t.Helper()
		if !slices.Contains(want, got) {
			t.Errorf("%s: answered with %d (%v), want one of %d", what, got, kerr.ErrorForCode(got),
				want)
		}
	}
	const rebalancing, illegal, unknown = 27, 22, 25
	became := func(want string, members int) {
		t.Helper()
		r.eventually(10*time.Second, "the group is "+want, func() bool {
			state, n := r.state()
			return state == want && (members < 0 || n == members)
		})
	}
	answered("no group: commit of a simple consumer",
		r.tryCommit(commitOf{topic: r.topics.Live, offset: 1, generation: -1}), 0)
	answered("join", <-one.join(), 0)
	became("CompletingRebalance", 1)
	answered("completing: commit", one.commit(one.generation, 2), rebalancing)
	answered("completing: heartbeat", one.heartbeat(), rebalancing, 0)
	answered("sync", <-one.sync(), 0)
	became("Stable", 1)
	answered("stable: commit", one.commit(one.generation, 3), 0)
	answered("stable: heartbeat", one.heartbeat(), 0)
	answered("stable: commit of another generation", one.commit(one.generation-1, 4), illegal)
	answered("stable: commit of a simple consumer",
		r.tryCommit(commitOf{topic: r.topics.Live, offset: 1, generation: -1}), unknown)

	joined := two.join()
	became("PreparingRebalance", -1)
	answered("preparing: commit", one.commit(one.generation, 5), 0)
	answered("preparing: heartbeat", one.heartbeat(), rebalancing)
	before := one.generation
	answered("rejoin", <-one.join(), 0)
	answered("join of the second", <-joined, 0)
	became("CompletingRebalance", 2)
	answered("completing: commit of the generation before", one.commit(before, 6), illegal)
	answered("completing: commit", two.commit(two.generation, 6), rebalancing)
	leader, follower := one, two
	if two.leader {
		leader, follower = two, one
	}
	synced := follower.sync()
	answered("sync of the leader", <-leader.sync(), 0)
	answered("sync of the follower", <-synced, 0)
	became("Stable", 2)
	answered("stable again: commit", two.commit(two.generation, 7), 0)
	two.leave()
	answered("evicted: commit", two.commit(two.generation, 8), unknown)
	answered("evicted: heartbeat", two.heartbeat(), unknown)
	one.leave()
	became("Empty", 0)
	answered("empty: commit of who has left", one.commit(one.generation, 8), unknown, illegal)
	if got := r.committed(r.topics.Live, 0); got != 7 {
		t.Errorf("committed %d, want 7", got)
	}
}

// What our Commit makes of it: it goes through while others join; once it is evicted, it is fenced.
func TestRealCommitOfGeneration(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 3)
	drained := make(chan struct{})
	drain := sync.OnceFunc(func() { close(drained) })
	defer drain() // also when the test fails: the member's end waits for it
	m := r.join(r.client(), func(m *member) {
		m.autoFinish = false
		m.drain = func(context.Context, *consumer.Generation) { <-drained }
	})
	r.waitForOffsets(m, r.topics.Live, 0, offsets(0, 3))
	g := m.generation()
	g.Finish(m.event(r.topics.Live, 0).Ref)
	if err := g.Commit(t.Context()); err != nil {
		t.Errorf("stable: %v", err)
	}
	other := r.rawMember()
	joined := other.join()
	r.eventually(10*time.Second, "the group prepares",
		func() bool { s, _ := r.state(); return s == "PreparingRebalance" })
	g.Finish(m.event(r.topics.Live, 1).Ref)
	if err := g.Commit(t.Context()); err != nil {
		t.Errorf("preparing: %v", err)
	}
	if got := r.committed(r.topics.Live, 0); got != 2 {
		t.Errorf("committed %d, want 2", got)
	}
	(&rawMember{r: r, id: g.Member()}).leave() // what the end of its session does
	if code := <-joined; code != 0 {
		t.Errorf("join: %d", code)
	}
	g.Finish(m.event(r.topics.Live, 2).Ref)
	var refused *consumer.CommitError
	if err := g.Commit(t.Context()); !errors.As(err, &refused) || !refused.Fenced ||
		refused.Topic != r.topics.Live ||
		refused.Code != "25" && refused.Code != "22" {
		t.Errorf("evicted: %v", err)
	}
	if got := r.committed(r.topics.Live, 0); got != 2 {
		t.Errorf("committed %d, want 2", got)
	}
	m.set(func() { m.drain = nil })
	drain()
	other.leave()
	m.leave()
}

// A drain that takes longer than the session costs neither the membership nor the last commit.
func TestRealLongDrain(t *testing.T) {
	needCluster(t, "it takes 20 s, and virtual time has it (TestRevokeDrainsBeforeOthersBegin)")
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 10)
	first := r.join(r.client(), func(m *member) {
		m.autoFinish = false
		m.drain = func(_ context.Context, g *consumer.Generation) {
			poll := time.NewTicker(100 * time.Millisecond)
			defer poll.Stop()
			for began := time.Now(); time.Since(began) < 20*time.Second; <-poll.C {
				// then a worker would hold its calls; a loaded broker may take seconds
				if age := time.Since(g.LastProof()); age > 9*time.Second {
					t.Errorf("in the drain the last proof is %v old", age)
				}
			}
			for _, e := range m.all() {
				g.Finish(e.Ref)
			}
			m.set(func() { m.drain = nil })
		}
	})
	r.waitForOffsets(first, r.topics.Live, 0, offsets(0, 10))
	id := first.generation().Member()
	second := r.join(r.client())
	r.eventually(40*time.Second, "the second has joined",
		func() bool { return second.generation() != nil })
	if got := r.committed(r.topics.Live, 0); got != 10 {
		t.Errorf("committed %d, want 10", got)
	}
	r.eventually(10*time.Second, "the first has joined again",
		func() bool { return first.generationCount() == 2 })
	if first.generation().Member() != id {
		t.Error("the first has lost its membership")
	}
	if n := len(second.all()); n != 0 {
		t.Errorf("%d events were delivered again", n)
	}
	first.leave()
	second.leave()
}

// A member whose connections break without a word is out when its session ends, and another has
// what it had.
func TestRealDeadMember(t *testing.T) {
	needCluster(t, "it takes a session of 15 s, and virtual time has it (TestStaleCommitIsFenced)")
	t.Parallel()
	r := onBroker(t, 2)
	line := &brokertest.Switchboard{Dial: (&net.Dialer{}).DialContext}
	dead := r.join(r.client(line.DialContext))
	r.eventually(20*time.Second, "the first has all",
		func() bool { return dead.generation() != nil && len(dead.generation().Assigned()) == 4 })
	other := r.join(r.client())
	r.eventually(20*time.Second, "both have a half", func() bool {
		return other.generation() != nil && len(other.generation().Assigned()) == 2 &&
			len(dead.generation().Assigned()) == 2
	})
	line.Cut(true)
	began := time.Now()
	for p := range 2 {
		r.publish(r.topics.Live, p, 5)
	}
	r.eventually(30*time.Second, "the other has everything",
		func() bool { return len(other.generation().Assigned()) == 4 })
	r.waitForOffsets(other, r.topics.Live, 0, offsets(0, 5))
	r.waitForOffsets(other, r.topics.Live, 1, offsets(0, 5))
	took := time.Since(began)
	t.Logf("the other had everything after %v", took)
	if took < 12*time.Second || took > 20*time.Second {
		t.Errorf("a session of 15 s ended after %v", took)
	}
	other.leave()
	dead.stop()
}

// It dies while its join waits for others to drain: the rebalance goes on without waiting for it,
// and its partitions are free when the session ends that began with the answer it never read.
func TestRealMemberDiesWithinJoin(t *testing.T) {
	needCluster(t, "it takes a session of 15 s")
	t.Parallel()
	r := onBroker(t, 2)
	drained := make(chan struct{})
	drain := sync.OnceFunc(func() { close(drained) })
	defer drain()
	slow := r.join(r.client(), func(m *member) {
		m.drain = func(context.Context, *consumer.Generation) { <-drained }
	})
	r.eventually(20*time.Second, "the first has all",
		func() bool { return slow.generation() != nil })
	line := &brokertest.Switchboard{Dial: (&net.Dialer{}).DialContext}
	dead := r.join(r.client(line.DialContext))
	r.eventually(20*time.Second, "the group prepares",
		func() bool { s, n := r.state(); return s == "PreparingRebalance" && n == 2 })
	line.Cut(true)
	for p := range 2 {
		r.publish(r.topics.Live, p, 5)
	}
	slow.set(func() { slow.drain = nil })
	drain()
	began := time.Now()
	r.eventually(10*time.Second, "the slow one has joined again",
		func() bool { return slow.generationCount() >= 2 })
	t.Logf("joined again after %v, with %d of 4 partitions", time.Since(began),
		len(slow.generation().Assigned()))
	r.eventually(40*time.Second, "the slow one has everything",
		func() bool { return len(slow.generation().Assigned()) == 4 })
	r.waitForOffsets(slow, r.topics.Live, 0, offsets(0, 5))
	r.waitForOffsets(slow, r.topics.Live, 1, offsets(0, 5))
	took := time.Since(began)
	t.Logf("everything after %v", took)
	if took > 25*time.Second {
		t.Errorf("it took %v", took)
	}
	slow.leave()
	dead.stop()
}

// Facts for whoever wants to keep something in the metadata of a commit. It is text, of at most
// 4,096 bytes (offset.metadata.max.bytes); what is longer is refused with 12, and the offset with
// it. Text comes back as it was. Bytes that are not UTF-8 are accepted and come back as U+FFFD: use
// base64. The embedded broker has no limit, and keeps bytes.
func TestRealCommitMetadata(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = byte(i * 7)
	}
	const alien = "\xff\xfe\x00\x80"
	tooLong, spoiled := kerr.OffsetMetadataTooLarge.Code, "\ufffd\ufffd\x00\ufffd"
	if r.cluster != nil {
		tooLong, spoiled = 0, alien
	}
	for name, c := range map[string]struct {
		sent, kept string
		code       int16
	}{
		"4,000 bytes of base64": {base64.StdEncoding.EncodeToString(noise),
			base64.StdEncoding.EncodeToString(noise), 0},
		"4,096 bytes": {strings.Repeat("x", 4096), strings.Repeat("x", 4096), 0},
		"4,097 bytes": {strings.Repeat("x", 4097), strings.Repeat("x", 4097), tooLong},
		"not UTF-8":   {alien, spoiled, 0},
		"nothing":     {"", "", 0},
	} {
		r.setCommitted(r.topics.Live, 0, 1)
		code := r.tryCommit(commitOf{topic: r.topics.Live, offset: 2, generation: -1,
			metadata: c.sent})
		offset, metadata := r.commit(r.topics.Live, 0)
		if code != c.code || (code == 0) != (offset == 2) || code == 0 && metadata != c.kept {
			t.Errorf("%s: answered with %d; then the offset is %d, with %d bytes %.20q", name, code,
				offset, len(metadata), metadata)
		}
	}
}
