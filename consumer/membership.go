package consumer

import (
	"context"
	"errors"
	"time"

	"markread/consumer/kafkaclient"
)

const (
	// how often partition counts, and the ends of logs that are not being fetched, are checked
	watchInterval = 10 * time.Second
	// the rejoin delay doubles from watchInterval up to this while the leader's counts differ
	maxRejoinDelay = 5 * time.Minute
)

// heartbeats sends a heartbeat every second until ctx ends. The caller ends it after serve has
// returned, so that the session survives the drain. A response without an error proves
// membership, and so does "rebalance in progress": only members get it, and it keeps the session
// alive. After a failure that does not end the membership, the next heartbeat may still reach the
// coordinator before the session expires.
func (g *Generation) heartbeats(ctx context.Context, revoke context.CancelCauseFunc) {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		sent := time.Now()
		err := g.client.Heartbeat(ctx, g.member)
		switch {
		case err == nil:
			g.setProof(sent)
			continue
		case errors.Is(err, kafkaclient.RebalanceInProgress):
			g.setProof(sent)
			revoke(errRebalance)
			continue
		case kafkaclient.Is(err, kafkaclient.UnknownMemberID, kafkaclient.IllegalGeneration):
			// immediately: calls waiting for a connection must not be sent
			g.setProof(time.Time{})
			revoke(errRemoved)
			continue
		}
		if time.Since(g.LastProof()) > kafkaclient.SessionTimeout {
			revoke(errSessionExpired)
		}
		if kafkaclient.StaleMetadata(err) {
			g.client.RefreshMetadata()
		}
		if ctx.Err() == nil {
			g.client.WarnRepeated("heartbeat "+kafkaclient.Code(err)).Err(err).
				Str("group", g.member.Group).Msg("heartbeat failed")
		}
	}
}

// setProof stores when the last accepted heartbeat was sent; zero: the coordinator has removed this
// member.
func (g *Generation) setProof(sent time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proof = sent
}

// watch runs until ctx ends. It updates the log ranges of partitions that can't be fetched for lack
// of capacity. It calls revoke, so that the group rebalances, in two cases: on the leader, when the
// partition count of a topic differs from the one it assigned; on another member, when its counts
// now match the leader's, and did not when it joined. The second case waits for rejoinDelay,
// because a rebalance stops every member, and brokers may keep contradicting each other. Counts
// that another member publishes never cause a rebalance: they may be forged.
func (g *Generation) watch(ctx context.Context, j joinResult, options GroupOptions,
	rejoinDelay time.Duration, revoke context.CancelCauseFunc) {
	began := time.Now()
	for differs := 0; kafkaclient.Sleep(ctx, watchInterval); {
		for _, p := range g.partitions {
			p.mu.Lock()
			fresh := time.Since(p.rangeAt) < watchInterval
			p.mu.Unlock()
			if fresh { // updated by a fetch
				continue
			}
			if first, end, err := g.client.LogRange(ctx, p.Topic, p.Partition); err == nil {
				p.setLogRange(end, first)
			}
		}
		if !j.leader && (j.terms.equal(j.leaderTerms) || time.Since(began) < rejoinDelay) {
			continue
		}
		now, err := currentTerms(ctx, g.client, options)
		switch {
		case err != nil:
		case !j.leader:
			if now.equal(j.leaderTerms) {
				revoke(errCountsAgree)
				return
			}
		case !now.changedSince(j.terms):
			differs = 0
		default:
			if differs++; differs == 2 { // twice, so that one stale response stops nobody
				revoke(errPartitionCount)
				return
			}
		}
	}
}
