package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Remedies for a member that gets no partitions, or a leader that assigns none.
const (
	sameFlags = "give all workers of the group the same --rate and the same topics; " +
		"during a rollout this ends when the last of them has restarted"
	otherProgram = "find the program that joins this group and give it another group (a member's " +
		"id begins with its client id); an ACL for Read on the group keeps programs out"
	otherLeader = "find the program that leads this group and stop it (`markread status` lists " +
		"the members, their clients and hosts); this ends when it has left the group"
)

// mismatch is why a member is assigned nothing, and what to do; zero: no mismatch.
type mismatch struct{ why, do string }

const (
	maxReported   = 100 // members that are logged individually in one rebalance
	maxReportedID = 200 // bytes of a member id in the log
)

// logIgnored logs each member that gets no partitions, once for as long as the reason stays the
// same.
func (m *member) logIgnored(ignored map[string]mismatch) {
	lines := 0
	for _, id := range slices.Sorted(maps.Keys(ignored)) {
		other := ignored[id]
		if m.ignored[id] == other {
			continue
		}
		if lines++; lines <= maxReported {
			m.log.Warn().Str("member", id[:min(len(id), maxReportedID)]).
				Str("reason", other.why).Str("do", other.do).
				Msg("a member of the group is ignored: it gets no partitions")
		}
	}
	if lines > maxReported {
		m.log.Warn().Int("members", lines-maxReported).Str("do", otherProgram).
			Msg("more members of the group are ignored than are logged one by one")
	}
	m.ignored = ignored
}

// accept decodes the leader's assignment b to this member and checks it. It stores all of it, or
// nothing and the mismatch: a leader that is a worker assigns only partitions of our topics, each
// once, and only to members with its own quota terms. An invalid assignment is not a failed join:
// another attempt would make the whole group rebalance, and end the same way while that member
// leads.
func (j *joinResult) accept(b []byte) {
	assigned, leaderTerms, err := decodeAssignment(b)
	missing := func(p event.TopicPartition) bool {
		return p.Partition < 0 || p.Partition >= j.terms.Partitions[p.Topic]
	}
	ignored := func(why string) mismatch {
		return mismatch{"the leader's assignment is ignored: " + why, otherLeader}
	}
	switch {
	case len(b) == 0:
		j.mismatch = mismatch{"the group's leader has sent no assignment", otherLeader}
	case err != nil:
		j.mismatch = ignored(err.Error())
	case leaderTerms.Rate != j.terms.Rate:
		j.mismatch = mismatch{fmt.Sprintf("the group's leader uses a rate of %d, "+
			"this worker uses %d", leaderTerms.Rate, j.terms.Rate), sameFlags}
	case !leaderTerms.equal(j.terms):
		j.mismatch = mismatch{"the group's leader sees other topics or partitions than this worker",
			sameFlags}
	case slices.ContainsFunc(assigned, missing):
		j.mismatch = ignored("it has partitions that this worker's topics don't have")
	case len(slices.Compact(slices.Clone(assigned))) < len(assigned):
		j.mismatch = ignored("it has a partition twice")
	default:
		j.assigned = assigned
	}
	j.leaderTerms = leaderTerms
}

// confirm compares this member's assignment with those of the other members, and clears it if they
// conflict. It retries until ctx ends. A leader that is not a worker could assign a partition to
// several members, or send them different rates; their shares would then add up to more than the
// rate.
func (m *member) confirm(ctx context.Context, j *joinResult) error {
	if j.leader || len(j.assigned) == 0 {
		return nil
	}
	const failed = "can't compare this worker's assignment with the other members'; retrying"
	return m.retry(ctx, failed, func() error {
		group, err := m.client.DescribeGroup(ctx, m.options.Group)
		switch {
		case kafkaclient.Denied(err):
			return nil // Read on a group implies Describe; where it does not, trust the leader
		case err != nil:
			return err
		case group.State != "Stable": // the generation is over; the next heartbeat reports that
			return kafkaclient.RebalanceInProgress
		}
		if why := j.conflict(m.id, group.Members); why != "" {
			j.assigned, j.mismatch = nil, mismatch{why, otherLeader}
		}
		return nil
	})
}

// retry calls try until it succeeds. When ctx ends first, it returns the cause. It logs failed with
// each kind of error, at most once in 10 s.
func (m *member) retry(ctx context.Context, failed string, try func() error) error {
	for wait := kafkaclient.NewBackoff(); ; {
		err := try()
		if err == nil {
			return nil
		}
		if kafkaclient.StaleMetadata(err) {
			m.client.RefreshMetadata()
		}
		if ctx.Err() == nil && !errors.Is(err, kafkaclient.RebalanceInProgress) {
			m.client.WarnRepeated(failed+kafkaclient.Code(err)).Err(err).
				Str("group", m.options.Group).Msg(failed)
		}
		if !wait.Sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

// conflict returns why the members together could exceed the rate; "": they can't. Assignments that
// a worker would not accept don't count.
func (j *joinResult) conflict(us string, members []kafkaclient.GroupMember) string {
	for _, other := range members {
		theirs, leaderTerms, err := decodeAssignment(other.Assignment)
		if other.ID == us || err != nil || len(theirs) == 0 {
			continue
		}
		if !leaderTerms.equal(j.terms) {
			return "the group's leader has sent other members a different rate or partitions"
		}
		for _, p := range theirs {
			if slices.Contains(j.assigned, p) {
				return fmt.Sprintf("the group's leader has assigned %s/%d to two members", p.Topic,
					p.Partition)
			}
		}
	}
	return ""
}
