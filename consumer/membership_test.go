package consumer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/segmentio/kafka-go/protocol"
	consumerapi "github.com/segmentio/kafka-go/protocol/consumer"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := protocol.Marshal(consumerapi.MaxVersionSupported, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Data that no worker has written is refused with a reason, and uses memory in proportion to its
// size.
func TestDecodeMember(t *testing.T) {
	user := func(data string) []byte {
		return marshal(t, consumerapi.Subscription{Version: 1, Topics: []string{"live", "backfill"},
			UserData: []byte(data)})
	}
	whole := user(`{"rate":200,"partitions":{"live":4,"backfill":4},"owned":[1,2],"generation":7}`)
	for name, c := range map[string]struct {
		b    []byte
		want string // in the error; "": none
	}{
		"a worker":           {whole, ""},
		"no limit":           {user(`{"rate":0,"partitions":{"live":4}}`), ""},
		"a topic is missing": {user(`{"rate":200,"partitions":{"live":4,"backfill":0}}`), ""},
		"unknown fields":     {user(`{"rate":200,"partitions":{"live":4},"color":"red"}`), ""},
		"empty":              {nil, "truncated"},
		"cut":                {whole[:len(whole)-10], "truncated"},
		"many topics":        {[]byte{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'a'}, "truncated"},
		"negative topics":    {[]byte{0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0}, "truncated"},
		"a negative name":    {[]byte{0, 1, 0, 0, 0, 1, 0xff, 0xfe, 0, 0, 0, 0}, "truncated"},
		"long user data": {binary.BigEndian.AppendUint32([]byte{0, 1, 0, 0, 0, 0}, 1<<31-1),
			"truncated"},
		"too much user data": {user(`{"rate":200,"partitions":{"live":4}}` + strings.Repeat(" ",
			maxUserData)), "more than 65536"},
		"too much": {append(slices.Clone(whole), make([]byte, maxGroupBytes)...),
			"more than 1048576"},
		"no JSON": {user("\x1b[31m"), "not written by markread"},
		"wrong types": {user(`{"rate":"200","partitions":{"live":4}}`),
			"not written by markread"},
		"a deep one":    {user(strings.Repeat("[", 60_000)), "not written by markread"},
		"no partitions": {user(`{"rate":200}`), "not written by markread"},
		"null":          {user(`null`), "not written by markread"},
		"many topics in it": {user(`{"rate":200,"partitions":{"a":1,"b":1,"c":1}}`),
			"not written by markread"},
		"a topic's name": {user(`{"rate":200,"partitions":{"a\u202e":1}}`),
			"a topic that can't exist"},
		"a long name": {user(`{"rate":200,"partitions":{"` + strings.Repeat("a", 250) +
			`":1}}`), "a topic that can't exist"},
		"negative": {user(`{"rate":200,"partitions":{"a":-1}}`), "counts -1 partitions"},
		"too many": {user(`{"rate":200,"partitions":{"a":2000000000}}`),
			"counts 2000000000 partitions"},
		"too many together": {user(`{"rate":200,"partitions":{"a":200000,"b":200000}}`),
			"counts 400000 partitions"},
		"a negative rate": {user(`{"rate":-1,"partitions":{"a":1}}`), "a rate of -1"},
		"a huge rate": {user(`{"rate":2000000000,"partitions":{"a":1}}`),
			"a rate of 2000000000"},
	} {
		data, err := decodeMember(c.b)
		if (err == nil) != (c.want == "") || err != nil &&
			(!strings.Contains(err.Error(), c.want) || !reflect.DeepEqual(data, memberData{})) {
			t.Errorf("%s: %+v, %v", name, data, err)
		}
		if assigned, leaders, err := decodeAssignment(c.b); err != nil &&
			(assigned != nil || leaders.Partitions != nil) {
			t.Errorf("%s: as an assignment: %v, %v, %v", name, assigned, leaders, err)
		}
	}
	lies := []byte{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'a', 0x7f, 0xff, 0xff, 0xff}
	for name, decode := range map[string]func(){
		"member":     func() { _, _ = decodeMember(lies) },
		"assignment": func() { _, _, _ = decodeAssignment(lies) },
	} {
		if n := testing.AllocsPerRun(100, decode); n > 3 {
			t.Errorf("%s: %v allocations for false lengths", name, n)
		}
	}
}

// A worker that had more partitions than fit is still valid: it omits them.
func TestUserDataFits(t *testing.T) {
	d := memberData{quotaTerms: quotaTerms{200, map[string]int{strings.Repeat("l", 249): 20_000,
		strings.Repeat("b", 249): 20_000}}, Generation: 7}
	for n := range 20_000 {
		d.Owned = append(d.Owned, n)
	}
	got, err := decodeMember(marshal(t, consumerapi.Subscription{UserData: d.userData()}))
	if err != nil || !got.equal(d.quotaTerms) || got.Owned != nil {
		t.Errorf("%v, %d owned, %v", got.Rate, len(got.Owned), err)
	}
	d.Owned = d.Owned[:9000]
	if got, err = decodeMember(marshal(t,
		consumerapi.Subscription{UserData: d.userData()})); err != nil || len(got.Owned) != 9000 {
		t.Errorf("%d owned, %v", len(got.Owned), err)
	}
}

// Nothing is accepted from an assignment that no worker can have sent, and accept returns what is
// wrong.
func TestAccept(t *testing.T) {
	ours := quotaTerms{200, map[string]int{"live": 4, "backfill": 2}}
	of := func(o quotaTerms, topics ...consumerapi.TopicPartition) []byte {
		return marshal(t,
			consumerapi.Assignment{Version: 1, AssignedPartitions: topics, UserData: encode(o)})
	}
	topic := func(name string, partitions ...int32) consumerapi.TopicPartition {
		return consumerapi.TopicPartition{Topic: name, Partitions: partitions}
	}
	for name, c := range map[string]struct {
		b    []byte
		n    int
		want string
	}{
		"a worker's": {of(ours, topic("live", 3, 1), topic("backfill", 1)), 3, ""},
		"nothing":    {of(ours), 0, ""},
		"no bytes":   {nil, 0, "no assignment"},
		"malformed":  {[]byte{0, 1, 0x7f, 0xff, 0xff, 0xff}, 0, "malformed"},
		"another rate": {of(quotaTerms{100, ours.Partitions}, topic("live", 1)), 0,
			"a rate of 100, this worker uses 200"},
		"another count": {of(quotaTerms{200, map[string]int{"live": 4, "backfill": 4}},
			topic("live", 1)), 0, "other topics or partitions"},
		"not there":     {of(ours, topic("live", 1), topic("backfill", 2)), 0, "don't have"},
		"negative":      {of(ours, topic("live", -1)), 0, "don't have"},
		"another topic": {of(ours, topic("dead-letters", 0)), 0, "don't have"},
		"twice":         {of(ours, topic("live", 1, 2), topic("live", 1)), 0, "twice"},
		"more than anything": {of(ours, topic("live", slices.Repeat([]int32{1}, 300_000)...)), 0,
			"more than 1048576"},
	} {
		j := joinResult{terms: ours}
		j.accept(c.b)
		if len(j.assigned) != c.n || (j.mismatch.why == "") != (c.want == "") ||
			!strings.Contains(j.mismatch.why, c.want) || (j.mismatch.do == "") != (c.want == "") {
			t.Errorf("%s: %v, %+v", name, j.assigned, j.mismatch)
		}
	}
}

// FuzzMemberMetadata compares our decoders with kafka-go's on input for which kafka-go's are safe:
// ours accept nothing that those refuse, and return the same values.
func FuzzMemberMetadata(f *testing.F) {
	o := quotaTerms{200, map[string]int{"live": 4, "backfill": 4}}
	f.Add(marshal(f, consumerapi.Subscription{Version: 1, Topics: []string{"live"},
		UserData: memberData{quotaTerms: o, Owned: []int{1, 2}, Generation: 7}.userData()}))
	f.Add(marshal(f, consumerapi.Assignment{Version: 1,
		AssignedPartitions: []consumerapi.TopicPartition{{Topic: "live",
			Partitions: []int32{0, 1}}}, UserData: encode(o)}))
	f.Add([]byte{0, 1, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		data, err := decodeMember(b)
		if plausible(t, err, data.quotaTerms) {
			var theirs consumerapi.Subscription
			// Version 0 ends with the user data, the last field that we read.
			if err := protocol.Unmarshal(b, 0, &theirs); err != nil {
				t.Fatalf("kafka-go: %v", err)
			}
			again, err := decodeMember(marshal(t,
				consumerapi.Subscription{Version: 1, UserData: theirs.UserData}))
			if err != nil || !reflect.DeepEqual(again, data) {
				t.Fatalf("%+v, by way of kafka-go %+v, %v", data, again, err)
			}
			members := []candidate{{"a", data}, {"b", memberData{quotaTerms: data.quotaTerms}}}
			if numbers := slices.Max(slices.Collect(maps.Values(data.Partitions))); numbers < 100 {
				if numbersOf := assignNumbers(members,
					numbers); len(numbersOf["a"])+len(numbersOf["b"]) != numbers ||
					len(numbersOf["b"]) < numbers/2 {
					t.Fatalf("dealt %v", numbersOf)
				}
			}
		}
		assigned, leaders, err := decodeAssignment(b)
		if plausible(t, err, leaders) {
			var theirs consumerapi.Assignment
			if err := protocol.Unmarshal(b, 0, &theirs); err != nil {
				t.Fatalf("kafka-go: %v", err)
			}
			var want []event.TopicPartition
			for _, topic := range theirs.AssignedPartitions {
				for _, p := range topic.Partitions {
					want = append(want, event.TopicPartition{Topic: topic.Topic, Partition: int(p)})
				}
			}
			slices.SortFunc(want, event.TopicPartition.Compare)
			if !slices.Equal(assigned, want) {
				t.Fatalf("assigned %v, kafka-go: %v", assigned, want)
			}
		}
		j := joinResult{terms: o}
		j.accept(b)
		for i, p := range j.assigned {
			if p.Partition < 0 || p.Partition >= o.Partitions[p.Topic] || i > 0 &&
				j.assigned[i-1].Compare(p) >= 0 {
				t.Fatalf("accepted %v", j.assigned)
			}
		}
	})
}

// plausible reports whether the input was decoded, and fails the test if no worker can have
// published the decoded terms.
func plausible(t *testing.T, err error, o quotaTerms) bool {
	t.Helper()
	if err != nil {
		if o.Partitions != nil || len(err.Error()) > 200 {
			t.Fatal(o, err)
		}
		return false
	}
	if err := o.check(); err != nil || errors.Is(err, errTruncated) {
		t.Fatal(err)
	}
	if n := len(o.exported().All); n > maxTermsNumber {
		t.Fatal(fmt.Sprint(n, " partitions"))
	}
	return true
}

// A leader rebalances when the partition count of a topic differs from the one it assigned. Another
// member rejoins after a delay when its counts now match the leader's. Counts of other members
// never cause a rebalance.
func TestWatch(t *testing.T) {
	// the topic has 4 partitions
	counts := func(n int) quotaTerms {
		return quotaTerms{200,
			map[string]int{brokertest.Topics.Live: n}}
	}
	for name, c := range map[string]struct {
		joined      joinResult
		rejoinDelay time.Duration
		want        error
		after       time.Duration
	}{
		"a leader with the right counts": {joinResult{leader: true, terms: counts(4),
			leaderTerms: counts(4)}, 0, nil, 0},
		"a leader of fewer": {joinResult{leader: true, terms: counts(2),
			leaderTerms: counts(2)}, 0, errPartitionCount, 2 * watchInterval},
		"a leader of more": {joinResult{leader: true, terms: counts(8),
			leaderTerms: counts(8)}, 0, errPartitionCount, 2 * watchInterval},
		"a member with the right counts": {joinResult{terms: counts(4), leaderTerms: counts(4)},
			0, nil, 0},
		"a member with a leader of fewer": {joinResult{terms: counts(4), leaderTerms: counts(2)},
			watchInterval, nil, 0},
		"a member with a leader of other topics": {joinResult{terms: counts(4),
			leaderTerms: quotaTerms{200, map[string]int{"x": 4}}}, watchInterval, nil, 0},
		"a member with old counts": {joinResult{terms: counts(2), leaderTerms: counts(4)},
			watchInterval, errCountsAgree, watchInterval},
		"a member with old counts, again": {joinResult{terms: counts(2), leaderTerms: counts(4)},
			maxRejoinDelay, errCountsAgree, maxRejoinDelay},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 4, func(w *brokertest.World) {
				ctx, revoke := context.WithCancelCause(w.Context())
				defer revoke(nil)
				time.AfterFunc(time.Hour, func() { revoke(nil) })
				began := time.Now()
				g := &Generation{client: w.Client()}
				g.watch(ctx, c.joined,
					GroupOptions{Topics: event.Topics{Live: brokertest.Topics.Live}, Rate: 200},
					c.rejoinDelay, revoke)
				took := time.Since(began)
				if cause := context.Cause(ctx); c.want == nil && took < time.Hour ||
					c.want != nil && (!errors.Is(cause, c.want) || took < c.after ||
						took > c.after+time.Second) {
					w.Errorf("after %v %v, want %v after %v", took, cause, c.want, c.after)
				}
			})
		})
	}
}

