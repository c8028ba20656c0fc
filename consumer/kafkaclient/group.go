package kafkaclient

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	consumerapi "github.com/segmentio/kafka-go/protocol/consumer"
	"github.com/segmentio/kafka-go/protocol/describegroups"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/syncgroup"

	"markread/consumer/event"
	"markread/consumer/offsets"
)

// SessionTimeout is how long after a member's last heartbeat the coordinator removes it.
const SessionTimeout = 15 * time.Second

const (
	protocolType = "consumer"
	// shorter than RequestTimeout: two that hang must not outlast the proof of membership
	heartbeatTimeout = 3 * time.Second
	leaveTimeout     = 3 * time.Second
)

// Member identifies a member of a group in one generation.
type Member struct {
	Group      string
	Generation int32
	ID         string // assigned by the coordinator; "": none yet
}

// JoinRequest is a member's request to join a group.
type JoinRequest struct {
	Group, Member    string // with Member "", the response has an ID and the error MemberIDRequired
	Protocol         string // by which the leader assigns partitions
	Topics           []string
	UserData         []byte
	RebalanceTimeout time.Duration // how long the coordinator waits for the other members
}

// JoinResponse is the generation that a member has joined.
type JoinResponse struct {
	Generation int32
	Leader     string // "": the brokers assign partitions
	Member     string
	Members    []GroupMember // for the leader only
}

// GroupMember is one member of a group. Its metadata and assignment are bytes that anyone who may
// join the group may have written.
type GroupMember struct {
	ID, Client, Host     string
	Metadata, Assignment []byte
}

// JoinGroup sends one request to join a group. The response arrives when all members have drained
// and joined. The response's Member is set even if the error is MemberIDRequired.
// kafka.Client.JoinGroup is not used: it decodes the metadata of all members, and fails when one is
// malformed.
func (c *Client) JoinGroup(ctx context.Context, r JoinRequest) (joined JoinResponse, err error) {
	metadata, err := protocol.Marshal(consumerapi.MaxVersionSupported, consumerapi.Subscription{
		Version: consumerapi.MaxVersionSupported, Topics: r.Topics, UserData: r.UserData,
	})
	if err != nil {
		return joined, err
	}
	response, err := request[*joingroup.Response](ctx, c, r.RebalanceTimeout+RequestTimeout,
		&joingroup.Request{
			GroupID: r.Group, MemberID: r.Member, ProtocolType: protocolType,
			SessionTimeoutMS:   int32(SessionTimeout.Milliseconds()),
			RebalanceTimeoutMS: int32(r.RebalanceTimeout.Milliseconds()),
			Protocols:          []joingroup.RequestProtocol{{Name: r.Protocol, Metadata: metadata}},
		})
	if err != nil {
		return joined, err
	}
	joined = JoinResponse{Generation: response.GenerationID, Leader: response.LeaderID,
		Member: response.MemberID}
	for _, m := range response.Members {
		joined.Members = append(joined.Members, GroupMember{ID: m.MemberID, Metadata: m.Metadata})
	}
	return joined, BrokerError(response.ErrorCode)
}

// Assignment is what the leader assigns to one member.
type Assignment struct {
	Partitions []event.TopicPartition // sorted by topic and number
	UserData   []byte
}

func (a Assignment) encode() ([]byte, error) {
	topics := map[string][]int32{}
	for _, p := range a.Partitions {
		topics[p.Topic] = append(topics[p.Topic], int32(p.Partition))
	}
	all := consumerapi.Assignment{Version: consumerapi.MaxVersionSupported, UserData: a.UserData}
	for topic, numbers := range topics {
		all.AssignedPartitions = append(all.AssignedPartitions,
			consumerapi.TopicPartition{Topic: topic, Partitions: numbers})
	}
	return protocol.Marshal(consumerapi.MaxVersionSupported, all)
}

// SyncGroup returns the encoded assignment of member m. The group's leader also passes the
// assignments of all members, by member ID.
func (c *Client) SyncGroup(ctx context.Context, m Member, protocolName string,
	all map[string]Assignment) ([]byte, error) {
	r := &syncgroup.Request{
		GroupID: m.Group, GenerationID: m.Generation, MemberID: m.ID,
		ProtocolType: protocolType, ProtocolName: protocolName,
	}
	for id, a := range all {
		encoded, err := a.encode()
		if err != nil {
			return nil, err
		}
		r.Assignments = append(r.Assignments,
			syncgroup.RequestAssignment{MemberID: id, Assignment: encoded})
	}
	response, err := request[*syncgroup.Response](ctx, c, SessionTimeout, r)
	if err != nil {
		return nil, err
	}
	return response.Assignments, BrokerError(response.ErrorCode)
}

// Heartbeat reports to the coordinator that the member is alive.
func (c *Client) Heartbeat(ctx context.Context, m Member) error {
	response, err := request[*heartbeatResponse](ctx, c, heartbeatTimeout,
		&heartbeatRequest{GroupID: m.Group, GenerationID: m.Generation, MemberID: m.ID})
	if err != nil {
		return err
	}
	return BrokerError(response.ErrorCode)
}

