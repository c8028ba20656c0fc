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

// rawMember is a member that sends only the requests that the test calls.
type rawMember struct {
	r          *realTest
	kgo        *kgo.Client // a join blocks its connection
	id         string
	generation int32
	leader     bool
}

func (r *realTest) rawMember() *rawMember {
	return &rawMember{r: r, kgo: r.kgo(kgo.RequestTimeoutOverhead(90 * time.Second))}
}

// join joins the group, and sends the error code when the join has ended.
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

func (m *rawMember) leave() { mustRequest(m.r, leaveRequest(m.r.group, m.id)) }

// leaveRequest returns a request that removes the member id from the group.
func leaveRequest(group, id string) *kmsg.LeaveGroupRequest {
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group, request.MemberID = group, id // MemberID is for version 2 and earlier
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = id
	request.Members = append(request.Members, member)
	return request
}

// The coordinator's responses to commits and heartbeats in each state of the group.
// Generation.Commit and heartbeats rely on them.
func TestRealCommitInEachState(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	one, two := r.rawMember(), r.rawMember()
	// several are valid: Kafka and the embedded broker differ
	checkCode := func(what string, got int16, want ...int16) {
		t.Helper()
		if !slices.Contains(want, got) {
			t.Errorf("%s: response %d (%v), want one of %d", what, got, kerr.ErrorForCode(got),
				want)
		}
	}
	const rebalancing, illegal, unknown = 27, 22, 25
	waitForState := func(want string, members int) {
		t.Helper()
		r.eventually(10*time.Second, "the group is "+want, func() bool {
			state, n := r.state()
			return state == want && (members < 0 || n == members)
		})
	}
	checkCode("no group: commit of a simple consumer",
		r.tryCommit(commitOf{topic: r.topics.Live, offset: 1, generation: -1}), 0)
	checkCode("join", <-one.join(), 0)
	waitForState("CompletingRebalance", 1)
	checkCode("completing: commit", one.commit(one.generation, 2), rebalancing)
	checkCode("completing: heartbeat", one.heartbeat(), rebalancing, 0)
	checkCode("sync", <-one.sync(), 0)
	waitForState("Stable", 1)
	checkCode("stable: commit", one.commit(one.generation, 3), 0)
	checkCode("stable: heartbeat", one.heartbeat(), 0)
	checkCode("stable: commit of another generation", one.commit(one.generation-1, 4), illegal)
	checkCode("stable: commit of a simple consumer",
		r.tryCommit(commitOf{topic: r.topics.Live, offset: 1, generation: -1}), unknown)

	joined := two.join()
	waitForState("PreparingRebalance", -1)
	checkCode("preparing: commit", one.commit(one.generation, 5), 0)
	checkCode("preparing: heartbeat", one.heartbeat(), rebalancing)
	before := one.generation
	checkCode("rejoin", <-one.join(), 0)
	checkCode("join of the second", <-joined, 0)
	waitForState("CompletingRebalance", 2)
	checkCode("completing: commit of the generation before", one.commit(before, 6), illegal)
	checkCode("completing: commit", two.commit(two.generation, 6), rebalancing)
	leader, follower := one, two
	if two.leader {
		leader, follower = two, one
	}
	synced := follower.sync()
	checkCode("sync of the leader", <-leader.sync(), 0)
	checkCode("sync of the follower", <-synced, 0)
	waitForState("Stable", 2)
	checkCode("stable again: commit", two.commit(two.generation, 7), 0)
	two.leave()
	checkCode("removed: commit", two.commit(two.generation, 8), unknown)
	checkCode("removed: heartbeat", two.heartbeat(), unknown)
	one.leave()
	waitForState("Empty", 0)
	checkCode("empty: commit of a former member", one.commit(one.generation, 8), unknown, illegal)
	if got := r.committed(r.topics.Live, 0); got != 7 {
		t.Errorf("committed %d, want 7", got)
	}
}

// Generation.Commit succeeds while other members join. Once the member is removed, it is fenced.
func TestRealCommitOfGeneration(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 3)
	drained := make(chan struct{})
	drain := sync.OnceFunc(func() { close(drained) })
	defer drain() // also when the test fails: the member waits for it
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
	(&rawMember{r: r, id: g.Member()}).leave() // has the effect of an expired session
	if code := <-joined; code != 0 {
		t.Errorf("join: %d", code)
	}
	g.Finish(m.event(r.topics.Live, 2).Ref)
	var refused *consumer.CommitError
	if err := g.Commit(t.Context()); !errors.As(err, &refused) || !refused.Fenced ||
		refused.Topic != r.topics.Live ||
		refused.Code != "25" && refused.Code != "22" {
		t.Errorf("removed: %v", err)
	}
	if got := r.committed(r.topics.Live, 0); got != 2 {
		t.Errorf("committed %d, want 2", got)
	}
	m.set(func() { m.drain = nil })
	drain()
	other.leave()
	m.leave()
}

// A drain that takes longer than the session loses neither the membership nor the last commit.
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
				// a worker would begin the membership hold; a loaded broker may take seconds
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
	r.eventually(10*time.Second, "the first has rejoined",
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

// A member whose connections break without notice is removed when its session expires, and another
// member gets its partitions.
func TestRealDeadMember(t *testing.T) {
	needCluster(t, "it takes a session of 15 s, and virtual time has it (TestStaleCommitIsFenced)")
	t.Parallel()
	r := onBroker(t, 2)
	line := &brokertest.CuttableDialer{Dial: (&net.Dialer{}).DialContext}
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

// A member dies while its join waits for others to drain. The rebalance continues without it. Its
// partitions are reassigned when its session expires, which began with the response that it never
// read.
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
	line := &brokertest.CuttableDialer{Dial: (&net.Dialer{}).DialContext}
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
	r.eventually(10*time.Second, "the slow one has rejoined",
		func() bool { return slow.generationCount() >= 2 })
	t.Logf("rejoined after %v, with %d of 4 partitions", time.Since(began),
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

// How Kafka treats the metadata of a commit. It is text of at most 4,096 bytes
// (offset.metadata.max.bytes). Kafka refuses longer text with error 12, and does not store the
// offset either. It returns text unchanged. It accepts bytes that are not UTF-8, but returns them
// as U+FFFD, so metadata must be base64. The embedded broker has no limit, and returns bytes
// unchanged.
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
			t.Errorf("%s: response %d; then the offset is %d, with %d bytes %.20q", name, code,
				offset, len(metadata), metadata)
		}
	}
}
