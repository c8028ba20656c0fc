package group

import (
	"context"
	"net/http"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/console"
)

// Group implements console.Workers. Commands and questions are forwarded to a worker only if it is
// on this machine: elsewhere the token would cross the network without TLS. For another worker the
// page shows the command.
var _ console.Workers = (*Group)(nil)

// client returns a client of the worker with this address.
func (g *Group) client(address string) (*console.Client, error) {
	row, ok := g.row(address)
	switch {
	case !ok:
		return nil, &console.Error{Status: http.StatusNotFound,
			Text: "there is no worker with this address"}
	case !row.Controllable:
		return nil, &console.Error{Status: http.StatusConflict, Text: "this console reaches only " +
			"workers of its own machine that respond: use the command on the worker's machine"}
	}
	client, err := console.NewClient("http://"+address, g.Token)
	if err == nil {
		client.HTTP.Transport = &http.Transport{DialContext: g.Dial, DisableKeepAlives: true}
	}
	return client, err
}

// Pause implements console.Workers.
func (g *Group) Pause(ctx context.Context, worker, by, why string) (console.Readiness, error) {
	client, err := g.client(worker)
	if err != nil {
		return console.Readiness{}, err
	}
	return client.Pause(ctx, by, why)
}

// Resume implements console.Workers.
func (g *Group) Resume(ctx context.Context, worker, by string,
	acceptRejections bool) (console.Readiness, error) {
	client, err := g.client(worker)
	if err != nil {
		return console.Readiness{}, err
	}
	return client.Resume(ctx, by, acceptRejections)
}

// Rejected implements console.Workers.
func (g *Group) Rejected(ctx context.Context, worker string) ([]console.RejectedEvent, error) {
	client, err := g.client(worker)
	if err != nil {
		return nil, err
	}
	return client.Rejected(ctx)
}

// Conversation implements console.Workers. Without a worker it asks the owner of the partition to
// which the recommended key leads, if that is on this machine.
func (g *Group) Conversation(ctx context.Context, worker, report, peer string) (console.Conversation,
	error) {
	c := console.Conversation{}
	address := worker
	if worker == "" {
		c, address = g.owner(report, peer)
	}
	if address != "" {
		client, err := g.client(address)
		if err != nil {
			return c, err
		}
		known, err := client.Conversation(ctx, report, peer)
		if err != nil {
			c.Note = err.Error()
		} else {
			c.Here, c.Waiting, c.Applied, c.Note = known.Here, known.Waiting, known.Applied, known.Note
		}
		if worker != "" {
			c.Partition, c.Owner = known.Partition, worker
		}
	}
	letters, err := g.Letters(ctx, report, peer)
	if err != nil {
		return c, err
	}
	c.Letters = letters
	return c, nil
}

// owner returns the partition and the owner of a conversation, and the owner's address if it can be
// asked; otherwise the note says why not.
func (g *Group) owner(report, peer string) (c console.Conversation, address string) {
	g.mu.Lock()
	rows, view := g.rows, g.view
	g.mu.Unlock()
	if view == nil || view.lag == nil || view.lag.Topics[0].Topic != g.Topics.Live {
		c.Note = "the partitions of topic " + g.Topics.Live + " can't be read from Kafka, so the " +
			"conversation's worker is not known"
		return c, ""
	}
	topic := view.lag.Topics[0]
	number := kafkaclient.PartitionOf(event.Key(report, peer), len(topic.Partitions))
	c.Partition = &console.ConversationPartition{Topic: topic.Topic, Partition: number}
	member := topic.Partitions[number].Member
	if member == nil {
		c.Note = "no worker has this partition now"
		return c, ""
	}
	c.Owner = *member
	for _, row := range rows {
		if row.Member != *member {
			continue
		}
		if c.Owner = row.Name; row.Controllable {
			return c, row.Address
		}
	}
	c.Note = "what waits is known only to that worker: see its own console"
	return c, ""
}
