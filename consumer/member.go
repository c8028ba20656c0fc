package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	consumerapi "github.com/segmentio/kafka-go/protocol/consumer"
	syncapi "github.com/segmentio/kafka-go/protocol/syncgroup"
)

// member is this process in the group.
//
// It speaks the group protocol itself, over kafka-go's requests, because kafka.ConsumerGroup gives up its
// place too easily: a single failed heartbeat ends a generation, and a connection that breaks within a join
// loses the member's id, so that the group waits a session for the ghost. With connections that break every
// second it never gets anywhere.
type member struct {
	client  *Client
	options GroupOptions
	log     zerolog.Logger
	id      string // given by the coordinator, kept from one generation to the next; "": none yet

	owned []int // partition numbers of the last generation
	last  int32 // its number

	patience time.Duration // on the leader: until it asks a member again that sees other partitions; 0: none does
}

// joined is what a member knows when it has joined a generation.
type joined struct {
	generation int32
	assigned   []TopicPartition
	outlook    outlook   // that it joined with
	leaders    outlook   // by which the leader has assigned
	leader     bool      // it is the leader
	behind     bool      // on the leader: a member has another number of partitions of the same topics
	proof      time.Time // when the request was sent whose answer showed that we belong to it
}

const (
	protocolType = "consumer"
	protocolName = "markread"
)

// join joins the group, once: it waits for the others to join, assigns the partitions if it is the leader,
// and waits for what the leader has assigned.
func (m *member) join(ctx context.Context) (joined, error) {
	o, err := m.look(ctx)
	if err != nil {
		return joined{}, fmt.Errorf("list the partitions: %w", err)
	}
	response, err := m.joinGroup(ctx, o)
	if errors.Is(err, kafka.MemberIDRequired) { // the coordinator has told us who we are
		response, err = m.joinGroup(ctx, o)
	}
	if err != nil {
		return joined{}, fmt.Errorf("join: %w", err)
	}
	j := joined{generation: int32(response.GenerationID), outlook: o, leader: response.LeaderID == m.id}
	request := &syncapi.Request{
		GroupID: m.options.Group, GenerationID: j.generation, MemberID: m.id, ProtocolType: protocolType, ProtocolName: protocolName,
	}
	if j.leader {
		if request.Assignments, j.behind, err = m.lead(o, response.Members); err != nil {
			return joined{}, fmt.Errorf("assign: %w", err)
		}
	}
	if err := m.sync(ctx, request, &j); err != nil {
		return joined{}, fmt.Errorf("sync: %w", err)
	}
	m.owned, m.last = nil, j.generation
	for _, p := range j.assigned {
		m.owned = append(m.owned, p.Partition)
	}
	slices.Sort(m.owned)
	m.owned = slices.Compact(m.owned)
	return j, nil
}

// topicGone is how long a topic must be missing until it counts as deleted: then the others go on without it. A broker may answer so for a
// moment.
const topicGone = 5 * time.Second

// look finds out what this member goes by.
func (m *member) look(ctx context.Context) (outlook, error) {
	began := time.Now()
	for wait := newWait(); ; {
		o, err := m.client.look(ctx, m.options)
		if err == nil && (!o.misses() || time.Since(began) > topicGone) {
			return o, nil
		}
		m.client.refresh()
		if err != nil && time.Since(began) > topicGone || !wait.sleep(ctx) {
			return o, cmp.Or(err, context.Cause(ctx))
		}
	}
}

// joinGroup sends one join, and keeps the id that the answer gives, or forgets one that is not known.
func (m *member) joinGroup(ctx context.Context, o outlook) (*kafka.JoinGroupResponse, error) {
	api := m.client.api()
	api.Timeout = rebalanceTimeout + requestTimeout // the answer comes when all members have drained and joined
	response, err := api.JoinGroup(ctx, &kafka.JoinGroupRequest{
		GroupID: m.options.Group, MemberID: m.id, SessionTimeout: sessionTimeout, RebalanceTimeout: rebalanceTimeout,
		ProtocolType: protocolType,
		Protocols: []kafka.GroupProtocol{{Name: protocolName, Metadata: kafka.GroupProtocolSubscription{
			Topics: m.options.Topics.consumed(), UserData: encode(memberData{outlook: o, Owned: m.owned, Generation: m.last}),
		}}},
	})
	switch {
	case err != nil:
		m.notice(err)
		return nil, err
	case response.Error == nil, errors.Is(response.Error, kafka.MemberIDRequired):
		m.id = response.MemberID
	default:
		m.notice(response.Error)
	}
	return response, response.Error
}

