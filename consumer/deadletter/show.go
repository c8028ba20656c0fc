package deadletter

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// View is a dead letter with its context.
type View struct {
	Letter
	Resolution *Resolution // nil: not resolved
	// Others are other dead letters with the same key, oldest first; at most the newest maxOthers.
	Others []Letter
	More   int // number of further ones
}

// Resolution is the record that resolved a dead letter.
type Resolution struct {
	ID
	Time time.Time
}

const maxOthers = 20

// NotFoundError means that there is no dead letter with that ID; Why is the reason.
type NotFoundError struct {
	ID    ID
	Topic string
	Why   string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no dead letter %s in topic %q: %s", e.ID, e.Topic, e.Why)
}

// Show returns a dead letter and its context from its partition. If the partition could be read
// only in part, the state is not reliable: see PartlyRead. If there is no such dead letter, it
// returns a *NotFoundError.
func (s *Store) Show(ctx context.Context, id ID, maxReplays int) (*View, error) {
	extent, err := s.Topic.TopicOffsets(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	missing := func(format string, args ...any) error {
		return &NotFoundError{id, s.Name, fmt.Sprintf(format, args...)}
	}
	if id.Partition >= len(extent.Partitions) {
		return nil, missing("the topic has %d partitions, the first is 0", len(extent.Partitions))
	}
	b := extent.Partitions[id.Partition]
	switch {
	case b.Err != nil:
		return nil, fmt.Errorf("topic %q, partition %d: %w", s.Name, id.Partition, b.Err)
	case b.First >= b.End:
		return nil, missing("partition %d is empty", id.Partition)
	case id.Offset < b.First || id.Offset >= b.End:
		return nil, missing("partition %d has the offsets %d to %d", id.Partition, b.First, b.End-1)
	}
	only := extent
	only.Partitions = make([]kafkaclient.OffsetRange, len(extent.Partitions))
	// Read the record first, to get its key.
	only.Partitions[id.Partition] = kafkaclient.OffsetRange{First: id.Offset, End: id.Offset + 1}
	var found *event.Record
	s.unread = unread{}
	if err := s.scan(ctx, only, func(r event.Record) error { found = &r; return nil }); err != nil {
		return nil, err
	}
	switch r, unread := s.unread.ranges[id.Partition]; {
	case unread:
		return nil, fmt.Errorf("topic %q, partition %d, offset %d: %w", s.Name, id.Partition,
			id.Offset, r.Err)
	case found == nil:
		return nil, missing("no record that a consumer can see has that offset")
	case found.Damage != nil:
		return nil, missing("%v", event.Decode(*found, time.Time{}).Invalid)
	}
	if _, is := event.KindOf(*found); !is {
		if of, state, is := ResolutionOf(*found); is {
			return nil, missing("that record is a resolution: dead letter %s was %s", of, state)
		}
		return nil, missing("markread did not write that record")
	}
	index := NewIndex(maxReplays, Filter{})
	v := &View{}
	only.Partitions[id.Partition] = b
	err = s.scan(ctx, only, func(r event.Record) error {
		if r.Damage != nil {
			return nil
		}
		index.Add(r)
		if of, _, is := ResolutionOf(r); is && of == id && v.Resolution == nil {
			v.Resolution = &Resolution{IDOf(r), r.Time}
		}
		_, is := event.KindOf(r)
		if !is || r.Offset == id.Offset || r.Key == nil || !bytes.Equal(r.Key, found.Key) {
			return nil
		}
		if len(v.Others) == maxOthers {
			v.Others = slices.Delete(v.Others, 0, 1)
			v.More++
		}
		v.Others = append(v.Others, Parse(r, Open))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range v.Others {
		v.Others[i].State, _ = index.State(v.Others[i].ID)
	}
	state, _ := index.State(id)
	v.Letter = Parse(*found, state)
	return v, nil
}
