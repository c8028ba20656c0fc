package consumer

import (
	"context"
	"errors"
	"fmt"
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
}

// joined is what a member knows when it has joined a generation.
type joined struct {
	generation int32
	assigned   []TopicPartition
	counts     map[string]int // on the leader: how many partitions each topic had when it assigned them
	proof      time.Time      // when the request was sent whose answer showed that we belong to it
}

const (
	protocolType = "consumer"
	protocolName = "markread"
)

// join joins the group, once: it waits for the others to join, assigns the partitions if it is the leader,
// and waits for what the leader has assigned.
func (m *member) join(ctx context.Context) (joined, error) {
	response, err := m.joinGroup(ctx)
	if errors.Is(err, kafka.MemberIDRequired) { // the coordinator has told us who we are
		response, err = m.joinGroup(ctx)
	}
	if err != nil {
		return joined{}, fmt.Errorf("join: %w", err)
	}
	j := joined{generation: int32(response.GenerationID)}
	request := &syncapi.Request{
		GroupID: m.options.Group, GenerationID: j.generation, MemberID: m.id, ProtocolType: protocolType, ProtocolName: protocolName,
	}
	if response.LeaderID == m.id {
		if j.counts, request.Assignments, err = m.lead(ctx, response.Members); err != nil {
			return joined{}, fmt.Errorf("assign: %w", err)
		}
	}
	if j.assigned, j.proof, err = m.sync(ctx, request); err != nil {
		return joined{}, fmt.Errorf("sync: %w", err)
	}
	return j, nil
}

// joinGroup sends one join, and keeps the id that the answer gives, or forgets one that is not known.
func (m *member) joinGroup(ctx context.Context) (*kafka.JoinGroupResponse, error) {
	api := m.client.api()
	api.Timeout = rebalanceTimeout + requestTimeout // the answer comes when all members have drained and joined
	response, err := api.JoinGroup(ctx, &kafka.JoinGroupRequest{
		GroupID: m.options.Group, MemberID: m.id, SessionTimeout: sessionTimeout, RebalanceTimeout: rebalanceTimeout,
		ProtocolType: protocolType,
		Protocols: []kafka.GroupProtocol{{Name: protocolName, Metadata: kafka.GroupProtocolSubscription{
			Topics: m.options.Topics.consumed(), UserData: memberData{Rate: m.options.Rate}.encode(),
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

// sync tells the coordinator the assignment, on the leader, and gets our part of it. It is sent again when
// the connection breaks: a generation that has begun meanwhile answers with what it was told.
func (m *member) sync(ctx context.Context, request *syncapi.Request) ([]TopicPartition, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	for wait := newWait(); ; {
		sent := time.Now()
		answer, err := m.client.roundTrip(ctx, sessionTimeout, request)
		if err == nil {
			response := answer.(*syncapi.Response)
			if response.ErrorCode != 0 {
				err = kafka.Error(response.ErrorCode)
				m.notice(err)
				return nil, sent, err
			}
			assigned, err := decodeAssignment(response.Assignments)
			return assigned, sent, err
		}
		m.notice(err)
		if code(err) != "network" || !wait.sleep(ctx) {
			return nil, sent, err
		}
	}
}

func decodeAssignment(b []byte) ([]TopicPartition, error) {
	var assignment consumerapi.Assignment
	if len(b) == 0 {
		return nil, nil
	}
	if err := protocol.Unmarshal(b, consumerapi.MaxVersionSupported, &assignment); err != nil {
		return nil, err
	}
	var assigned []TopicPartition
	for _, t := range assignment.AssignedPartitions {
		for _, p := range t.Partitions {
			assigned = append(assigned, TopicPartition{t.Topic, int(p)})
		}
	}
	slices.SortFunc(assigned, TopicPartition.Compare)
	return assigned, nil
}

// lead assigns the partitions of all the members' topics.
func (m *member) lead(ctx context.Context, members []kafka.JoinGroupResponseMember) (map[string]int, []syncapi.RequestAssignment, error) {
	var topics []string
	var subscribed []subscriber
	for _, other := range members {
		topics = append(topics, other.Metadata.Topics...)
		subscribed = append(subscribed, subscriber{other.ID, other.Metadata.Topics})
		if rate := decodeMemberData(other.Metadata.UserData).Rate; rate != m.options.Rate {
			m.log.Warn().Int("ours", m.options.Rate).Int("theirs", rate).Str("member", other.ID).
				Msg("the members of the group go by different rates: together they may call too often")
		}
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	m.client.use(topics...)
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout-requestTimeout) // the others wait
	defer cancel()
	all, err := m.layout(ctx, topics)
	if err != nil {
		return nil, nil, err
	}
	counts := map[string]int{}
	for _, p := range all {
		counts[p.Topic]++
	}
	var assignments []syncapi.RequestAssignment
	for id, assigned := range assign(subscribed, all) {
		assignment := consumerapi.Assignment{Version: consumerapi.MaxVersionSupported}
		for topic, numbers := range assigned {
			assignment.AssignedPartitions = append(assignment.AssignedPartitions, consumerapi.TopicPartition{Topic: topic, Partitions: numbers})
		}
		b, err := protocol.Marshal(consumerapi.MaxVersionSupported, assignment)
		if err != nil {
			return nil, nil, err
		}
		assignments = append(assignments, syncapi.RequestAssignment{MemberID: id, Assignment: b})
	}
	return counts, assignments, nil
}

// layout returns the partitions of the topics, trying until ctx ends.
func (m *member) layout(ctx context.Context, topics []string) ([]TopicPartition, error) {
	for wait := newWait(); ; {
		all, err := m.client.partitions(ctx, topics)
		if err == nil {
			return all, nil
		}
		m.client.thin.Pass("layout "+code(err), m.log.Warn()).Err(err).Msg("can't list the partitions; trying again")
		if !wait.sleep(ctx) {
			return nil, err
		}
	}
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
