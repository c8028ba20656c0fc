package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// Fixed by the design: quota and proof of membership are reckoned with them.
const (
	heartbeatInterval = time.Second
	sessionTimeout    = 15 * time.Second
	rebalanceTimeout  = 60 * time.Second
	joinBackoff       = time.Second

	leaveTimeout = 3 * time.Second // for leaving the group, once nothing is served any more
)

// GroupOptions says which group to join and how.
type GroupOptions struct {
	Group  string
	Topics Topics
	Rate   int              // the quota that this worker goes by, in calls a second; published to the group's leader
	Now    func() time.Time // the later of our clock and the IM server's, for Decode; nil: time.Now
}

// member is one Consume: this process in the group.
type member struct {
	client   *Client
	options  GroupOptions
	serve    func(ctx context.Context, g *Generation)
	balancer *balancer
	conns    conns

	mu   sync.Mutex
	id   string // the member id of the last generation
	busy bool   // within serve
}

// Consume joins the group and calls serve for each generation, one at a time, until ctx ends; then it leaves
// the group and returns nil.
//
// The context of serve ends when the generation is revoked or ctx ends. serve then stops taking events,
// drains, commits and returns: the rebalance waits for it, at most 60 s, and so does the return of Consume,
// without a limit. serve may return earlier, which makes this member rejoin. It is also called for a
// generation without partitions.
//
// Once joined, no failure ends Consume: it logs and tries again. Before, it returns what nobody but an
// operator can mend: ErrAuthentication, a missing permission for the group, a group id or session timeout
// that the brokers refuse. Unreachable brokers are waited for. The topics must exist (CheckTopics).
func (c *Client) Consume(ctx context.Context, options GroupOptions, serve func(ctx context.Context, g *Generation)) error {
	if options.Now == nil {
		options.Now = time.Now
	}
	topics := options.Topics.consumed()
	c.use(topics...)
	if err := c.reach(ctx); err != nil {
		if errors.Is(err, ErrAuthentication) {
			return err
		}
		return nil
	}
	m := &member{client: c, options: options, serve: serve, conns: conns{dial: c.dial}}
	m.balancer = &balancer{
		rate: options.Rate,
		partitions: func() []TopicPartition {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
			defer cancel()
			all, _ := c.partitions(ctx, topics)
			return all
		},
		warn: func(message string) { c.options.Log.Warn().Str("group", options.Group).Msg(message) },
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                options.Group,
		Brokers:           c.options.Brokers,
		Dialer:            c.dialer(m.conns.open),
		Topics:            topics,
		GroupBalancers:    []kafka.GroupBalancer{m.balancer},
		HeartbeatInterval: heartbeatInterval,
		SessionTimeout:    sessionTimeout,
		RebalanceTimeout:  rebalanceTimeout,
		JoinGroupBackoff:  joinBackoff,
		StartOffset:       kafka.FirstOffset,
		Timeout:           requestTimeout,
	})
	if err != nil {
		return fmt.Errorf("group %q: %w", options.Group, err)
	}
	closed := make(chan struct{})
	left := make(chan struct{})
	stop, cancel := context.WithCancel(ctx)
	defer func() { cancel(); <-left }()
	go func() {
		defer close(left)
		<-stop.Done()
		go func() {
			defer close(closed)
			group.Close()
		}()
		m.leave(closed)
	}()
	return m.run(stop, group)
}

// run takes generations until the group is closed. Next must always be called again: the group's own
// goroutine hands it its errors, and waits.
func (m *member) run(ctx context.Context, group *kafka.ConsumerGroup) error {
	log := m.client.options.Log.With().Str("group", m.options.Group).Logger()
	for joined := false; ; {
		generation, err := group.Next(context.Background())
		switch {
		case errors.Is(err, kafka.ErrGroupClosed):
			return nil
		case err != nil:
			if !joined && ctx.Err() == nil && fatal(err) {
				return fmt.Errorf("group %q: %w", m.options.Group, err)
			}
			if m.client.thin.ok("join" + code(err)) {
				log.Warn().Err(err).Msg("can't join the group; trying again")
			}
			continue
		}
		joined = true
		done := make(chan struct{})
		generation.Start(func(ended context.Context) {
			defer close(done)
			m.generation(ctx, ended, generation)
		})
		<-done
	}
}

