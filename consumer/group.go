package consumer

import (
	"context"
	"time"
)

// GroupOptions says which group to join and how.
type GroupOptions struct {
	Group  string
	Topics Topics
	Rate   int              // the quota that this worker goes by, in calls a second; published to the group's leader
	Now    func() time.Time // the later of our clock and the IM server's, for Decode; nil: time.Now
}

// Consume joins the group and calls serve once for each generation, one at a time, until ctx ends; then it
// leaves the group and returns nil.
//
// The context of serve ends when the generation is revoked or ctx ends. serve then stops taking events,
// drains, commits and returns; the group's rebalance waits for it (at most 60 s).
func (c *Client) Consume(ctx context.Context, options GroupOptions, serve func(ctx context.Context, g *Generation)) error {
	return nil
}
