package stacksim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	session = 15 * time.Second
	// lease is how old a proof of membership may be when a call is made: the session minus the IM
	// timeout minus a second.
	lease = session - imTimeout - time.Second
)

// heartbeats records when the coordinator last heard of each member, and when each worker last had
// a proof of its membership.
type heartbeats struct {
	mu        sync.Mutex
	lastHeard map[string]time.Time // by member
	joining   map[string]*link     // of a member whose join has no response yet
	proof     map[string]time.Time // by worker: when it sent the request that proved its membership
	stale     int                  // calls without a fresh proof
}

func newHeartbeats() *heartbeats {
	return &heartbeats{lastHeard: map[string]time.Time{}, joining: map[string]*link{},
		proof: map[string]time.Time{}}
}

// request is a request of a member.
func (r *heartbeats) request(member string, l *link, joins bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastHeard[member] = time.Now()
	if joins {
		r.joining[member] = l
	}
}

// response is the response to a join, sync or heartbeat.
func (r *heartbeats) response(member string, l *link, joins bool, code int16, sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if joins {
		r.lastHeard[member] = time.Now()
		delete(r.joining, member)
		return
	}
	// only members get REBALANCE_IN_PROGRESS
	if (code == 0 || code == 27) && sent.After(r.proof[l.client]) {
		r.proof[l.client] = sent
	}
}

// called notes a call of a worker.
func (r *heartbeats) called(worker string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.proof[worker]) > lease {
		r.stale++
	}
}

// expired reports whether a real coordinator would have removed a member.
func (r *heartbeats) expired(member string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.joining[member]; l != nil {
		l.mu.Lock()
		dead := l.dead || l.up.end != nil
		l.mu.Unlock()
		if !dead {
			return false
		}
	}
	heard, ok := r.lastHeard[member]
	return ok && time.Since(heard) > session+time.Second
}

// describe returns what is known of a member, for a failure's text.
func (r *heartbeats) describe(member string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard, ok := r.lastHeard[member]
	if !ok {
		return "never heard of"
	}
	text := fmt.Sprintf("heard of %v ago", time.Since(heard).Round(time.Millisecond))
	if l := r.joining[member]; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		text += fmt.Sprintf(", joins over connection %d of %s, dead: %v", l.number, l.client,
			l.dead || l.up.end != nil)
	}
	return text
}

// stuckJoins returns the connections of all members if each has been waiting for the response to
// its join for some seconds.
func (r *heartbeats) stuckJoins(members []kfake.GroupMember) (links []*link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range members {
		l := r.joining[m.MemberID]
		if l == nil || time.Since(r.lastHeard[m.MemberID]) < 5*time.Second {
			return nil
		}
		links = append(links, l)
	}
	return links
}

// reap does what Kafka does and the embedded broker doesn't.
//
// A member whose join response was lost with its connection has a session, too. kfake does not
// expire it: it waits for such a ghost until the rebalance timeout, and restarts that timeout
// whenever another member joins. And kfake does not count a member that joins again while its
// earlier request, a sync, still waits: then all have joined and it waits for them nevertheless.
// reap resolves that as a coordinator's failure would: it forgets the members and cuts their
// connections.
func (s *simulation) reap(ctx context.Context, client *kgo.Client) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		group := s.broker.Cluster().GroupInfo("markread")
		if group == nil {
			continue
		}
		stuckJoins := s.heartbeats.stuckJoins(group.Members)
		if len(stuckJoins) > 0 {
			s.note("rebalances that the broker did not finish", 1)
		}
		for _, m := range group.Members {
			if len(stuckJoins) == 0 && !s.heartbeats.expired(m.MemberID) {
				continue
			}
			leave := kmsg.NewPtrLeaveGroupRequest()
			leave.Group = "markread"
			member := kmsg.NewLeaveGroupRequestMember()
			member.MemberID = m.MemberID
			leave.Members = append(leave.Members, member)
			if _, err := leave.RequestWith(ctx, client); err == nil && len(stuckJoins) == 0 {
				s.note("ghosts that the broker had not removed", 1)
			}
		}
		for _, l := range stuckJoins {
			l.sever(true)
		}
	}
}