// fatal reports whether only an operator can mend why a join failed.
func fatal(err error) bool {
	for _, code := range []kafka.Error{
		kafka.GroupAuthorizationFailed, kafka.TopicAuthorizationFailed, kafka.InvalidGroupId, kafka.InvalidSessionTimeout,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return refused(err)
}

// generation serves one generation. As long as it has not returned, the group does not rejoin; and when it
// returns, the generation is over. So it is the only function that a generation is given.
func (m *member) generation(ctx, ended context.Context, from *kafka.Generation) {
	if ended.Err() != nil {
		return // ended before it began: nobody would wait for us
	}
	m.enter(from.MemberID, true)
	defer m.enter(from.MemberID, false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ended, cancel)()

	all, err := m.layout(ctx)
	if err != nil {
		return // revoked before we knew the partitions
	}
	g := newGeneration(m.client, &m.options, from, all)
	log := m.client.options.Log.With().Str("group", g.group).Str("member", g.member).Int32("generation", g.id).Logger()
	log.Info().Int("assigned", len(g.partitions)).Int("partitions", len(g.all)).Msg("joined the group")

	var keepers sync.WaitGroup
	keep, release := context.WithCancel(context.Background())
	keepers.Go(func() { g.heartbeats(keep, cancel) })
	keepers.Go(func() { g.watch(ctx, m.balancer.led(), m.options.Topics.consumed(), cancel) })
	m.serve(ctx, g)
	cancel()
	g.end()
	release()
	keepers.Wait()
	log.Info().Msg("the generation has ended")
}

func (m *member) enter(id string, busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.busy = id, busy
}

func (m *member) serving() (id string, busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, m.busy
}

// layout returns the partitions of the group's topics, trying until ctx ends.
func (m *member) layout(ctx context.Context) ([]TopicPartition, error) {
	for wait := newWait(); ; {
		all, err := m.client.partitions(ctx, m.options.Topics.consumed())
		if err == nil {
			return all, nil
		}
		if m.client.thin.ok("layout" + code(err)) {
			m.client.options.Log.Warn().Err(err).Msg("can't list the partitions; trying again")
		}
		if !wait.sleep(ctx) {
			return nil, context.Cause(ctx)
		}
	}
}

// leave sees to it that the group closes. When a generation is served, that takes as long as serve does, and
// then kafka-go leaves. But it may also be within a join, which takes as long as the other members drain: up
// to rebalanceTimeout. Then we leave ourselves, which has the coordinator answer the join; and if it does not
// even answer that, the connections are cut.
func (m *member) leave(closed <-chan struct{}) {
	idle := 0 * time.Second
	const tick = 100 * time.Millisecond
	for asked := false; ; {
		select {
		case <-closed:
			return
		case <-time.After(tick):
		}
		id, busy := m.serving()
		if busy {
			idle = 0
			continue
		}
		idle += tick
		if idle >= leaveTimeout/3 && !asked && id != "" {
			asked = true
			ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout/3)
			_, _ = m.client.api().LeaveGroup(ctx, &kafka.LeaveGroupRequest{
				GroupID: m.options.Group, Members: []kafka.LeaveGroupRequestMember{{ID: id}},
			})
			cancel()
			idle += leaveTimeout / 3
		}
		if idle >= leaveTimeout {
			m.client.options.Log.Warn().Str("group", m.options.Group).Msg("could not leave the group: it will notice when the session times out")
			m.conns.cut()
			<-closed
			return
		}
	}
}
