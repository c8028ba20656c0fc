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

// View is a letter and what became of it.
type View struct {
	Letter
	Resolution *Resolution // nil: not resolved
	Others     []Letter    // with the same key, oldest first; at most maxOthers, the newest
	More       int         // how many there are besides
}

// Resolution is the record that resolved a letter.
type Resolution struct {
	ID
	Time time.Time
}

const maxOthers = 20

// NotFoundError says why there is no letter of that ID.
type NotFoundError struct {
	ID    ID
	Topic string
	Why   string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no letter %s in topic %q: %s", e.ID, e.Topic, e.Why)
}

// Show reads the partition of a letter; if it is cut short, what became of the letter is not known.
// If there is none of that ID it is a *NotFoundError.
func (s *Store) Show(ctx context.Context, id ID, maxReplays int) (*View, error) {
	extent, err := s.Topic.TopicOffsets(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	missing := func(format string, args ...any) error {
		return &NotFoundError{id, s.Name, fmt.Sprintf(format, args...)}
	}
	if id.Partition >= len(extent.Partitions) {
		return nil, missing("it has %d partitions, the first is 0", len(extent.Partitions))
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
	// First the record, so that the key is known.
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
		return nil, missing("nothing is there that a consumer may see")
	case found.Damage != nil:
		return nil, missing("%v", event.Decode(*found, time.Time{}).Invalid)
	}
	if _, is := event.KindOf(*found); !is {
		if of, state, is := ResolutionOf(*found); is {
			return nil, missing("that record is a resolution: letter %s was %s", of, state)
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
