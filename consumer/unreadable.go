package consumer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/segmentio/kafka-go"
)

// errBeyond says that an offset lies beyond the end of the log.
var errBeyond = errors.New("beyond the end of the log")

// newUnreadable explains why a partition can't be read at an offset, and what to do about it.
func newUnreadable(offset int64, err error) *Unreadable {
	plain := plainly(err)
	if inner := errors.Unwrap(plain); inner != nil && strings.HasPrefix(plain.Error(), "kafka.(*Client).") {
		plain = inner // without the name of kafka-go's method
	}
	u := &Unreadable{Offset: offset, Reason: plain.Error()}
	var network net.Error
	var leaderless *leaderlessError
	var code kafka.Error
	switch {
	case Denied(err):
		u.Do = "give the user Read on the topic"
	case errors.Is(err, errUnread), errors.Is(err, errUnknown):
		u.Do = "fix the other partitions first, then ask again"
	case errors.Is(err, errBeyond):
		u.Do = "find out whether the topic was recreated or truncated, then set the group's offset" + seeRunbook
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, kafka.RequestTimedOut):
		u.Reason = "its leader does not answer: " + u.Reason
		u.Do = "check the broker that leads the partition: is it frozen, its disk full or slow, the network cut?"
	case errors.As(plain, &leaderless), isLeadership(err):
		u.Do = "start the brokers that have its replicas; kafka-topics.sh --describe --unavailable-partitions lists it"
	case errors.As(err, &code) && code != kafka.InvalidMessage:
		u.Do = "look at the log of the broker that leads the partition"
	case code == 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)):
		u.Do = "check the broker that leads the partition, and the network to it"
	default:
		u.Do = "look at the batch with Kafka's tools; it may be damaged" + seeRunbook
	}
	return u
}

const seeRunbook = " (README.md, Partition unreadable)"

// isLeadership reports whether a broker refused because it does not lead the partition, or can't at the moment.
func isLeadership(err error) bool {
	for _, code := range []kafka.Error{
		kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition,
		kafka.ReplicaNotAvailable, kafka.BrokerNotAvailable, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch,
		kafka.KafkaStorageError,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
