//go:build exam && unix

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// examIntruder is a member of the group that is not a worker. As the leader it gives all partitions
// to everybody.
type examIntruder struct {
	k        *examKafka
	cl       *kgo.Client
	metadata []byte
	member   atomic.Bool
	leads    atomic.Bool
	stop     context.CancelFunc
	done     chan struct{}
}

func examStartIntruder(t *testing.T, k *examKafka, metadata []byte) *examIntruder {
	t.Helper()
	cl, err := kgo.NewClient(k.seeds(), kgo.ClientID("intruder"), kgo.MaxVersions(kversion.V3_5_0()), kgo.RequestTimeoutOverhead(90*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	i := &examIntruder{k: k, cl: cl, metadata: metadata, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		defer cl.Close()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for id := ""; ctx.Err() == nil; {
			id = i.turn(ctx, tick.C, id)
			<-tick.C
		}
	}()
	t.Cleanup(i.leave)
	return i
}

func (i *examIntruder) leave() {
	i.stop()
	<-i.done
}

// turn is one generation, or one try to join. It returns the member's id.
func (i *examIntruder) turn(ctx context.Context, tick <-chan time.Time, id string) string {
	kind, name := "consumer", "markread"
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.MemberID, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = i.k.group, id, kind, 15000, 60000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = name, i.metadata
	join.Protocols = append(join.Protocols, p)
	joined, err := join.RequestWith(ctx, i.cl)
	switch {
	case err != nil:
		return id
	case joined.ErrorCode == kerr.MemberIDRequired.Code:
		return joined.MemberID
	case joined.ErrorCode != 0:
		return ""
	}
	id = joined.MemberID
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID, sync.ProtocolType, sync.Protocol = i.k.group, joined.Generation, id, &kind, &name
	leads := joined.LeaderID == id
	for _, m := range joined.Members { // the leader's only
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = m.MemberID, examAllPartitions(i.k)
		sync.GroupAssignment = append(sync.GroupAssignment, a)
	}
	if synced, err := sync.RequestWith(ctx, i.cl); err != nil || synced.ErrorCode != 0 {
		return id
	}
	i.member.Store(true)
	i.leads.Store(leads)
	for ctx.Err() == nil {
		<-tick
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.Generation, beat.MemberID = i.k.group, joined.Generation, id
		if answer, err := beat.RequestWith(ctx, i.cl); ctx.Err() == nil && (err != nil || answer.ErrorCode != 0) {
			return id
		}
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = i.k.group, id
	gone := kmsg.NewLeaveGroupRequestMember()
	gone.MemberID = id
	leave.Members = append(leave.Members, gone)
	_, _ = leave.RequestWith(context.WithoutCancel(ctx), i.cl)
	return id
}

// examOutlook is what a worker of 200 calls a second and so many partitions of each topic
// publishes.
func examOutlook(k *examKafka, partitions int) string {
	return fmt.Sprintf(`{"rate":200,"partitions":{%q:%d,%q:%d}`, k.live, partitions, k.backfill, partitions)
}

// examAllPartitions is what a leader sends to a member that gets everything.
func examAllPartitions(k *examKafka) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.Version, a.UserData = 1, []byte(examOutlook(k, examPartitions)+"}")
	for _, topic := range []string{k.live, k.backfill} {
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic = topic
		for p := range int32(examPartitions) {
			t.Partitions = append(t.Partitions, p)
		}
		a.Topics = append(a.Topics, t)
	}
	return a.AppendTo(nil)
}

// examIntruders are ten kinds of metadata that no worker writes.
func examIntruders(k *examKafka) [][]byte {
	around := func(userData string) []byte {
		s := kmsg.NewConsumerMemberMetadata()
		s.Version, s.Topics, s.UserData = 1, []string{k.live}, []byte(userData)
		return s.AppendTo(nil)
	}
	ours := examOutlook(k, examPartitions)
	return [][]byte{
		nil,
		[]byte("\x00\x01\x00\x00\x00\x02\xff\xfd garbage \x80\x1b[31m"),
		around(ours + "}")[:40],
		{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'a', 0x7f, 0xff, 0xff, 0xff},
		around(ours + `,"owned":[0` + strings.Repeat(",0", 50_000) + `]}`), // with three of 300 KB Kafka can't store the group
		around(`{"rate":"200","partitions":["mark-read",4]}`),
		around(`{"version":2,"quota":{"rate":200}}`),
		around("\x00\x00\x00\x01\x00\x09mark-read\x00\x00\x00\x01\x00\x00\x00\x00"),
		around(`{"rate":2000000000,"partitions":{"mark-read":-4},"owned":[-1],"generation":2147483647}`),
		around(examOutlook(k, examPartitions-1) + "}"),
	}
}

// TestExamWorkersIntruders: thirty members of ten kinds that are no workers join the group of two
// workers under load. Both call again soon, and never more than the rate. Then one of them leads
// the group and gives everything to everybody: nobody calls until it has left.
func TestExamWorkersIntruders(t *testing.T) {
	t.Parallel()
	quiet := 30 * time.Second
	if testing.Short() {
		quiet = 5 * time.Second
	}
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := examStartCrew(t, k, im, 200, 1200)
	a, b := c.start(t, "a"), c.start(t, "b")
	c.shared(t, 30*time.Second)

	var all []*examIntruder
	for range 3 {
		for _, metadata := range examIntruders(k) {
			all = append(all, examStartIntruder(t, k, metadata))
		}
	}
	examWait(t, "all intruders are members", 30*time.Second, func() bool {
		for _, i := range all {
			if !i.member.Load() {
				return false
			}
		}
		return true
	})
	again := c.shared(t, 30*time.Second)
	joins := len(a.joins()) + len(b.joins())
	<-time.After(quiet)
	examCheck(t, len(a.joins())+len(b.joins()) == joins, "%d more rebalances in %v", len(a.joins())+len(b.joins())-joins, quiet)
	named := strings.Count(strings.Join(append(a.stderr.lines(), b.stderr.lines()...), "\n"), "a member of the group is ignored")
	examCheck(t, named >= 30 && named <= 60, "%d lines in the logs name 30 intruders", named)
	var leaving sync.WaitGroup
	for _, i := range all {
		leaving.Go(i.leave)
	}
	leaving.Wait()
	c.shared(t, 30*time.Second)

	a.stop(t, syscall.SIGTERM, examStopLimit)
	b.stop(t, syscall.SIGTERM, examStopLimit)
	leader := examStartIntruder(t, k, nil)
	examWait(t, "an intruder leads", 30*time.Second, leader.leads.Load)
	a, b = c.start(t, "a"), c.start(t, "b")
	hold := a.held(t, "quota", 30*time.Second)
	b.held(t, "quota", 30*time.Second)
	<-time.After(10 * time.Second)
	calls := im.countOf(t, a.account) + im.countOf(t, b.account)
	leader.leave()
	back := c.shared(t, 30*time.Second)

	c.endLoad(t)
	arrivals, repeated := c.end(t)
	examFigure(t, "workers-intruders", "30 intruders: both workers call again after %v; a leader that gives everything to everybody: %d calls (%q), both call %v after it has left; %d answered calls repeated; %v",
		again, calls, hold.Detail, back, repeated, examMeasure(arrivals))
	examCheck(t, calls == 0, "%d calls while an intruder led the group", calls)
	examCheck(t, repeated == 0, "%d answered calls were repeated although nobody was killed", repeated)
}
