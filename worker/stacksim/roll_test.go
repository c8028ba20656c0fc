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
	// lease is how old a proof of membership may be when a call is made: the session less the IM
	// timeout less a second.
	lease = session - imTimeout - time.Second
)

// roll knows when the coordinator last heard of each member, and when each worker last had a proof
// of its membership.
type roll struct {
	mu      sync.Mutex
	heard   map[string]time.Time // by member
	joining map[string]*link     // of a member whose join has not been answered
	proof   map[string]time.Time // by worker: when it sent what proved its membership
	stale   int                  // calls without a fresh proof
}

func newRoll() *roll {
	return &roll{heard: map[string]time.Time{}, joining: map[string]*link{},
		proof: map[string]time.Time{}}
}

// sign is a request of a member.
func (r *roll) sign(member string, l *link, joins bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[member] = time.Now()
	if joins {
		r.joining[member] = l
	}
}

// answered is the answer to a join, sync or heartbeat.
func (r *roll) answered(member string, l *link, joins bool, code int16, sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if joins {
		r.heard[member] = time.Now()
		delete(r.joining, member)
		return
	}
	// REBALANCE_IN_PROGRESS is told to members only
	if (code == 0 || code == 27) && sent.After(r.proof[l.owner]) {
		r.proof[l.owner] = sent
	}
}

// called notes a call of a worker.
func (r *roll) called(worker string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.proof[worker]) > lease {
		r.stale++
	}
}

// gone says whether a real coordinator would have given a member up.
func (r *roll) gone(member string) bool {
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
	heard, ok := r.heard[member]
	return ok && time.Since(heard) > session+time.Second
}

// tell says for a person what is known of a member.
func (r *roll) tell(member string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard, ok := r.heard[member]
	if !ok {
		return "never heard of"
	}
	text := fmt.Sprintf("heard of %v ago", time.Since(heard).Round(time.Millisecond))
	if l := r.joining[member]; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		text += fmt.Sprintf(", joins over connection %d of %s, dead: %v", l.number, l.owner,
			l.dead || l.up.end != nil)
	}
	return text
}

// stuck returns the connections of all members when each has been waiting for the answer to its
// join for some seconds.
func (r *roll) stuck(members []kfake.GroupMember) (links []*link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range members {
		l := r.joining[m.MemberID]
		if l == nil || time.Since(r.heard[m.MemberID]) < 5*time.Second {
			return nil
		}
		links = append(links, l)
	}
	return links
}

// reap does what the embedded broker leaves undone and Kafka does.
//
// A member whose answer to a join was lost with its connection has a session, too: without it such
// a ghost is waited for until the rebalance's time is over, and kfake gives that time anew whenever
// another member joins. And a member that joins again while its former request, a sync, still waits
// is not counted by kfake: then all have joined and are waited for nevertheless. That is mended by
// what a coordinator's failure would do: it forgets the members and cuts their connections.
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
		stuck := s.roll.stuck(group.Members)
		if len(stuck) > 0 {
			s.note("rebalances that the broker did not finish", 1)
		}
		for _, m := range group.Members {
			if len(stuck) == 0 && !s.roll.gone(m.MemberID) {
				continue
			}
			leave := kmsg.NewPtrLeaveGroupRequest()
			leave.Group = "markread"
			member := kmsg.NewLeaveGroupRequestMember()
			member.MemberID = m.MemberID
			leave.Members = append(leave.Members, member)
			if _, err := leave.RequestWith(ctx, client); err == nil && len(stuck) == 0 {
				s.note("ghosts that the broker had not given up", 1)
			}
		}
		for _, l := range stuck {
			l.sever(true)
		}
	}
}