// The age of a proof is the larger of the ages by the two clocks: the monotonic clock stops while
// the machine is suspended, and the wall clock can be set.
func TestProofAgeByBothClocks(t *testing.T) {
	for name, c := range map[string]struct{ monotonic, wall, want time.Duration }{
		"both agree":               {2 * time.Second, 2 * time.Second, 2 * time.Second},
		"suspended for an hour":    {2 * time.Second, time.Hour, time.Hour},
		"the wall clock set back":  {20 * time.Second, -time.Hour, 20 * time.Second},
		"the wall clock set ahead": {time.Second, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Generation{proof: ago(t, c.monotonic, c.wall)}
			if age := g.ProofAge(); age < c.want || age > c.want+time.Minute {
				t.Errorf("the proof is %v old, want %v", age, c.want)
			}
		})
	}
}

// ago returns a time with the given ages by the two clocks. Package time has no function for that.
func ago(t *testing.T, monotonic, wall time.Duration) time.Time {
	t.Helper()
	now := time.Now()
	at := now.Add(-wall)
	parts := (*struct {
		wall uint64
		ext  int64 // the monotonic reading
		loc  *time.Location
	})(unsafe.Pointer(&at))
	parts.ext += int64(wall - monotonic)
	if now.Sub(at) != monotonic || now.Round(0).Sub(at.Round(0)) != wall {
		t.Fatal("package time now stores its two readings differently")
	}
	return at
}
