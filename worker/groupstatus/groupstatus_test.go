package groupstatus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"markread/consumer/deadletter"
	"markread/consumer/event"
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

// fakeLetters is a dead-letter topic with one partition.
type fakeLetters struct {
	first, end, readable int64
}

func (f *fakeLetters) TopicOffsets(context.Context, string) (kafkaclient.TopicOffsets, error) {
	return kafkaclient.TopicOffsets{Partitions: []kafkaclient.OffsetRange{
		{First: f.first, End: f.end}}}, nil
}

func (f *fakeLetters) Scan(_ context.Context, extent kafkaclient.TopicOffsets,
	each func(event.Record) error) ([]kafkaclient.UnreadRange, error) {
	for offset := extent.Partitions[0].First; offset < min(f.end, f.readable); offset++ {
		err := each(event.Record{Offset: offset, Value: []byte("{}"), Headers: []event.Header{
			{Key: "markread.class", Value: []byte("invalid")}}})
		if err != nil {
			return nil, err
		}
	}
	if f.readable < f.end {
		return []kafkaclient.UnreadRange{{From: f.readable, To: f.end,
			Err: errors.New("checksum")}}, nil
	}
	return nil, nil
}

// Counts of dead letters can be compared unless the topic had to be read from its beginning in
// between, or a part of it can't be read.
func TestReadingsOfDeadLetters(t *testing.T) {
	l, f := NewCollector(Options{MaxReplays: 3}), &fakeLetters{}
	l.store = deadletter.Store{Topic: f, Name: "letters"}
	for _, c := range []struct {
		first, end, readable int64
		reading              int
		open                 int64
	}{
		{0, 4, 9, 1, 4}, {0, 6, 9, 1, 6},
		{0, 8, 7, 0, 7}, // one can't be read
		{0, 8, 9, 1, 8},
		{2, 8, 9, 2, 6}, // retention has deleted two
		{2, 9, 9, 2, 7},
	} {
		f.first, f.end, f.readable = c.first, c.end, c.readable
		if r := l.letters(t.Context()); r.Reading != c.reading || r.Open != c.open {
			t.Errorf("%+v: reading %d, %d open", c, r.Reading, r.Open)
		}
	}
}
