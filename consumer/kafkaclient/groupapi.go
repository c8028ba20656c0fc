package kafkaclient

import (
	"github.com/segmentio/kafka-go/protocol"
)

// kafka-go's own messages for these two requests have the error code and the throttle time of the
// answer in the wrong order, so that no error is ever seen; and its heartbeat goes to any broker,
// not to the group's coordinator. Registering ours replaces them in the process:
// kafka.Client.Heartbeat and LeaveGroup must not be used. Its list of groups asks all brokers, and
// not for their states and types: ours asks the one that would know the group.
func init() {
	protocol.Register(&heartbeatRequest{}, &heartbeatResponse{})
	protocol.Register(&leaveRequest{}, &leaveResponse{})
	protocol.Register(&listRequest{}, &listResponse{})
}

// Later versions of these two have members with fixed ids, which a worker is not. Kafka 4 takes
// version 2.
type heartbeatRequest struct {
	GroupID      string `kafka:"min=v0,max=v2"`
	GenerationID int32  `kafka:"min=v0,max=v2"`
	MemberID     string `kafka:"min=v0,max=v2"`
}

func (*heartbeatRequest) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

// Group makes the transport send it to the group's coordinator.
func (r *heartbeatRequest) Group() string { return r.GroupID }

type heartbeatResponse struct {
	ThrottleTimeMs int32 `kafka:"min=v1,max=v2"`
	ErrorCode      int16 `kafka:"min=v0,max=v2"`
}

func (*heartbeatResponse) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

type leaveRequest struct {
	GroupID  string `kafka:"min=v0,max=v2"`
	MemberID string `kafka:"min=v0,max=v2"`
}

func (*leaveRequest) ApiKey() protocol.ApiKey { return protocol.LeaveGroup }
func (r *leaveRequest) Group() string         { return r.GroupID }

type leaveResponse struct {
	ThrottleTimeMs int32 `kafka:"min=v1,max=v2"`
	ErrorCode      int16 `kafka:"min=v0,max=v2"`
}

func (*leaveResponse) ApiKey() protocol.ApiKey { return protocol.LeaveGroup }

type listRequest struct {
	// kafka-go takes the range of versions from the request's fields
	_ struct{} `kafka:"min=v0,max=v2"`
	_ struct{} `kafka:"min=v3,max=v5,tag"`

	States []string `kafka:"min=v4,max=v5"` // none: all
	Types  []string `kafka:"min=v5,max=v5"` // none: all

	group string
}

func (*listRequest) ApiKey() protocol.ApiKey { return protocol.ListGroups }

// Group makes the transport send it to the group's coordinator, which lists those that it
// coordinates.
func (r *listRequest) Group() string { return r.group }

type listResponse struct {
	_ struct{} `kafka:"min=v3,max=v5,tag"`

	ThrottleTimeMs int32         `kafka:"min=v1,max=v5"`
	ErrorCode      int16         `kafka:"min=v0,max=v5"`
	Groups         []listedGroup `kafka:"min=v0,max=v5"`
}

type listedGroup struct {
	_ struct{} `kafka:"min=v3,max=v5,tag"`

	GroupID      string `kafka:"min=v0,max=v5"`
	ProtocolType string `kafka:"min=v0,max=v5"`
	State        string `kafka:"min=v4,max=v5"`
	Type         string `kafka:"min=v5,max=v5"` // "classic" is ours
}

func (*listResponse) ApiKey() protocol.ApiKey { return protocol.ListGroups }

var _, _, _ protocol.GroupMessage = &heartbeatRequest{}, &leaveRequest{}, &listRequest{}
