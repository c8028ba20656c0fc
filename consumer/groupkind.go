package consumer

import (
	"context"
	"fmt"

	"markread/consumer/kafkaclient"
)

// UnsupportedGroupError is returned for a group that workers can't use: the brokers assign its
// partitions, or its members own none. Only an operator can change that.
//
// Kafka lets a worker join a group of the kind "consumer" (the migration of KIP-848). The brokers
// then assign the partitions, and each worker would have to guess its share of the rate.
type UnsupportedGroupError struct {
	Group string
	Kind  string // Kafka's name for it, like "share"; "": brokers before Kafka 3.8 don't return it
}

// The kinds of groups, with Kafka's names.
const (
	classicKind  = "classic"
	consumerKind = "consumer"
	shareKind    = "share"
	streamsKind  = "streams"
)

func (e *UnsupportedGroupError) Error() string { return e.reason() + "; " + e.Do() }

func (e *UnsupportedGroupError) reason() string {
	return fmt.Sprintf("group %q %s", e.Group, e.what())
}

// Found describes in one line, without the name of the group, why workers can't use it.
func (e *UnsupportedGroupError) Found() string { return "it " + e.what() }

func (e *UnsupportedGroupError) what() string {
	switch e.Kind {
	case consumerKind:
		return "is used by consumers of the new group protocol (group.protocol=consumer, " +
			"KIP-848): the brokers assign its partitions, so workers can't share the rate, and " +
			"make no calls"
	case shareKind:
		return "is a share group (KIP-932): workers can't join it, not even when it is empty"
	case streamsKind:
		return "is used by Kafka Streams with the new group protocol " +
			"(group.protocol=streams, KIP-1071): workers can't join it"
	}
	return "has members of another kind than workers (KIP-848, or a share group)"
}

// Do returns what an operator can do about it, in one line.
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

// describeGroup describes a group, without retries.
func describeGroup(ctx context.Context, c *kafkaclient.Client,
	group string) (view DescribedGroup, err error) {
	d, err := c.DescribeGroup(ctx, group)
	if err != nil {
		return view, err
	}
	view = describedGroup(d)
	if view.State == GroupAbsent { // DescribeGroups also reports other kinds of groups as absent
		findOtherKind(ctx, c, group, &view)
	}
	return view, nil
}

// findOtherKind searches for the group among groups of all kinds, and stores what it finds in view.
// An empty group of the kind "consumer" or "streams" becomes a classic one when a worker joins;
// Kafka keeps its offsets.
func findOtherKind(ctx context.Context, c *kafkaclient.Client, group string, view *DescribedGroup) {
	state, kind, ok, err := c.FindGroup(ctx, group)
	switch {
	case err != nil, !ok, state == "Dead": // absent, as far as is known
	case state == "Empty" && kind != shareKind:
		view.State = GroupEmpty
	case kind == classicKind: // created meanwhile
		view.State = GroupRebalancing
	default:
		view.State = GroupUnsupported
		view.Unsupported = &UnsupportedGroupError{Group: group, Kind: kind}
	}
}

// checkGroupKind returns an *UnsupportedGroupError if the group is known to be unsupported. A
// failed description is not an error: joining will then show it.
func checkGroupKind(ctx context.Context, c *kafkaclient.Client, group string) error {
	view, err := describeGroup(ctx, c, group)
	if err != nil || view.Unsupported == nil || view.Unsupported.Kind == "" {
		return nil // without a kind, another worker may have just created it
	}
	return view.Unsupported
}
