package consumer

import (
	"context"
	"errors"
	"time"

	"markread/consumer/kafkaclient"
)

const (
	// for new partitions, and for ends of logs that are not fetched from
	watchInterval = 10 * time.Second
	// with a leader that counts other partitions: it doubles from watchInterval
	maxRejoinDelay = 5 * time.Minute
)

// heartbeats sends a heartbeat every second until ctx ends: after serve has returned, so that the
// session survives the drain. A response proves our membership, also "rebalance in progress": only
// a member gets it, and it keeps the session alive. After another failure the next heartbeat may
// find the coordinator, as long as the session lasts.
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
			// at once: what waits for a connection must not be sent any more
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

func (g *Generation) setProof(sent time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proof = sent
}

// watch runs until ctx ends. It keeps the ends of the logs fresh for partitions without room to
// fetch, and calls revoke, so that the group rebalances, on the leader when a topic has another
// number of partitions than it has assigned, and on another member when it counts the leader's
// partitions by now, and did not when it joined. For this it has patience: everybody stops for it,
// and brokers may keep contradicting each other. What another member says that it counts makes
// nobody rebalance: it may say anything.
func (g *Generation) watch(ctx context.Context, j joinResult, options GroupOptions,
	rejoinDelay time.Duration, revoke context.CancelCauseFunc) {
	began := time.Now()
	for differs := 0; kafkaclient.Sleep(ctx, watchInterval); {
		for _, p := range g.partitions {
			p.mu.Lock()
			fresh := time.Since(p.rangeAt) < watchInterval
			p.mu.Unlock()
			if fresh { // by a fetch
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
			if differs++; differs == 2 { // twice, so that one odd answer does not stop everybody
				revoke(errPartitionCount)
				return
			}
		}
	}
}
