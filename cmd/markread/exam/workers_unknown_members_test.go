//go:build exam && unix

package exam

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

	"markread/cmd/markread/exam/kit"
)

// intruder is a member of the group that is not a worker. As the leader it assigns all partitions
// to every member.
type intruder struct {
	k        *kit.Kafka
	cl       *kgo.Client
	metadata []byte
	member   atomic.Bool
	leads    atomic.Bool
	stop     context.CancelFunc
	done     chan struct{}
}

func startIntruder(t *testing.T, k *kit.Kafka, metadata []byte) *intruder {
	t.Helper()
	cl := k.NewClient(t, kgo.ClientID("intruder"), kgo.MaxVersions(kversion.V3_5_0()),
		kgo.RequestTimeoutOverhead(90*time.Second))
	ctx, stop := context.WithCancel(context.Background())
	i := &intruder{k: k, cl: cl, metadata: metadata, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		defer cl.Close()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for id := ""; ctx.Err() == nil; {
			id = i.runGeneration(ctx, tick.C, id)
			<-tick.C
		}
	}()
	t.Cleanup(i.leave)
	return i
}

func (i *intruder) leave() {
	i.stop()
	<-i.done
}

// runGeneration joins the group and, if that succeeds, stays for one generation. It returns the
// member id for the next join.
func (i *intruder) runGeneration(ctx context.Context, tick <-chan time.Time, id string) string {
	kind, name := "consumer", "markread"
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.MemberID, join.ProtocolType = i.k.Group, id, kind
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 15000, 60000
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
	sync.Group, sync.Generation, sync.MemberID, sync.ProtocolType, sync.Protocol = i.k.Group,
		joined.Generation, id,
		&kind, &name
	leads := joined.LeaderID == id
	for _, m := range joined.Members { // only the leader has them
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = m.MemberID, allPartitions(i.k)
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
		beat.Group, beat.Generation, beat.MemberID = i.k.Group, joined.Generation, id
		if response, err := beat.RequestWith(ctx, i.cl); ctx.Err() == nil &&
			(err != nil || response.ErrorCode != 0) {
			return id
		}
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = i.k.Group, id
	gone := kmsg.NewLeaveGroupRequestMember()
	gone.MemberID = id
	leave.Members = append(leave.Members, gone)
	_, _ = leave.RequestWith(context.WithoutCancel(ctx), i.cl)
	return id
}

// quotaTerms returns the metadata, without its closing brace, that a worker with --rate 200
// publishes for topics with that many partitions.
func quotaTerms(k *kit.Kafka, partitions int) string {
	return fmt.Sprintf(`{"rate":200,"partitions":{%q:%d,%q:%d}`, k.Live, partitions, k.Backfill,
		partitions)
}

// allPartitions returns the assignment of every partition.
func allPartitions(k *kit.Kafka) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.Version, a.UserData = 1, []byte(quotaTerms(k, kit.Partitions)+"}")
	for _, topic := range []string{k.Live, k.Backfill} {
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic = topic
		for p := range int32(kit.Partitions) {
			t.Partitions = append(t.Partitions, p)
		}
		a.Topics = append(a.Topics, t)
	}
	return a.AppendTo(nil)
}

// unknownMetadata returns ten kinds of metadata that no worker writes.
func unknownMetadata(k *kit.Kafka) [][]byte {
	around := func(userData string) []byte {
		s := kmsg.NewConsumerMemberMetadata()
		s.Version, s.Topics, s.UserData = 1, []string{k.Live}, []byte(userData)
		return s.AppendTo(nil)
	}
	ours := quotaTerms(k, kit.Partitions)
	return [][]byte{
		nil,
		[]byte("\x00\x01\x00\x00\x00\x02\xff\xfd garbage \x80\x1b[31m"),
		around(ours + "}")[:40],
		{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'a', 0x7f, 0xff, 0xff, 0xff},
		// three of 300 KB would be too large for Kafka to store the group
		around(ours + `,"owned":[0` + strings.Repeat(",0", 50_000) + `]}`),
		around(`{"rate":"200","partitions":["mark-read",4]}`),
		around(`{"version":2,"quota":{"rate":200}}`),
		around("\x00\x00\x00\x01\x00\x09mark-read\x00\x00\x00\x01\x00\x00\x00\x00"),
		around(`{"rate":2000000000,"partitions":{"mark-read":-4},"owned":[-1],` +
			`"generation":2147483647}`),
		around(quotaTerms(k, kit.Partitions-1) + "}"),
	}
}

// TestExamWorkersIntruders: thirty members of ten kinds that are not workers join the group of two
// workers under load. Both workers soon call again, and never more than the rate. Then an intruder
// leads the group and assigns all partitions to every member: no worker calls until it has left.
func TestExamWorkersIntruders(t *testing.T) {
	t.Parallel()
	quiet := 30 * time.Second
	if testing.Short() {
		quiet = 5 * time.Second
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := kit.StartLoadedGroup(t, k, im, 200, 1200)
	a, b := c.Start(t, "a"), c.Start(t, "b")
	c.WaitShared(t, 30*time.Second)

	var all []*intruder
	for range 3 {
		for _, metadata := range unknownMetadata(k) {
			all = append(all, startIntruder(t, k, metadata))
		}
	}
	kit.Wait(t, "all intruders are members", 30*time.Second, func() bool {
		for _, i := range all {
			if !i.member.Load() {
				return false
			}
		}
		return true
	})
	again := c.WaitShared(t, 30*time.Second)
	joins := len(a.Joins()) + len(b.Joins())
	<-time.After(quiet)
	kit.Check(t, len(a.Joins())+len(b.Joins()) == joins, "%d more rebalances in %v",
		len(a.Joins())+len(b.Joins())-joins, quiet)
	named := strings.Count(strings.Join(append(a.Stderr.Lines(), b.Stderr.Lines()...), "\n"),
		"a member of the group is ignored")
	kit.Check(t, named >= 30 && named <= 60, "%d log lines name 30 intruders", named)
	var leaving sync.WaitGroup
	for _, i := range all {
		leaving.Go(i.leave)
	}
	leaving.Wait()
	c.WaitShared(t, 30*time.Second)

	a.Stop(t, syscall.SIGTERM, kit.StopLimit)
	b.Stop(t, syscall.SIGTERM, kit.StopLimit)
	leader := startIntruder(t, k, nil)
	kit.Wait(t, "an intruder leads", 30*time.Second, leader.leads.Load)
	a, b = c.Start(t, "a"), c.Start(t, "b")
	hold := a.WaitHeld(t, "quota", 30*time.Second)
	b.WaitHeld(t, "quota", 30*time.Second)
	<-time.After(10 * time.Second)
	calls := im.CountBy(t, a.Account) + im.CountBy(t, b.Account)
	leader.leave()
	back := c.WaitShared(t, 30*time.Second)

	c.EndLoad(t)
	arrivals, repeated := c.End(t)
	kit.Figure(t, "workers-intruders",
		"30 intruders: both workers call again after %v; a leader that assigns everything to "+
			"every member: %d calls (%q), both call %v after it has left; %d answered calls "+
			"repeated; %v", again, calls, hold.Detail, back, repeated, kit.MeasureCalls(arrivals))
	kit.Check(t, calls == 0, "%d calls while an intruder led the group", calls)
	kit.Check(t, repeated == 0, "%d answered calls were repeated although nobody was killed",
		repeated)
}
