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

// GroupState is what a group is doing.
type GroupState string

// The states of a group. A rebalancing one tells neither who has which partitions nor what its
// members go by.
const (
	GroupStable      GroupState = "stable"
	GroupRebalancing GroupState = "rebalancing"
	GroupEmpty       GroupState = "empty" // without members, but not forgotten
	// nobody has ever joined or committed, or so long ago that it is forgotten
	GroupAbsent      GroupState = "absent"
	GroupUnsupported GroupState = "foreign" // of a kind that workers can't use: see Foreign
)

// DescribedGroup is a group as its coordinator sees it.
type DescribedGroup struct {
	State       GroupState
	Protocol    string // by which partitions are assigned; "" in a rebalance and without members
	Members     []DescribedMember
	LeaderTerms *Terms // what the leader went by when it assigned; nil: not known
	May         kafkaclient.Operations
	// why workers can't use it; nil: they can, as far as is known
	Unsupported *UnsupportedGroupError
}

// Ours reports whether the group's members are markread's.
func (g DescribedGroup) Ours() bool { return g.Protocol == protocolName }

// Terms is what a member goes by when it reckons its share of the quota.
type Terms struct {
	Rate int
	All  []event.TopicPartition // sorted by topic and number
}

// DescribedMember is one member.
type DescribedMember struct {
	ID, Client, Host string
	Assigned         []event.TopicPartition // sorted by topic and number
	Terms            *Terms                 // what it has published; nil: not known
	// why the leader gives it no partitions; "": they agree, or it is not known
	Mismatch string
}

// DescribeGroup looks at a group. It tries for 8 s.
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

// describedGroup reads what a coordinator answers.
func describedGroup(g kafkaclient.GroupDescription) DescribedGroup {
	states := map[string]GroupState{"Stable": GroupStable, "Empty": GroupEmpty, "Dead": GroupAbsent}
	view := DescribedGroup{State: cmp.Or(states[g.State], GroupRebalancing), Protocol: g.Protocol,
		May: g.May}
	for _, m := range g.Members {
		// Kafka puts a slash before an address for which it looked up no name
		member := DescribedMember{ID: m.ID, Client: m.Client, Host: strings.TrimPrefix(m.Host, "/")}
		if view.Ours() { // what others publish has another form
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

func (o quotaTerms) exported() *Terms { return &Terms{o.Rate, o.all()} }

// mismatch says why a leader gives a member no partitions; "": it does.
func (o quotaTerms) mismatch(leaderTerms quotaTerms) string {
	switch {
	case o.equal(leaderTerms):
		return ""
	case o.Rate != leaderTerms.Rate:
		return fmt.Sprintf("it goes by a rate of %d, the group's leader by %d", o.Rate,
			leaderTerms.Rate)
	default:
		return "it sees other topics or partitions than the group's leader"
	}
}
