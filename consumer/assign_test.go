package consumer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rs/zerolog"
	"github.com/segmentio/kafka-go/protocol"
	consumerapi "github.com/segmentio/kafka-go/protocol/consumer"

	"markread/consumer/kafkaclient"
)

// Each number is assigned to exactly one member. Each member has as many numbers as the others or
// one more, and keeps its last ones as far as possible. The order of the members has no effect.
// This also holds when two members claim the same number because one of them has missed a
// generation.
func TestAssign(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		numbers := 1 + r.IntN(12)
		members := make([]candidate, 1+r.IntN(5))
		for i := range members {
			members[i] = candidate{id: fmt.Sprint("m", i),
				memberData: memberData{Generation: int32(r.IntN(3))}}
			for n := range numbers + 2 { // the topics may have had more partitions
				if r.IntN(3) == 0 {
					members[i].Owned = append(members[i].Owned, n)
				}
			}
		}
		assigned, last := assignNumbers(members, numbers), lastOwners(members, numbers)
		owners := make([]string, numbers)
		kept, could := 0, 0
		for _, m := range members {
			if n := len(assigned[m.id]); n != numbers/len(members) &&
				n != (numbers+len(members)-1)/len(members) {
				t.Fatalf("seed %d: %s gets %d of %d numbers, there are %d members", seed, m.id, n,
					numbers, len(members))
			}
			had := 0
			for n := range numbers {
				if i := last[n]; i >= 0 && members[i].id == m.id {
					had++
				}
			}
			could += min(had, numbers/len(members))
			for _, n := range assigned[m.id] {
				if owners[n] != "" {
					t.Fatalf("seed %d: %d goes to %s and %s", seed, n, owners[n], m.id)
				}
				owners[n] = m.id
				if i := last[n]; i >= 0 && members[i].id == m.id {
					kept++
				}
			}
		}
		if slices.Contains(owners, "") {
			t.Fatalf("seed %d: a number is not assigned: %v", seed, owners)
		}
		if kept < could {
			t.Fatalf("seed %d: %d numbers stay with their owner, %d could", seed, kept, could)
		}
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		for id, again := range assignNumbers(members, numbers) {
			if !slices.Equal(again, assigned[id]) {
				t.Fatalf("seed %d: in another order %s gets %v instead of %v", seed, id, again,
					assigned[id])
			}
		}
	}
}

// Of two members that claim a number, the one of the later generation owned it last.
func TestAssignUsesTheLatestGeneration(t *testing.T) {
	assigned := assignNumbers([]candidate{
		{"a", memberData{Owned: []int{0, 1}, Generation: 6}},
		{"b", memberData{Owned: []int{0, 1}, Generation: 7}},
		{"c", memberData{Owned: []int{2, 3}, Generation: 7}},
	}, 6)
	if !slices.Equal(assigned["b"], []int{0, 1}) || !slices.Equal(assigned["c"], []int{2, 3}) ||
		!slices.Equal(assigned["a"], []int{4, 5}) {
		t.Errorf("%v", assigned)
	}
}

// The leader assigns partitions only to members with the same quota terms as its own.
func TestLead(t *testing.T) {
	ours := quotaTerms{200, map[string]int{"live": 4, "backfill": 4}}
	for name, c := range map[string]struct {
		theirs quotaTerms
		agrees bool
	}{
		"the same":         {quotaTerms{200, map[string]int{"live": 4, "backfill": 4}}, true},
		"another rate":     {quotaTerms{100, map[string]int{"live": 4, "backfill": 4}}, false},
		"fewer partitions": {quotaTerms{200, map[string]int{"live": 2, "backfill": 4}}, false},
		"more partitions":  {quotaTerms{200, map[string]int{"live": 8, "backfill": 4}}, false},
		"another topic":    {quotaTerms{200, map[string]int{"live": 4, "other": 4}}, false},
		"one topic":        {quotaTerms{200, map[string]int{"live": 4}}, false},
		"no terms":         {quotaTerms{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &member{id: "us", log: zerolog.Nop()}
			join := func(id string, o quotaTerms) kafkaclient.GroupMember {
				b, err := protocol.Marshal(1, consumerapi.Subscription{Version: 1,
					UserData: encode(memberData{quotaTerms: o})})
				if err != nil {
					t.Fatal(err)
				}
				return kafkaclient.GroupMember{ID: id, Metadata: b}
			}
			got := map[string]int{}
			for id, a := range m.lead(ours,
				[]kafkaclient.GroupMember{join("us", ours), join("them", c.theirs)}) {
				got[id] = len(a.Partitions)
			}
			if got["us"]+got["them"] != 8 || (got["them"] > 0) != c.agrees {
				t.Errorf("assigned %v", got)
			}
		})
	}
}