// LeaveGroup removes a member from its group.
func (c *Client) LeaveGroup(ctx context.Context, group, member string) error {
	response, err := request[*leaveResponse](ctx, c, leaveTimeout,
		&leaveRequest{GroupID: group, Members: []leavingMember{{MemberID: member}}})
	if err != nil {
		return err
	}
	if response.ErrorCode == 0 && len(response.Members) > 0 {
		response.ErrorCode = response.Members[0].ErrorCode
	}
	return BrokerError(response.ErrorCode)
}

// GroupDescription is a group as its coordinator describes it.
type GroupDescription struct {
	State    string // Kafka's name: Stable, Empty, Dead, and others during a rebalance
	Protocol string // by which partitions are assigned; "" during a rebalance and without members
	Members  []GroupMember
	May      Operations
}

// DescribeGroup requests a group's description from its coordinator, once.
func (c *Client) DescribeGroup(ctx context.Context, group string) (d GroupDescription, err error) {
	response, err := request[*describegroups.Response](ctx, c, RequestTimeout,
		&describegroups.Request{Groups: []string{group}, IncludeAuthorizedOperations: true})
	switch {
	case err != nil:
		return d, err
	case len(response.Groups) != 1:
		return d, fmt.Errorf("the response with the description of one group has %d",
			len(response.Groups))
	}
	g := response.Groups[0]
	d = GroupDescription{State: g.GroupState, Protocol: g.ProtocolData,
		May: Operations(g.AuthorizedOperations)}
	for _, m := range g.Members {
		d.Members = append(d.Members,
			GroupMember{m.MemberID, m.ClientID, m.ClientHost, m.MemberMetadata, m.MemberAssignment})
	}
	return d, BrokerError(g.ErrorCode)
}

// FindGroup searches for a group among groups of all kinds. State and kind are Kafka's names, such
// as "Empty" and "share"; brokers before Kafka 3.8 return no kind.
func (c *Client) FindGroup(ctx context.Context, group string) (state, kind string, ok bool,
	err error) {
	response, err := request[*listResponse](ctx, c, RequestTimeout, &listRequest{group: group})
	if err != nil {
		return "", "", false, err
	}
	i := slices.IndexFunc(response.Groups, func(g listedGroup) bool { return g.GroupID == group })
	if i < 0 {
		return "", "", false, nil
	}
	return response.Groups[i].State, response.Groups[i].Type, true, nil
}

// OffsetCommit is what a group commits for a partition.
type OffsetCommit struct {
	event.TopicPartition
	offsets.Commit
}

// CommitOffsets commits offsets, fenced by member and generation. It returns the coordinator's code
// for each partition, 0 if it was accepted; a partition may be missing. It replaces kafka-go's
// Generation.CommitOffsets, whose connection is closed when the generation ends, and
// Client.OffsetCommit, which writes a leader epoch of 0.
func (c *Client) CommitOffsets(ctx context.Context, m Member,
	commits []OffsetCommit) (map[event.TopicPartition]Error, error) {
	topics := map[string][]offsetcommit.RequestPartition{}
	for _, commit := range commits {
		topics[commit.Topic] = append(topics[commit.Topic], offsetcommit.RequestPartition{
			PartitionIndex:       int32(commit.Partition),
			CommittedOffset:      commit.Offset,
			CommitTimestamp:      -1,
			CommittedLeaderEpoch: -1,
			CommittedMetadata:    commit.Metadata,
		})
	}
	r := &offsetcommit.Request{GroupID: m.Group, GenerationID: m.Generation, MemberID: m.ID,
		RetentionTimeMs: -1}
	for name, partitions := range topics {
		r.Topics = append(r.Topics, offsetcommit.RequestTopic{Name: name, Partitions: partitions})
	}
	response, err := request[*offsetcommit.Response](ctx, c, RequestTimeout, r)
	if err != nil {
		return nil, err
	}
	codes := map[event.TopicPartition]Error{}
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			tp := event.TopicPartition{Topic: t.Name, Partition: int(p.PartitionIndex)}
			codes[tp] = Error(p.ErrorCode)
		}
	}
	return codes, nil
}

// CommittedOffsets returns a group's committed offsets; -1 means that nothing is committed. The
// response has errors in two places, and each could be mistaken for "nothing committed".
func (c *Client) CommittedOffsets(ctx context.Context, group string,
	partitions []event.TopicPartition) (map[event.TopicPartition]offsets.Commit, error) {
	committed := map[event.TopicPartition]offsets.Commit{}
	if len(partitions) == 0 {
		return committed, nil // a request without partitions means all partitions
	}
	topics := map[string][]int{}
	for _, tp := range partitions {
		topics[tp.Topic] = append(topics[tp.Topic], tp.Partition)
	}
	r, err := c.api().OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: topics})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return nil, clarify(err)
	}
	for topic, partitions := range r.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return nil, fmt.Errorf("%s/%d: %w", topic, p.Partition, clarify(p.Error))
			}
			tp := event.TopicPartition{Topic: topic, Partition: p.Partition}
			committed[tp] = offsets.Commit{Offset: p.CommittedOffset, Metadata: p.Metadata}
		}
	}
	for _, tp := range partitions {
		if _, ok := committed[tp]; !ok {
			return nil, fmt.Errorf("%s/%d: missing in the response", tp.Topic, tp.Partition)
		}
	}
	return committed, nil
}
