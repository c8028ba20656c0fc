package groupstatus

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"markread/consumer/kafkaclient"
)

// An unreachable broker is one error, however many parts fail because of it.
func TestStatusNamesABrokerOnce(t *testing.T) {
	away := &kafkaclient.UnreachableError{Broker: "kafka:9092", Remedy: "start it",
		Err: errors.New("no such host")}
	l := &Collector{}
	for _, what := range []string{"dead letters", "group", "lag"} {
		l.fail(fmt.Errorf("%s: %w", what, away))
	}
	l.fail(errors.New("another failure"))
	if want := []string{"kafka broker kafka:9092: no such host; start it",
		"another failure"}; !slices.Equal(l.failed, want) {
		t.Errorf("%q", l.failed)
	}
}
