package group

import (
	"context"
	"encoding/json"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Conversation is what is known about one conversation.
type Conversation struct {
	Report    string                   `json:"report"`
	Peer      string                   `json:"peer"`
	Partition *ConversationInPartition `json:"partition"` // nil: the partition count is not known
	Owner     string                   `json:"owner"`     // name of the worker; "": none is known
	Here      bool                     `json:"here"`      // the next two are known
	Waiting   json.RawMessage          `json:"waiting"`
	Applied   json.RawMessage          `json:"applied"`
	Note      string                   `json:"note"`
}

// ConversationInPartition is the partition of the recommended key.
type ConversationInPartition struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
}

// Conversation returns what is known about a conversation: where its events are and, if its worker
// is on this machine, what that worker knows.
func (g *Group) Conversation(ctx context.Context, report, peer string) Conversation {
	c := Conversation{Report: report, Peer: peer, Waiting: json.RawMessage("null"),
		Applied: json.RawMessage("null")}
	g.mu.Lock()
	rows, view := g.rows, g.view
	g.mu.Unlock()
	if view == nil || view.lag == nil || view.lag.Topics[0].Topic != g.Topics.Live {
		c.Note = "Kafka does not report the topic's partitions, so the owner is not known"
		return c
	}
	topic := view.lag.Topics[0]
	number := kafkaclient.PartitionOf(event.Key(report, peer), len(topic.Partitions))
	c.Partition = &ConversationInPartition{topic.Topic, number}
	member := topic.Partitions[number].Member
	if member == nil {
		c.Note = "no worker has this partition now"
		return c
	}
	c.Owner = *member
	for _, row := range rows {
		if row.Member != *member {
			continue
		}
		c.Owner = row.Name
		if row.Controllable {
			g.askConversation(ctx, row.Address, &c)
		} else {
			c.Note = "what waits is known only to this worker: see its own console"
		}
	}
	return c
}

// askConversation adds what the worker with this address knows.
func (g *Group) askConversation(ctx context.Context, address string, c *Conversation) {
	text, err := g.ask(ctx, address, "/api/conversation", nil, "",
		map[string]string{"report": c.Report, "peer": c.Peer})
	var known struct {
		Waiting, Applied json.RawMessage
		Note             string
	}
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil {
		c.Note = err.Error()
		return
	}
	c.Here, c.Note = true, known.Note
	if known.Waiting != nil {
		c.Waiting = known.Waiting
	}
	if known.Applied != nil {
		c.Applied = known.Applied
	}
}
