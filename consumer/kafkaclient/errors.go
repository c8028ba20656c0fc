package kafkaclient

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// clarifiedError replaces the text of an error. errors.Is and errors.As find the original.
type clarifiedError struct {
	text string
	err  error
}

func (e *clarifiedError) Error() string { return e.text }
func (e *clarifiedError) Unwrap() error { return e.err }

// Error is one of Kafka's error codes.
type Error = kafka.Error

// The codes that other packages distinguish.
const (
	OffsetOutOfRange             = kafka.OffsetOutOfRange
	UnknownTopicOrPartition      = kafka.UnknownTopicOrPartition
	RequestTimedOut              = kafka.RequestTimedOut
	OffsetMetadataTooLarge       = kafka.OffsetMetadataTooLarge
	GroupLoadInProgress          = kafka.GroupLoadInProgress
	GroupCoordinatorNotAvailable = kafka.GroupCoordinatorNotAvailable
	NotCoordinatorForGroup       = kafka.NotCoordinatorForGroup
	IllegalGeneration            = kafka.IllegalGeneration
	UnknownMemberID              = kafka.UnknownMemberId
	InvalidGroupID               = kafka.InvalidGroupId
	InvalidSessionTimeout        = kafka.InvalidSessionTimeout
	RebalanceInProgress          = kafka.RebalanceInProgress
	TopicAuthorizationFailed     = kafka.TopicAuthorizationFailed
	GroupAuthorizationFailed     = kafka.GroupAuthorizationFailed
	TopicAlreadyExists           = kafka.TopicAlreadyExists
	GroupIDNotFound              = kafka.GroupIdNotFound
	MemberIDRequired             = kafka.MemberIDRequired
)

// Is reports whether err is one of the codes.
func Is(err error, codes ...Error) bool {
	var k Error
	return errors.As(err, &k) && slices.Contains(codes, k)
}

// BrokerError returns a broker's error code as an error; nil for code 0.
func BrokerError(code int16) error {
	if code == 0 {
		return nil
	}
	return clarify(kafka.Error(code))
}

// clarify replaces misleading texts of kafka-go's errors, and removes the names of its methods.
// Call it before anything is added to the error.
func clarify(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(text, "kafka.(*Client).") {
		return clarify(inner)
	}
	var k kafka.Error
	switch {
	case errors.Is(err, protocol.ErrNoLeader), errors.Is(err, kafka.LeaderNotAvailable):
		text = noLeader
	case Leaderless(err): // not only where a topic is missing
		text = "no broker that leads the partition is known, or none can be reached"
	case errors.As(err, &k) && descriptions[k] != "":
		text = fmt.Sprintf("[%d] %s: %s", int(k), k.Title(), descriptions[k])
	default:
		return err
	}
	return &clarifiedError{text, err}
}

const noLeader = "no leader for the partition: the brokers with its replicas are down, or it is " +
	"being moved (kafka-topics --describe --unavailable-partitions)"

// descriptions replace kafka-go's descriptions that describe another request or an option that
// markread does not have, or that don't say what to check.
var descriptions = map[kafka.Error]string{
	kafka.NotLeaderForPartition: "this broker does not lead the partition; a leader that has " +
		"moved is found within seconds",
	kafka.RequestTimedOut: "the brokers did not finish the request in time: one of them is " +
		"overloaded, or frozen",
	kafka.BrokerNotAvailable: "the broker for the request is not available: the group's " +
		"coordinator, or the controller, is down or being moved " +
		"(kafka-topics --describe --unavailable-partitions)",
	kafka.GroupLoadInProgress: "the group's coordinator is still loading the group",
	kafka.GroupCoordinatorNotAvailable: "the group has no coordinator: the topic " +
		"__consumer_offsets does not exist yet, or its partition has no leader " +
		"(kafka-topics --describe --topic __consumer_offsets)",
	kafka.NotCoordinatorForGroup: "the group's coordinator has moved to another broker",
	kafka.NotEnoughReplicas: "fewer replicas are in sync than min.insync.replicas of the topic " +
		"requires: brokers are down, or behind " +
		"(kafka-topics --describe --under-min-isr-partitions)",
	kafka.NotEnoughReplicasAfterAppend: "written, but not to as many replicas as " +
		"min.insync.replicas of the topic requires: brokers are down, or behind " +
		"(kafka-topics --describe --under-min-isr-partitions)",
	kafka.InconsistentGroupProtocol: "the group's members are not workers of markread: it is " +
		"another program's group (--group)",
	kafka.InvalidSessionTimeout: fmt.Sprintf("the brokers allow no session timeout of %v: check "+
		"their group.min.session.timeout.ms and group.max.session.timeout.ms", SessionTimeout),
}

// clarifyLeaderError is clarify for requests to a partition's leader: without a leader, kafka-go
// reports that a broker is not available.
func clarifyLeaderError(err error) error {
	if errors.Is(err, kafka.BrokerNotAvailable) {
		return &clarifiedError{noLeader, err}
	}
	return clarify(err)
}

// Leaderless reports whether kafka-go knows no leader of the partition.
func Leaderless(err error) bool {
	return errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition) ||
		errors.Is(err, protocol.ErrNoLeader)
}
