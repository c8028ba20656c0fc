package consumer_test

import (
	"context"
	"fmt"
	"time"

	"markread/consumer"
)

// scanAll is Scan, with what could not be read as an error.
func scanAll(ctx context.Context, c *consumer.Client, extent consumer.Extent, each func(consumer.Record) error) error {
	unread, err := c.Scan(ctx, extent, each)
	if err == nil && len(unread) > 0 {
		err = fmt.Errorf("topic %q, partition %d: %w", extent.Topic, unread[0].Partition, unread[0].Err)
	}
	return err
}

// same is equality that tells null from empty.
func same(a, b []byte) bool { return string(a) == string(b) && (a == nil) == (b == nil) }

func letter(record consumer.Record) consumer.Letter {
	return consumer.Letter{
		Event: consumer.Event{
			Lane: consumer.Backfill, Record: record, EventTime: time.UnixMilli(1_699_999_000_999), Replays: 2,
		},
		Class: "exhausted", Code: "http_502", Message: "bad gateway", Attempts: 8, Collapsed: 3, Group: group,
		FailedAt: time.Date(2026, 1, 2, 4, 5, 6, 7e6, time.FixedZone("", 3600)),
	}
}
