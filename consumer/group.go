package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// These are constants, not flags: the quota and the proof of membership depend on them.
const (
	heartbeatInterval = time.Second
	rebalanceTimeout  = 60 * time.Second

	leaveTimeout = 3 * time.Second
	slowJoin     = 2 * time.Second // a join that takes longer is logged
)

// LongestJoin is how long one attempt to join may take: the other members drain first.
const LongestJoin = rebalanceTimeout + kafkaclient.RequestTimeout + kafkaclient.SessionTimeout

// GroupOptions configures Consume: which group to join, and how.
type GroupOptions struct {
	Group  string
	Topics event.Topics
	// the group's quota in calls a second, as this worker is configured; published to the leader
	Rate int
	// the later of this machine's clock and the IM server's, for Decode; called concurrently; nil:
	// time.Now
	Now func() time.Time
	// called before each attempt to join, as a sign of progress; may be nil
	OnJoinAttempt func()

	// Share returns the share of Rate, in calls a second, for a member that owns the partitions
	// owned of all. The leader assigns partitions to so few members that each of them has a share
	// above 0; events in a partition whose owner has a share of 0 would wait forever. nil: every
	// member may have partitions.
	Share func(all, owned []event.TopicPartition) int
}

// Consume joins the group and calls serve for each generation, one at a time, until ctx ends. Then
// it leaves the group and returns nil.
//
// The context of serve ends when the generation is revoked or ctx ends; context.Cause returns the
// reason. serve must then stop accepting events, drain, commit and return. The rebalance waits for
// it for at most 60 s; Consume waits without a limit. serve may return earlier; this member then
// rejoins. serve is also called for a generation without partitions.
//
// After the first join no failure ends Consume. Before it, Consume returns errors that only an
// operator can fix: a *RefusedError, an *UnsupportedGroupError, a missing permission for the group,
// or a group id or session timeout that the brokers refuse. It waits for unreachable brokers. The
// topics must exist (admin.CheckTopics).
func Consume(ctx context.Context, c *kafkaclient.Client, options GroupOptions,
	serve func(ctx context.Context, g *Generation)) error {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.OnJoinAttempt == nil {
		options.OnJoinAttempt = func() {}
	}
	c.UseTopics(append(options.Topics.Consumed(), options.Topics.DeadLetter)...)
	if err := c.WaitForBroker(ctx); kafkaclient.IsRefused(err) {
		return err
	}
	m := &member{client: c, options: options, log: c.Options.Log.With().Str("group", options.Group).
		Logger()}
	defer m.leave()
	joined := false
	for wait := kafkaclient.NewBackoff(); ctx.Err() == nil; {
		options.OnJoinAttempt()
		if !joined { // afterwards the group is ours: the other program uses the wrong one
			if err := checkGroupKind(ctx, c, options.Group); err != nil {
				return err
			}
		}
		slow := time.AfterFunc(slowJoin, func() {
			m.log.Info().Msg("joining the group: waiting for members to drain, or for a dead " +
				"member's session to expire (15 s)")
		})
		j, err := m.join(ctx)
		slow.Stop()
		if err == nil {
			joined, wait = true, kafkaclient.NewBackoff()
			m.serveGeneration(ctx, j, serve)
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if !joined && fatal(err) {
			return kafkaclient.WithPermissionHint(fmt.Errorf("group %q: %w", options.Group, err),
				"--group")
		}
		c.WarnRepeated("join "+kafkaclient.Code(err)).Err(err).Str("group", options.Group).
			Msg("can't join the group; retrying")
		wait.Sleep(ctx)
	}
	return nil
}

// fatal reports whether only an operator can fix the cause of a failed join.
func fatal(err error) bool {
	return kafkaclient.IsRefused(err) || kafkaclient.Is(err, kafkaclient.GroupAuthorizationFailed,
		kafkaclient.TopicAuthorizationFailed, kafkaclient.InvalidGroupID,
		kafkaclient.InvalidSessionTimeout)
}

// The causes with which the context of serve ends.
var (
	errRebalance      = errors.New("the group is rebalancing")
	errRemoved        = errors.New("the coordinator has removed this member from the group")
	errSessionExpired = errors.New("no heartbeat response within the session timeout")
	errPartitionCount = errors.New("the number of partitions has changed")
	errCountsAgree    = errors.New(
		"this member now sees the same partitions as the group's leader")
	errServeReturned = errors.New("serve has returned")
	errStopped       = errors.New("stopping")
)

// serveGeneration runs one generation: heartbeats, the partition watch, and serve.
func (m *member) serveGeneration(parent context.Context, j joinResult,
	serve func(ctx context.Context, g *Generation)) {
	ctx, revoke := context.WithCancelCause(context.WithoutCancel(parent))
	defer revoke(errServeReturned)
	defer context.AfterFunc(parent, func() { revoke(errStopped) })()
	g := newGeneration(m, j)

	// Heartbeats continue through the drain, until serve has returned.
	var background sync.WaitGroup
	defer background.Wait()
	backgroundCtx, endBackground := context.WithCancel(context.WithoutCancel(parent))
	defer endBackground()
	background.Go(func() { g.heartbeats(backgroundCtx, revoke) })

	if err := m.confirm(ctx, &j); err != nil {
		return // revoked before the assignment was confirmed
	}
	g.mismatch = j.mismatch
	if err := m.prepare(ctx, g, j); err != nil {
		return // revoked before the committed offsets were read
	}
	m.rejoinDelay = max(watchInterval, min(2*m.rejoinDelay, maxRejoinDelay))
	if j.terms.equal(j.leaderTerms) {
		m.rejoinDelay = 0
	}
	rejoinDelay := m.rejoinDelay
	background.Go(func() { g.watch(ctx, j, m.options, rejoinDelay, revoke) })
	log := m.log.With().Str("member", g.member.ID).Int32("generation", g.member.Generation).Logger()
	log.Info().Bool("leader", j.leader).Int("assigned", len(g.partitions)).
		Int("partitions", len(g.all)).Msg("joined the group")
	serve(ctx, g)
	g.commitMu.Lock() // waits for a commit in flight
	g.ended = true
	g.commitMu.Unlock()
	revoke(errServeReturned)
	log.Info().Str("cause", context.Cause(ctx).Error()).Msg("the generation has ended")
	if errors.Is(context.Cause(ctx), errServeReturned) {
		kafkaclient.Sleep(parent, heartbeatInterval) // serve returned by itself: don't spin
	}
}
