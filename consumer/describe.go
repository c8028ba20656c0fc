package consumer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// GroupState is the state of a group.
type GroupState string

// The states of a group. While a group is rebalancing, neither assignments nor quota terms are
// known.
const (
	GroupStable      GroupState = "stable"
	GroupRebalancing GroupState = "rebalancing"
	GroupEmpty       GroupState = "empty" // no members, but Kafka still has the group
	// nobody has ever joined or committed, or Kafka has deleted the group since
	GroupAbsent      GroupState = "absent"
	GroupUnsupported GroupState = "foreign" // workers can't use it: see Unsupported
)

// DescribedGroup is a group as its coordinator describes it.
type DescribedGroup struct {
	State       GroupState
	Protocol    string // the assignment protocol; "" during a rebalance and without members
	Members     []DescribedMember
	LeaderTerms *Terms // the terms with which the leader assigned; nil: unknown
	May         kafkaclient.Operations
	// why workers can't use the group; nil: they can, as far as is known
	Unsupported *UnsupportedGroupError
}

// Ours reports whether the group's members use markread's assignment protocol.
func (g DescribedGroup) Ours() bool { return g.Protocol == protocolName }

// Terms are the inputs from which a member calculates its share of the quota.
type Terms struct {
	Rate int                    // calls a second, of the whole group
	All  []event.TopicPartition // sorted by topic and number
}

// DescribedMember is one member of a DescribedGroup.
type DescribedMember struct {
	ID, Client, Host string
	Assigned         []event.TopicPartition // sorted by topic and number
	Terms            *Terms                 // as it published them; nil: unknown
	// why the leader assigns it no partitions; "": the terms agree, or are unknown
	Mismatch string
}

// DescribeGroup describes a group. It retries for at most 8 s.
func DescribeGroup(ctx context.Context, c *kafkaclient.Client,
	group string) (view DescribedGroup, err error) {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	err = c.Retry(ctx, "describing the group", func() error {
		view, err = describeGroup(ctx, c, group)
		return err
	})
	if err != nil {
		err = kafkaclient.WithPermissionHint(fmt.Errorf("group %q: %w", group, err), "--group")
	}
	return view, err
}

// describedGroup decodes a coordinator's description of a group.
func describedGroup(g kafkaclient.GroupDescription) DescribedGroup {
	states := map[string]GroupState{"Stable": GroupStable, "Empty": GroupEmpty, "Dead": GroupAbsent}
	view := DescribedGroup{State: cmp.Or(states[g.State], GroupRebalancing), Protocol: g.Protocol,
		May: g.May}
	for _, m := range g.Members {
		// Kafka prefixes an address that has no host name with a slash
		member := DescribedMember{ID: m.ID, Client: m.Client, Host: strings.TrimPrefix(m.Host, "/")}
		if view.Ours() { // other programs use other encodings
			own, dataErr := decodeMember(m.Metadata)
			if dataErr == nil {
				member.Terms = own.exported()
			}
			assigned, leaderTerms, err := decodeAssignment(m.Assignment)
			if err == nil {
				member.Assigned, view.LeaderTerms = assigned, leaderTerms.exported()
				member.Mismatch = own.mismatch(leaderTerms)
				if dataErr != nil {
					member.Mismatch = "its metadata is ignored: " + dataErr.Error()
				}
			}
		}
		view.Members = append(view.Members, member)
	}
	slices.SortFunc(view.Members, func(a, b DescribedMember) int { return cmp.Compare(a.ID, b.ID) })
	return view
}

func (t quotaTerms) exported() *Terms { return &Terms{t.Rate, t.all()} }

// mismatch returns why a leader with leaderTerms assigns no partitions to a member with the terms
// t; "": it may assign some.
func (t quotaTerms) mismatch(leaderTerms quotaTerms) string {
	switch {
	case t.equal(leaderTerms):
		return ""
	case t.Rate != leaderTerms.Rate:
		return fmt.Sprintf("it uses a rate of %d, the group's leader uses %d", t.Rate,
			leaderTerms.Rate)
	default:
		return "it sees other topics or partitions than the group's leader"
	}
}