// notice draws the conclusion from an error of a group request.
func (m *member) notice(err error) {
	if errors.Is(err, kafka.UnknownMemberId) {
		m.id = ""
	}
	if isLayout(err) {
		m.client.refresh()
	}
}

// sync tells the coordinator the assignment, on the leader, and notes our part of it in j. It is sent again when
// the connection breaks: a generation that has begun meanwhile answers with what it was told.
func (m *member) sync(ctx context.Context, request *syncapi.Request, j *joined) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	for wait := newWait(); ; {
		j.proof = time.Now()
		answer, err := m.client.roundTrip(ctx, sessionTimeout, request)
		if err == nil {
			response := answer.(*syncapi.Response)
			if response.ErrorCode != 0 {
				err = kafka.Error(response.ErrorCode)
				m.notice(err)
				return err
			}
			j.assigned, j.leaders, err = decodeAssignment(response.Assignments)
			return err
		}
		m.notice(err)
		if code(err) != "network" || !wait.sleep(ctx) {
			return err
		}
	}
}

// decodeAssignment returns the partitions, sorted by topic and number, and what the leader went by.
func decodeAssignment(b []byte) (assigned []TopicPartition, leaders outlook, err error) {
	var assignment consumerapi.Assignment
	if len(b) == 0 {
		return nil, outlook{}, nil
	}
	if err := protocol.Unmarshal(b, consumerapi.MaxVersionSupported, &assignment); err != nil {
		return nil, outlook{}, err
	}
	for _, t := range assignment.AssignedPartitions {
		for _, p := range t.Partitions {
			assigned = append(assigned, TopicPartition{t.Topic, int(p)})
		}
	}
	slices.SortFunc(assigned, TopicPartition.Compare)
	return assigned, decodeData[outlook](assignment.UserData), nil
}

// lead assigns the partitions to those members that go by the same as we do; the others get none. behind: some of them have not noticed
// new partitions yet, or we have not.
func (m *member) lead(o outlook, members []kafka.JoinGroupResponseMember) (assignments []syncapi.RequestAssignment, behind bool, err error) {
	var agreed []candidate
	var others []string
	for _, other := range members {
		data := decodeData[memberData](other.Metadata.UserData)
		if data.equal(o) {
			agreed = append(agreed, candidate{other.ID, data})
			continue
		}
		others = append(others, other.ID)
		behind = behind || o.stale(data.outlook)
		m.log.Warn().Str("member", other.ID).Int("our_rate", o.Rate).Int("its_rate", data.Rate).
			Any("our_partitions", o.Partitions).Any("its_partitions", data.Partitions).
			Msg("a member of the group goes by another rate or other partitions than we do: it gets no partitions as long as we lead")
	}
	dealt := deal(o, agreed, m.options.Share)
	for _, id := range others {
		dealt[id] = nil
	}
	for id, owned := range dealt {
		assignment := consumerapi.Assignment{Version: consumerapi.MaxVersionSupported, UserData: encode(o)}
		for _, topic := range slices.Sorted(maps.Keys(o.Partitions)) {
			t := consumerapi.TopicPartition{Topic: topic}
			for _, n := range owned {
				if n < o.Partitions[topic] {
					t.Partitions = append(t.Partitions, int32(n))
				}
			}
			if len(t.Partitions) > 0 {
				assignment.AssignedPartitions = append(assignment.AssignedPartitions, t)
			}
		}
		b, err := protocol.Marshal(consumerapi.MaxVersionSupported, assignment)
		if err != nil {
			return nil, false, err
		}
		assignments = append(assignments, syncapi.RequestAssignment{MemberID: id, Assignment: b})
	}
	return assignments, behind, nil
}

// leave takes this member out of the group, so that the others need not wait for its session to end. It also
// ends a join that the coordinator has not answered yet.
func (m *member) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	for wait := newWait(); m.id != ""; {
		err := m.tryLeave(ctx)
		if err == nil || errors.Is(err, kafka.UnknownMemberId) {
			return
		}
		m.notice(err)
		if !wait.sleep(ctx) {
			m.log.Warn().Err(err).Msg("could not leave the group: it will notice when the session times out")
			return
		}
	}
}

func (m *member) tryLeave(ctx context.Context) error {
	answer, err := m.client.roundTrip(ctx, leaveTimeout, &leaveRequest{GroupID: m.options.Group, Members: []leavingMember{{MemberID: m.id}}})
	if err != nil {
		return err
	}
	response := answer.(*leaveResponse)
	for _, code := range append([]int16{response.ErrorCode}, response.codes()...) {
		if code != 0 {
			return kafka.Error(code)
		}
	}
	return nil
}
