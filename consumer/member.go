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

// member is this process in the group.
//
// It speaks the group protocol itself, over kafka-go's requests, because kafka.ConsumerGroup ends a
// generation after a single failed heartbeat, and loses the member's id when a connection breaks
// within a join, so that the group waits a session for the ghost. With connections that break every
// second it never gets anywhere.
type member struct {
	client  *kafkaclient.Client
	options GroupOptions
	log     zerolog.Logger
	id      string // given by the coordinator, kept from one generation to the next; "": none yet

	owned          []int // partition numbers of the last generation
	lastGeneration int32 // its number

	rejoinDelay time.Duration       // until it rejoins because it counts the leader's partitions
	ignored     map[string]mismatch // on the leader: the members that get no partitions, by id
}

// joined is what a member knows when it has joined a generation.
type joinResult struct {
	generation  int32
	assigned    []event.TopicPartition
	terms       quotaTerms // that it joined with
	leaderTerms quotaTerms // by which the leader has assigned
	mismatch    mismatch   // why it has been assigned nothing; zero: they agree
	leader      bool       // it is the leader
	proof       time.Time  // when the request was sent whose answer showed that we belong to it
}

const protocolName = "markread"

// join joins the group, once: it waits for the others, assigns the partitions if it is the leader,
// and waits for the leader's assignment.
func (m *member) join(ctx context.Context) (joinResult, error) {
	o, err := m.terms(ctx)
	if err != nil {
		return joinResult{}, fmt.Errorf("list the partitions: %w", err)
	}
	response, err := m.joinGroup(ctx, o)
	if errors.Is(err, kafkaclient.MemberIDRequired) { // the coordinator has told us who we are
		response, err = m.joinGroup(ctx, o)
	}
	if err != nil {
		return joinResult{}, fmt.Errorf("join: %w", err)
	}
	j := joinResult{generation: response.Generation, terms: o, leader: response.Leader == m.id}
	var assignments map[string]kafkaclient.Assignment
	if j.leader {
		assignments = m.lead(o, response.Members)
	}
	if err := m.sync(ctx, assignments, &j); err != nil {
		return joinResult{}, fmt.Errorf("sync: %w", err)
	}
	if response.Leader == "" { // only where the brokers assign
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

// topicGone is how long a topic must be missing until it counts as deleted, and the others go on
// without it. A broker may answer so for a moment.
const topicGoneAfter = 5 * time.Second

// terms finds out what this member goes by.
func (m *member) terms(ctx context.Context) (quotaTerms, error) {
	began := time.Now()
	for wait := kafkaclient.NewBackoff(); ; {
		o, err := currentTerms(ctx, m.client, m.options)
		if err == nil && (!o.misses() || time.Since(began) > topicGoneAfter) {
			return o, nil
		}
		m.client.RefreshMetadata()
		if err != nil && time.Since(began) > topicGoneAfter || !wait.Sleep(ctx) {
			return o, cmp.Or(err, context.Cause(ctx))
		}
	}
}

// joinGroup sends one join, and keeps the id that the response gives.
func (m *member) joinGroup(ctx context.Context, o quotaTerms) (kafkaclient.JoinResponse, error) {
	response, err := m.client.JoinGroup(ctx, kafkaclient.JoinRequest{
		Group: m.options.Group, Member: m.id, Protocol: protocolName,
		Topics: m.options.Topics.Consumed(),
		UserData: memberData{quotaTerms: o, Owned: m.owned,
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

// notice draws the conclusion from an error of a group request.
func (m *member) handleError(err error) {
	if errors.Is(err, kafkaclient.UnknownMemberID) {
		m.id = ""
	}
	if kafkaclient.StaleMetadata(err) {
		m.client.RefreshMetadata()
	}
}

// sync gives the coordinator the assignments, on the leader, and notes our own in j. It is sent
// again when the connection breaks: a generation that has begun meanwhile gives the same response.
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

// lead assigns the partitions to those members that go by the same terms; the others get none.
func (m *member) lead(o quotaTerms,
	members []kafkaclient.GroupMember) map[string]kafkaclient.Assignment {
	var agreed []candidate
	others := map[string]mismatch{}
	for _, other := range members {
		data, err := decodeMember(other.Metadata)
		switch {
		case err != nil:
			others[other.ID] = mismatch{err.Error(), otherProgram}
		case !data.equal(o):
			others[other.ID] = mismatch{data.mismatch(o), sameFlags}
		default:
			agreed = append(agreed, candidate{other.ID, data})
		}
	}
	m.logIgnored(others)
	numbers := assign(o, agreed, m.options.Share)
	for id := range others {
		numbers[id] = nil
	}
	assignments := map[string]kafkaclient.Assignment{}
	for id, owned := range numbers {
		assignment := kafkaclient.Assignment{UserData: encode(o)}
		for _, p := range o.all() {
			if _, has := slices.BinarySearch(owned, p.Partition); has {
				assignment.Partitions = append(assignment.Partitions, p)
			}
		}
		assignments[id] = assignment
	}
	return assignments
}

// leave takes this member out of the group, so that the others need not wait for its session to
// end. It also ends a join in flight.
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
			m.log.Warn().Err(err).Msg("could not leave the group: it will notice when the " +
				"session times out")
			return
		}
	}
}
