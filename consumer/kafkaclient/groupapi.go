package kafkaclient

import (
	"github.com/segmentio/kafka-go/protocol"
)

// kafka-go's own Heartbeat and LeaveGroup responses have the error code and the throttle time in
// the wrong order, so that no error is ever seen, and its heartbeat goes to any broker instead of
// the group's coordinator. Registering our messages replaces kafka-go's in the whole process:
// kafka.Client.Heartbeat and LeaveGroup must not be used. kafka-go's ListGroups request goes to all
// brokers and omits the states and types of groups; ours goes to the group's coordinator.
func init() {
	protocol.Register(&heartbeatRequest{}, &heartbeatResponse{})
	protocol.Register(&leaveRequest{}, &leaveResponse{})
	protocol.Register(&listRequest{}, &listResponse{})
}

type heartbeatRequest struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	GroupID         string `kafka:"min=v0,max=v4"`
	GenerationID    int32  `kafka:"min=v0,max=v4"`
	MemberID        string `kafka:"min=v0,max=v4"`
	GroupInstanceID string `kafka:"min=v3,max=v4,nullable"`
}

func (*heartbeatRequest) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

// Group makes the transport send it to the group's coordinator.
func (r *heartbeatRequest) Group() string { return r.GroupID }

type heartbeatResponse struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	ThrottleTimeMs int32 `kafka:"min=v1,max=v4"`
	ErrorCode      int16 `kafka:"min=v0,max=v4"`
}

func (*heartbeatResponse) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

type leaveRequest struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	GroupID  string          `kafka:"min=v0,max=v4"`
	MemberID string          `kafka:"min=v0,max=v2"`
	Members  []leavingMember `kafka:"min=v3,max=v4"`
}

type leavingMember struct {
	_ struct{} `kafka:"min=v4,max=v4,tag"`

	MemberID        string `kafka:"min=v3,max=v4"`
	GroupInstanceID string `kafka:"min=v3,max=v4,nullable"`
}

func (*leaveRequest) ApiKey() protocol.ApiKey { return protocol.LeaveGroup }
func (r *leaveRequest) Group() string         { return r.GroupID }

// Prepare is called with the negotiated version.
func (r *leaveRequest) Prepare(version int16) {
	if version < 3 && len(r.Members) > 0 {
		r.MemberID = r.Members[0].MemberID
	}
}

type leaveResponse struct {
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

func (*leaveResponse) ApiKey() protocol.ApiKey { return protocol.LeaveGroup }

type listRequest struct {
	// kafka-go derives the range of versions from the request's fields
	_ struct{} `kafka:"min=v0,max=v2"`
	_ struct{} `kafka:"min=v3,max=v5,tag"`

	States []string `kafka:"min=v4,max=v5"` // none: all
	Types  []string `kafka:"min=v5,max=v5"` // none: all

	group string
}

func (*listRequest) ApiKey() protocol.ApiKey { return protocol.ListGroups }

// Group makes the transport send it to the group's coordinator, which lists its own groups.
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
	Type         string `kafka:"min=v5,max=v5"` // a worker's group is "classic"
}

func (*listResponse) ApiKey() protocol.ApiKey { return protocol.ListGroups }

var (
	_ protocol.GroupMessage    = (*heartbeatRequest)(nil)
	_ protocol.GroupMessage    = (*leaveRequest)(nil)
	_ protocol.GroupMessage    = (*listRequest)(nil)
	_ protocol.PreparedMessage = (*leaveRequest)(nil)
)
