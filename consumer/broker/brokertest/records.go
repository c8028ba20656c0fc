package brokertest

import (
	"context"
	"fmt"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// ScanAll is Scan, but returns an error if a range could not be read.
func ScanAll(ctx context.Context, c *kafkaclient.Client, offsets kafkaclient.TopicOffsets,
	each func(event.Record) error) error {
	unread, err := c.Scan(ctx, offsets, each)
	if err == nil && len(unread) > 0 {
		err = fmt.Errorf("topic %q, partition %d: %w", offsets.Topic, unread[0].Partition,
			unread[0].Err)
	}
	return err
}

// SameBytes reports whether a and b are equal; nil is not equal to empty.
func SameBytes(a, b []byte) bool { return string(a) == string(b) && (a == nil) == (b == nil) }

// DeadLetter returns a dead letter of the record with all fields set.
func DeadLetter(record event.Record) event.DeadLetter {
	return event.DeadLetter{
		Event: event.Event{
			Lane: event.Backfill, Record: record, EventTime: time.UnixMilli(1_699_999_000_999),
			Replays: 2,
		},
		Class: "exhausted", Code: "http_502", Message: "bad gateway", Attempts: 8, Collapsed: 3,
		Group:    Group,
		FailedAt: time.Date(2026, 1, 2, 4, 5, 6, 7e6, time.FixedZone("", 3600)),
	}
}
