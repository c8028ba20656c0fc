package consumer

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	heartbeatTimeout = 3 * time.Second  // shorter than a request's: two that hang must not use up the proof
	watchInterval    = 10 * time.Second // for new partitions, and for ends of logs that are not fetched from
)

// heartbeats sends a heartbeat every second until ctx ends. kafka-go sends its own, but stops when the
// generation ends: in the drain that follows nobody would keep the session alive. And it does not tell when
// one was sent, which is what proves our membership. When the coordinator has given us up, revoke is called.
//
// The answer "rebalance in progress" is a proof, too: only a member gets it, and it keeps the session alive.
func (g *Generation) heartbeats(ctx context.Context, revoke func()) {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		sent := time.Now()
		switch err := g.heartbeat(ctx); err {
		case nil:
			g.prove(sent)
		case kafka.RebalanceInProgress:
			g.prove(sent)
			revoke()
		case kafka.UnknownMemberId, kafka.IllegalGeneration, kafka.FencedInstanceID:
			revoke()
		default:
			if ctx.Err() == nil && g.client.thin.ok("heartbeat"+code(err)) {
				g.client.options.Log.Warn().Err(err).Str("group", g.group).Msg("heartbeat failed")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (g *Generation) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	response, err := g.client.api().Heartbeat(ctx, &kafka.HeartbeatRequest{GroupID: g.group, GenerationID: g.id, MemberID: g.member})
	if err != nil {
		return err
	}
	return response.Error
}

func (g *Generation) prove(sent time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proof = sent
}

// watch runs until ctx ends. It keeps the ends of the logs fresh for partitions that have no room to fetch;
// and on the leader (assigned is what it has assigned, nil on others) it calls revoke when a topic has got
// more partitions, because only the leader's rejoin makes a rebalance.
func (g *Generation) watch(ctx context.Context, assigned map[string]int, topics []string, revoke func()) {
	for grown := 0; pause(ctx, watchInterval); {
		for _, p := range g.partitions {
			p.refreshMark(ctx)
		}
		if assigned == nil {
			continue
		}
		all, err := g.client.partitions(ctx, topics)
		if err != nil {
			continue
		}
		counts := map[string]int{}
		more := false
		for _, p := range all {
			counts[p.Topic]++
			more = more || counts[p.Topic] > assigned[p.Topic]
		}
		if !more {
			grown = 0
		} else if grown++; grown == 2 { // twice, so that one odd answer does not stop everybody
			g.client.options.Log.Info().Str("group", g.group).Msg("topics have got more partitions: rebalancing")
			revoke()
			return
		}
	}
}

// refreshMark asks for the end of the log when no fetch has told it lately.
func (p *partition) refreshMark(ctx context.Context) {
	p.mu.Lock()
	fresh := time.Since(p.marked) < watchInterval
	p.mu.Unlock()
	if fresh {
		return
	}
	if _, end, err := p.g.client.bounds(ctx, p.Topic, p.Partition); err == nil {
		p.mark(end)
	}
}
