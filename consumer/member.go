package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// member is this process as a member of the group.
//
// It implements the group protocol itself, with kafka-go's requests. kafka.ConsumerGroup ends a
// generation after a single failed heartbeat, and loses the member's id when a connection breaks
// during a join, so that the group waits one session timeout for the dead member. When connections
// break every second, it never makes progress.
type member struct {
	client  *kafkaclient.Client
	options GroupOptions
	log     zerolog.Logger
	id      string // from the coordinator, kept across generations; "": none yet

	owned          []int // partition numbers in the last generation
	lastGeneration int32 // its number

	// how long it waits before it rejoins because its partition counts now match the leader's
	rejoinDelay time.Duration
	ignored     map[string]mismatch // on the leader: members without partitions, by member id
}

// joinResult is what a member knows after it has joined a generation.
type joinResult struct {
	generation  int32
	assigned    []event.TopicPartition
	terms       quotaTerms // the member's own, sent with the join
	leaderTerms quotaTerms // the leader used them to assign
	mismatch    mismatch   // why nothing is assigned; zero: the terms agree
	leader      bool       // this member is the leader
	proof       time.Time  // when the request was sent whose response proved membership
}

const protocolName = "markread"

// join makes one attempt to join the group: it waits for the other members, assigns the partitions
// if this member is the leader, and waits for the leader's assignment.
func (m *member) join(ctx context.Context) (joinResult, error) {
	terms, err := m.terms(ctx)
	if err != nil {
		return joinResult{}, fmt.Errorf("list the partitions: %w", err)
	}
	response, err := m.joinGroup(ctx, terms)
	if errors.Is(err, kafkaclient.MemberIDRequired) { // the coordinator has assigned our id
		response, err = m.joinGroup(ctx, terms)
	}
	if err != nil {
		return joinResult{}, fmt.Errorf("join: %w", err)
	}
	j := joinResult{generation: response.Generation, terms: terms, leader: response.Leader == m.id}
	var assignments map[string]kafkaclient.Assignment
	if j.leader {
		assignments = m.lead(terms, response.Members)
	}
	if err := m.sync(ctx, assignments, &j); err != nil {
		return joinResult{}, fmt.Errorf("sync: %w", err)
	}
	if response.Leader == "" { // only when the brokers assign (KIP-848)
		unsupported := &UnsupportedGroupError{Group: m.options.Group, Kind: consumerKind}
		j.assigned, j.mismatch = nil, mismatch{unsupported.reason(), unsupported.Do()}
	}
	m.owned, m.lastGeneration = nil, j.generation
	for _, p := range j.assigned {
		m.owned = append(m.owned, p.Partition)
	}
	slices.Sort(m.owned)
	m.owned = slices.Compact(m.owned)
	return j, nil
}

// topicGoneAfter is how long a topic must be missing until it counts as deleted and the member
// joins without it. A broker may report a topic as missing for a moment.
const topicGoneAfter = 5 * time.Second

// terms returns this member's current quota terms. It retries while a topic is missing or the
// request fails, for topicGoneAfter.
func (m *member) terms(ctx context.Context) (quotaTerms, error) {
	began := time.Now()
	for wait := kafkaclient.NewBackoff(); ; {
		terms, err := currentTerms(ctx, m.client, m.options)
		if err == nil && (!terms.misses() || time.Since(began) > topicGoneAfter) {
			return terms, nil
		}
		m.client.RefreshMetadata()
		if err != nil && time.Since(began) > topicGoneAfter || !wait.Sleep(ctx) {
			return terms, cmp.Or(err, context.Cause(ctx))
		}
	}
}

// joinGroup sends one JoinGroup request, and keeps the member id of the response.
func (m *member) joinGroup(ctx context.Context, terms quotaTerms) (kafkaclient.JoinResponse,
	error) {
	response, err := m.client.JoinGroup(ctx, kafkaclient.JoinRequest{
		Group: m.options.Group, Member: m.id, Protocol: protocolName,
		Topics: m.options.Topics.Consumed(),
		UserData: memberData{quotaTerms: terms, Owned: m.owned,
			Generation: m.lastGeneration}.userData(),
		RebalanceTimeout: rebalanceTimeout,
	})
	if err == nil || errors.Is(err, kafkaclient.MemberIDRequired) {
		m.id = response.Member
	}
	if err != nil {
		m.handleError(err)
	}
	return response, err
}

// handleError forgets an unknown member id, and refreshes stale metadata, after a failed group
// request.
func (m *member) handleError(err error) {
	if errors.Is(err, kafkaclient.UnknownMemberID) {
		m.id = ""
	}
	if kafkaclient.StaleMetadata(err) {
		m.client.RefreshMetadata()
	}
}

// sync sends the assignments to the coordinator, on the leader, and stores this member's own in j.
// It retries when the connection breaks: the coordinator responds the same way even if the
// generation has begun meanwhile.
func (m *member) sync(ctx context.Context, assignments map[string]kafkaclient.Assignment,
	j *joinResult) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaclient.SessionTimeout)
	defer cancel()
	us := kafkaclient.Member{Group: m.options.Group, Generation: j.generation, ID: m.id}
	for wait := kafkaclient.NewBackoff(); ; {
		j.proof = time.Now()
		assignment, err := m.client.SyncGroup(ctx, us, protocolName, assignments)
		if err == nil {
			j.accept(assignment)
			return nil
		}
		m.handleError(err)
		if kafkaclient.Code(err) != "network" || !wait.Sleep(ctx) {
			return err
		}
	}
}

// lead assigns the partitions to the members that published the same quota terms. The others get
// none.
func (m *member) lead(terms quotaTerms,
	members []kafkaclient.GroupMember) map[string]kafkaclient.Assignment {
	var agreed []candidate
	others := map[string]mismatch{}
	for _, other := range members {
		data, err := decodeMember(other.Metadata)
		switch {
		case err != nil:
			others[other.ID] = mismatch{err.Error(), otherProgram}
		case !data.equal(terms):
			others[other.ID] = mismatch{data.mismatch(terms), sameFlags}
		default:
			agreed = append(agreed, candidate{other.ID, data})
		}
	}
	m.logIgnored(others)
	numbers := assign(terms, agreed, m.options.Share)
	for id := range others {
		numbers[id] = nil
	}
	assignments := map[string]kafkaclient.Assignment{}
	for id, owned := range numbers {
		assignment := kafkaclient.Assignment{UserData: encode(terms)}
		for _, p := range terms.all() {
			if _, has := slices.BinarySearch(owned, p.Partition); has {
				assignment.Partitions = append(assignment.Partitions, p)
			}
		}
		assignments[id] = assignment
	}
	return assignments
}

// leave removes this member from the group, so that the others need not wait for its session to
// expire. It also ends a join in flight. It tries for leaveTimeout.
func (m *member) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	for wait := kafkaclient.NewBackoff(); m.id != ""; {
		err := m.client.LeaveGroup(ctx, m.options.Group, m.id)
		if err == nil || errors.Is(err, kafkaclient.UnknownMemberID) {
			return
		}
		m.handleError(err)
		if !wait.Sleep(ctx) {
			m.log.Warn().Err(err).Msg("could not leave the group; the coordinator removes " +
				"this member when its session expires")
			return
		}
	}
}
