package kafkaclient

import (
	"context"
	"fmt"
	"markread/consumer/event"
	"markread/consumer/offsets"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// kafka-go's own messages for these two requests have the error code and the throttle time of the answer in
// the wrong order, so that no error is ever seen; and its heartbeat goes to any broker, not to the group's
// coordinator. Registering ours replaces them in the process: kafka.Client.Heartbeat and LeaveGroup must not
// be used. Its list of groups asks all brokers, and not for their states and types: ours asks the
// one that would know the group.
func init() {
	protocol.Register(&HeartbeatRequest{}, &HeartbeatResponse{})
	protocol.Register(&LeaveRequest{}, &LeaveResponse{})
	protocol.Register(&listRequest{}, &ListResponse{})
}

type HeartbeatRequest struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	GroupID         string `kafka:"min=v0,max=v4"`
	GenerationID    int32  `kafka:"min=v0,max=v4"`
	MemberID        string `kafka:"min=v0,max=v4"`
	GroupInstanceID string `kafka:"min=v3,max=v4,nullable"`
}

func (*HeartbeatRequest) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

// Group makes the transport send it to the group's coordinator.
func (r *HeartbeatRequest) Group() string { return r.GroupID }

type HeartbeatResponse struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	ThrottleTimeMs int32 `kafka:"min=v1,max=v4"`
	ErrorCode      int16 `kafka:"min=v0,max=v4"`
}

func (*HeartbeatResponse) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

type LeaveRequest struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	GroupID  string          `kafka:"min=v0,max=v4"`
	MemberID string          `kafka:"min=v0,max=v2"`
	Members  []LeavingMember `kafka:"min=v3,max=v4"`
}

type LeavingMember struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	MemberID        string `kafka:"min=v3,max=v4"`
	GroupInstanceID string `kafka:"min=v3,max=v4,nullable"`
}

func (*LeaveRequest) ApiKey() protocol.ApiKey { return protocol.LeaveGroup }
func (r *LeaveRequest) Group() string         { return r.GroupID }

// Prepare is called with the version that the broker understands.
func (r *LeaveRequest) Prepare(version int16) {
	if version < 3 && len(r.Members) > 0 {
		r.MemberID = r.Members[0].MemberID
	}
}

type LeaveResponse struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	ThrottleTimeMs int32        `kafka:"min=v1,max=v4"`
	ErrorCode      int16        `kafka:"min=v0,max=v4"`
	Members        []leftMember `kafka:"min=v3,max=v4"`
}

type leftMember struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	MemberID        string `kafka:"min=v3,max=v4"`
	GroupInstanceID string `kafka:"min=v3,max=v4,nullable"`
	ErrorCode       int16  `kafka:"min=v3,max=v4"`
}

func (*LeaveResponse) ApiKey() protocol.ApiKey { return protocol.LeaveGroup }

func (r *LeaveResponse) Codes() []int16 {
	var codes []int16
	for _, m := range r.Members {
		codes = append(codes, m.ErrorCode)
	}
	return codes
}

type listRequest struct {
	_ struct{} `kafka:"min=v0,max=v2"` // kafka-go takes the range of versions from the request's fields
	_ struct{} `kafka:"min=v3,max=v5,tag"`

	States []string `kafka:"min=v4,max=v5"` // none: all
	Types  []string `kafka:"min=v5,max=v5"` // none: all

	group string
}

// NewListRequest asks the coordinator of the group for the groups that it coordinates.
func NewListRequest(group string) *listRequest { return &listRequest{group: group} }

func (*listRequest) ApiKey() protocol.ApiKey { return protocol.ListGroups }

// Group makes the transport send it to the group's coordinator, which lists those that it coordinates.
func (r *listRequest) Group() string { return r.group }

type ListResponse struct {
	_ struct{} `kafka:"min=v3,max=v5,tag"`

	ThrottleTimeMs int32         `kafka:"min=v1,max=v5"`
	ErrorCode      int16         `kafka:"min=v0,max=v5"`
	Groups         []ListedGroup `kafka:"min=v0,max=v5"`
}

type ListedGroup struct {
	_ struct{} `kafka:"min=v3,max=v5,tag"`

	GroupID      string `kafka:"min=v0,max=v5"`
	ProtocolType string `kafka:"min=v0,max=v5"`
	State        string `kafka:"min=v4,max=v5"`
	Type         string `kafka:"min=v5,max=v5"` // "classic" is ours
}

func (*ListResponse) ApiKey() protocol.ApiKey { return protocol.ListGroups }

var (
	_ protocol.GroupMessage    = (*HeartbeatRequest)(nil)
	_ protocol.GroupMessage    = (*LeaveRequest)(nil)
	_ protocol.GroupMessage    = (*listRequest)(nil)
	_ protocol.PreparedMessage = (*LeaveRequest)(nil)
)

// SessionTimeout is how long after its last heartbeat a member is given up.
const SessionTimeout = 15 * time.Second

// CommittedOffsets returns what a group has committed, an offset of -1 for nothing.
//
// The answer has errors in two places, and an error looks like "nothing committed" to who does not look.
func (c *Client) CommittedOffsets(ctx context.Context, group string, partitions []event.TopicPartition) (map[event.TopicPartition]offsets.Commit, error) {
	committed := map[event.TopicPartition]offsets.Commit{}
	if len(partitions) == 0 {
		return committed, nil // without partitions the request would ask for all
	}
	topics := map[string][]int{}
	for _, tp := range partitions {
		topics[tp.Topic] = append(topics[tp.Topic], tp.Partition)
	}
	response, err := c.API().OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: topics})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return nil, Plain(err)
	}
	for topic, partitions := range response.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return nil, fmt.Errorf("%s/%d: %w", topic, p.Partition, Plain(p.Error))
			}
			committed[event.TopicPartition{Topic: topic, Partition: p.Partition}] = offsets.Commit{Offset: p.CommittedOffset, Metadata: p.Metadata}
		}
	}
	for _, tp := range partitions {
		if _, ok := committed[tp]; !ok {
			return nil, fmt.Errorf("%s/%d: not in the answer", tp.Topic, tp.Partition)
		}
	}
	return committed, nil
}
