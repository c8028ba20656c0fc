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

// Fixed, no flags: quota and proof of membership are reckoned with them.
const (
	heartbeatInterval = time.Second
	rebalanceTimeout  = 60 * time.Second

	leaveTimeout = 3 * time.Second
	slowJoin     = 2 * time.Second // a join that takes longer deserves a word
)

// LongestJoin is how long one try to join may take: the other members drain first.
const LongestJoin = rebalanceTimeout + kafkaclient.RequestTimeout + kafkaclient.SessionTimeout

// GroupOptions says which group to join and how.
type GroupOptions struct {
	Group  string
	Topics event.Topics
	// the quota that this worker goes by, in calls a second; published to the group's leader
	Rate int
	// the later of our clock and the IM server's, for Decode; called concurrently; nil: time.Now
	Now func() time.Time
	// called before each try to join: the group's loop turns; nil: nobody watches
	OnJoinAttempt func()

	// Share returns the share of Rate of a member that owns some of all partitions. The leader
	// assigns to so few members that none has partitions and a share of 0, whose events would wait
	// for ever. nil: each member may have partitions.
	Share func(all, owned []event.TopicPartition) int
}

// Consume joins the group and calls serve for each generation, one at a time, until ctx ends; then
// it leaves the group and returns nil.
//
// The context of serve ends when the generation is revoked or ctx ends; context.Cause says why.
// serve then stops taking events, drains, commits and returns: the rebalance waits for it, at most
// 60 s, and so does Consume, without a limit. serve may return earlier, which makes this member
// rejoin. It is also called for a generation without partitions.
//
// Once joined, no failure ends Consume. Before, it returns what only an operator can fix: a
// *RefusedError, a *ForeignGroupError, a missing permission for the group, a group id or session
// timeout that the brokers refuse. Unreachable brokers are waited for. The topics must exist
// (CheckTopics).
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
		if !joined { // later the group is ours, and it is others that have the wrong one
			if err := checkGroupKind(ctx, c, options.Group); err != nil {
				return err
			}
		}
		slow := time.AfterFunc(slowJoin, func() {
			m.log.Info().Msg("waiting to join the group: other members drain, or one that died " +
				"is waited for until its session ends (15 s)")
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
			Msg("can't join the group; trying again")
		wait.Sleep(ctx)
	}
	return nil
}

// fatal reports whether only an operator can mend why a join failed.
func fatal(err error) bool {
	return kafkaclient.IsRefused(err) || kafkaclient.Is(err, kafkaclient.GroupAuthorizationFailed,
		kafkaclient.TopicAuthorizationFailed, kafkaclient.InvalidGroupID,
		kafkaclient.InvalidSessionTimeout)
}

// Why the context of serve ends.
var (
	errRebalance      = errors.New("the group is rebalancing")
	errRemoved        = errors.New("the coordinator has given this member up")
	errSessionExpired = errors.New("no heartbeat was answered for a whole session")
	errPartitionCount = errors.New("the topics have another number of partitions")
	errCountsAgree    = errors.New(
		"this member counts the same partitions as the group's leader by now")
	errServeReturned = errors.New("serve has returned")
	errStopped       = errors.New("stopping")
)

// generation serves one generation.
func (m *member) serveGeneration(parent context.Context, j joinResult,
	serve func(ctx context.Context, g *Generation)) {
	ctx, revoke := context.WithCancelCause(context.WithoutCancel(parent))
	defer revoke(errServeReturned)
	defer context.AfterFunc(parent, func() { revoke(errStopped) })()
	g := newGeneration(m, j)

	// The heartbeats go on through the drain: until serve has returned.
	var background sync.WaitGroup
	defer background.Wait()
	backgroundCtx, endBackground := context.WithCancel(context.WithoutCancel(parent))
	defer endBackground()
	background.Go(func() { g.heartbeats(backgroundCtx, revoke) })

	if err := m.confirm(ctx, &j); err != nil {
		return // revoked before we knew what we may have
	}
	g.mismatch = j.mismatch
	if err := m.prepare(ctx, g, j); err != nil {
		return // revoked before we knew the offsets
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
		kafkaclient.Sleep(parent, heartbeatInterval) // serve gave up by itself: don't spin
	}
}
