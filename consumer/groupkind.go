package consumer

import (
	"context"
	"fmt"

	"markread/consumer/kafkaclient"
)

// ForeignGroupError says that workers can't use a group: the brokers assign its partitions, or its
// members don't own any. Only an operator can change that.
//
// Kafka lets a worker join a group of the kind "consumer" (KIP-848's migration), and then the
// brokers assign: each worker's share of the rate would be a guess.
type UnsupportedGroupError struct {
	Group string
	Kind  string // as Kafka calls it, such as "share"; "": brokers before Kafka 3.8 don't say
}

// The kinds of groups, as Kafka calls them.
const (
	classicKind  = "classic"
	consumerKind = "consumer"
	shareKind    = "share"
	streamsKind  = "streams"
)

func (e *UnsupportedGroupError) Error() string { return e.reason() + "; " + e.Do() }

func (e *UnsupportedGroupError) reason() string {
	return fmt.Sprintf("group %q %s", e.Group,
		e.what())
}

// Found says what is wrong with the group, in one line without its name.
func (e *UnsupportedGroupError) Found() string { return "it " + e.what() }

func (e *UnsupportedGroupError) what() string {
	switch e.Kind {
	case consumerKind:
		return "is used by consumers of the new group protocol (group.protocol=consumer, KIP-848): " +
			"the brokers assign its partitions, so workers can't share the rate, and make no calls"
	case shareKind:
		return "is a share group (KIP-932): workers can't join it, not even when it is empty"
	case streamsKind:
		return "is used by Kafka Streams with the new group protocol " +
			"(group.protocol=streams, KIP-1071): workers can't join it"
	}
	return "has members of another kind than workers are (KIP-848, or a share group)"
}

// Do says what an operator can do about it, in one line.
func (e *UnsupportedGroupError) Do() string {
	switch e.Kind {
	case shareKind:
		return "choose another --group, or stop those consumers and delete the group " +
			"(kafka-share-groups --delete --group " + e.Group + ")"
	case streamsKind:
		return "choose another --group, or stop that application " +
			"(kafka-streams-groups --describe --members --group " + e.Group + " lists its members)"
	}
	return "choose another --group, or stop those consumers " +
		"(kafka-consumer-groups --describe --members --group " + e.Group + " lists them)"
}

// describeGroup asks once.
func describeGroup(ctx context.Context, c *kafkaclient.Client,
	group string) (view DescribedGroup, err error) {
	d, err := c.DescribeGroup(ctx, group)
	if err != nil {
		return view, err
	}
	view = describedGroup(d)
	if view.State == GroupAbsent { // so is a group of another kind, to who asks as for our kind
		findOtherKind(ctx, c, group, &view)
	}
	return view, nil
}

// findForeign looks for the group among those of all kinds. An empty one of the kinds "consumer"
// and "streams" becomes an ordinary one when a worker joins; Kafka keeps its offsets.
func findOtherKind(ctx context.Context, c *kafkaclient.Client, group string, view *DescribedGroup) {
	state, kind, ok, err := c.FindGroup(ctx, group)
	switch {
	case err != nil, !ok, state == "Dead": // it is absent, as far as is known
	case state == "Empty" && kind != shareKind:
		view.State = GroupEmpty
	case kind == classicKind: // made meanwhile
		view.State = GroupRebalancing
	default:
		view.State = GroupUnsupported
		view.Unsupported = &UnsupportedGroupError{Group: group, Kind: kind}
	}
}

// foreign returns a *ForeignGroupError if the group is known to be one. What can't be found out is
// no error: joining will tell.
func checkGroupKind(ctx context.Context, c *kafkaclient.Client, group string) error {
	view, err := describeGroup(ctx, c, group)
	if err != nil || view.Unsupported == nil || view.Unsupported.Kind == "" {
		return nil // without a kind it may be that of another worker, which has just joined
	}
	return view.Unsupported
}
