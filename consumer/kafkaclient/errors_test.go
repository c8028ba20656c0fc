package kafkaclient

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// A clarified error has a clearer text, and errors.Is still finds the original.
func TestClarify(t *testing.T) {
	for name, c := range map[string]struct {
		err       error
		is        error
		want, not string
	}{
		"no leader": {protocol.NewErrNoLeader("t", 1), protocol.ErrNoLeader,
			"no leader for the partition: ", "has no leader"},
		"leader not there": {kafka.LeaderNotAvailable, kafka.LeaderNotAvailable,
			"no leader for the partition: ", "[5]"},
		"topic not found": {protocol.NewErrNoTopic("t"), protocol.ErrNoTopic,
			"no broker that leads the partition is known", "not found"},
		"a method's name": {fmt.Errorf("kafka.(*Client).Produce: %w", kafka.LeaderNotAvailable),
			kafka.LeaderNotAvailable, "no leader", "kafka.("},
		"a method's name too": {fmt.Errorf("kafka.(*Client).Fetch: %w", errors.New("EOF")), nil,
			"EOF", "kafka.("},
		"too few replicas": {kafka.NotEnoughReplicas, kafka.NotEnoughReplicas,
			"[19] Not Enough Replicas: fewer replicas are in sync than min.insync.replicas",
			"requiredAcks"},
		"too few at last": {kafka.NotEnoughReplicasAfterAppend,
			kafka.NotEnoughReplicasAfterAppend, "written, but not", ""},
		"no coordinator": {kafka.GroupCoordinatorNotAvailable,
			kafka.GroupCoordinatorNotAvailable, "__consumer_offsets", "returns this error code"},
		"slow": {kafka.RequestTimedOut, kafka.RequestTimedOut, "did not finish",
			"user-specified"},
		"may not": {kafka.TopicAuthorizationFailed, kafka.TopicAuthorizationFailed,
			kafka.TopicAuthorizationFailed.Error(), ""},
	} {
		got := clarify(c.err)
		if text := got.Error(); !strings.Contains(text, c.want) || c.not != "" &&
			strings.Contains(text, c.not) {
			t.Errorf("%s: %v", name, got)
		}
		if c.is != nil && !errors.Is(got, c.is) {
			t.Errorf("%s: %v is not %v any more", name, got, c.is)
		}
	}
	if err := clarify(nil); err != nil {
		t.Error(err)
	}
	if err := BrokerError(0); err != nil {
		t.Error(err)
	}
}
