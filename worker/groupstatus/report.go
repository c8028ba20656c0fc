package groupstatus

import (
	"fmt"
	"math"
	"slices"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/worker/console"
	"markread/worker/engine"
	"markread/worker/format"
)

// Report is what `markread status --json` prints; deploy/OPERATIONS.md documents its names. A nil
// part is not known, or was not requested.
type Report struct {
	At      time.Time    `json:"at"`
	Group   *Group       `json:"group"`
	Lag     *Lag         `json:"lag"`
	Letters *DeadLetters `json:"letters"`
	Worker  *Worker      `json:"worker"`
	Errors  []string     `json:"errors"`
}

// Group is the consumer group.
type Group struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Rate  *int   `json:"rate"` // the leader's, in calls a second; 0: no limit
	// Assigned is the number of the group's Partitions, over all topics, that have a member.
	Assigned   int      `json:"assigned"`
	Partitions *int     `json:"partitions"`
	Members    []Member `json:"members"`
	Notes      []string `json:"notes"`
}

// Member is one worker of the group. Without a rate, Share is nil.
type Member struct {
	ID       string     `json:"id"`
	ClientID string     `json:"client_id"`
	Host     string     `json:"host"`
	Rate     *int       `json:"rate"`
	Share    *int       `json:"share"`
	Assigned []Assigned `json:"assigned"`
	Note     string     `json:"note"`
}

// Assigned lists a member's partitions of one topic.
type Assigned struct {
	Topic      string `json:"topic"`
	Partitions []int  `json:"partitions"`
}

// GroupOf returns a group's report, with notes that explain its state.
func GroupOf(name string, g *consumer.DescribedGroup) *Group {
	r := &Group{Name: name, State: string(g.State), Members: []Member{}, Notes: []string{}}
	if g.LeaderTerms != nil {
		r.Rate, r.Partitions = &g.LeaderTerms.Rate, new(len(g.LeaderTerms.All))
	}
	switch {
	case g.State == consumer.GroupAbsent:
		r.note("there is no such group: no worker has run lately, or --group is wrong")
	case g.Unsupported != nil:
		r.note("%s: %s", g.Unsupported.Found(), g.Unsupported.Do())
	case g.State == consumer.GroupRebalancing:
		r.note("the assignment is known once the members have rejoined: check again in a few " +
			"seconds; a dead member delays that by up to 15 s, a draining one by up to a minute")
	case len(g.Members) == 0:
		r.note("no worker runs: events wait in Kafka")
	case !g.Ours():
		r.note("its members are not markread workers (protocol %q): --group belongs to another "+
			"program", format.Line(g.Protocol))
	}
	for _, m := range g.Members {
		r.Members = append(r.Members, memberOf(g, m))
		r.Assigned += len(m.Assigned)
	}
	return r
}

func (r *Group) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func memberOf(g *consumer.DescribedGroup, m consumer.DescribedMember) Member {
	r := Member{ID: format.Line(m.ID), ClientID: format.Line(m.Client), Host: format.Line(m.Host),
		Assigned: []Assigned{}, Note: m.Mismatch}
	for _, p := range m.Assigned {
		if n := len(r.Assigned); n == 0 || r.Assigned[n-1].Topic != p.Topic {
			r.Assigned = append(r.Assigned, Assigned{Topic: p.Topic})
		}
		last := &r.Assigned[len(r.Assigned)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	if m.Terms != nil {
		r.Rate = &m.Terms.Rate
		if m.Terms.Rate > 0 {
			r.Share = new(engine.Share(m.Terms.Rate, m.Terms.All, m.Assigned))
		}
	}
	switch {
	case g.State != consumer.GroupStable || !g.Ours() || r.Note != "":
	case m.Terms == nil:
		r.Note = "its rate and topics can't be read: another version?"
	case len(m.Assigned) == 0:
		r.Note = "it is a spare: there are more members than partitions, or than calls a second"
	case r.Share != nil && *r.Share == 0:
		r.Note = "its share of the rate is 0, so it makes no calls: run fewer workers, or raise " +
			"--rate for all"
	}
	return r
}

// owner returns the number of the member that has a partition, from 1; 0 if none has, or if it is
// not known.
func (r *Group) owner(p event.TopicPartition) int {
	if r == nil {
		return 0
	}
	for i, m := range r.Members {
		for _, a := range m.Assigned {
			if a.Topic == p.Topic && slices.Contains(a.Partitions, p.Partition) {
				return i + 1
			}
		}
	}
	return 0
}

// NoteUnassigned adds a note about partitions that no member has although the group is stable.
func (r *Group) NoteUnassigned(lags [][]admin.PartitionLag) {
	if r.State != string(consumer.GroupStable) || r.Rate == nil {
		return
	}
	for _, topic := range lags {
		free := []int{}
		for _, p := range topic {
			if r.owner(p.TopicPartition) == 0 {
				free = append(free, p.Partition)
			}
		}
		if len(free) > 0 {
			r.note("partitions of topic %s that no member has: %s; new ones are detected within "+
				"half a minute, and a worker with another --topic or --backfill-topic does not "+
				"read them", topic[0].Topic, format.Ranges(free))
		}
	}
}

// Lag is how far the group is behind, in records. Sums include only known lags; a nil lag is not
// known. A lag is never 0 if records may be unread.
type Lag struct {
	Lag      *int64     `json:"lag"`
	Finished int64      `json:"finished"`
	Topics   []TopicLag `json:"topics"`
}

// TopicLag is the lag of one topic.
type TopicLag struct {
	Topic      string         `json:"topic"`
	Lane       string         `json:"lane"`
	Lag        *int64         `json:"lag"`
	Finished   int64          `json:"finished"`
	Lost       int64          `json:"lost"`
	Oldest     *float64       `json:"oldest_seconds"`
	Partitions []PartitionLag `json:"partitions"`
}

// PartitionLag is the lag of one partition. A nil value is not known.
type PartitionLag struct {
	Partition int      `json:"partition"`
	Member    *string  `json:"member"`
	First     *int64   `json:"first"`
	Committed *int64   `json:"committed"`
	End       *int64   `json:"end"`
	Lag       *int64   `json:"lag"`
	Finished  int64    `json:"finished"`
	Lost      int64    `json:"lost"`
	Beyond    int64    `json:"beyond"`
	Oldest    *float64 `json:"oldest_seconds"`

	Unreadable *Unreadable `json:"unreadable"`

	MemberNumber int `json:"-"` // from 1; 0: none, or not known
}

// Unreadable says why a partition can't be read at an offset. Offset is nil if it is not known.
type Unreadable struct {
	Offset *int64 `json:"offset"`
	Reason string `json:"reason"`
	Do     string `json:"do"`
}

// LagOf returns the lags that are known, and their sums; nil if none is known.
func LagOf(lags [][]admin.PartitionLag, backfill string, group *Group, now time.Time) *Lag {
	if len(lags) == 0 {
		return nil
	}
	r := &Lag{}
	for _, topic := range lags {
		t := TopicLag{Topic: topic[0].Topic, Lane: event.Live.String()}
		if t.Topic == backfill {
			t.Lane = event.Backfill.String()
		}
		for _, p := range topic {
			t.add(p, group, now)
		}
		t.Lag = sumOf(t.Partitions, func(p PartitionLag) *int64 { return p.Lag })
		r.Finished += t.Finished
		r.Topics = append(r.Topics, t)
	}
	r.Lag = sumOf(r.Topics, func(t TopicLag) *int64 { return t.Lag })
	return r
}

// sumOf adds up the known lags. It returns nil if the sum is 0 and some lags are not known.
func sumOf[T any](all []T, lag func(T) *int64) *int64 {
	sum, unknown := int64(0), false
	for _, one := range all {
		if n := lag(one); n != nil {
			sum += *n
		} else {
			unknown = true
		}
	}
	if sum == 0 && unknown {
		return nil
	}
	return &sum
}

func (t *TopicLag) add(p admin.PartitionLag, group *Group, now time.Time) {
	l := PartitionLag{Partition: p.Partition, Finished: p.Finished, Lost: p.Lost, Beyond: p.Beyond,
		MemberNumber: group.owner(p.TopicPartition)}
	if l.MemberNumber > 0 {
		l.Member = &group.Members[l.MemberNumber-1].ID
	}
	if p.Committed >= 0 {
		l.Committed = &p.Committed
	}
	if p.Err == nil {
		l.First, l.End = &p.First, &p.End
		if p.Lag > 0 || p.Unreadable == nil {
			l.Lag = &p.Lag
		}
		t.Finished += p.Finished
		t.Lost += p.Lost
	}
	if !p.Oldest.IsZero() {
		l.Oldest = new(math.Round(1000*max(0, now.Sub(p.Oldest).Seconds())) / 1000)
		if t.Oldest == nil || *t.Oldest < *l.Oldest {
			t.Oldest = l.Oldest
		}
	}
	if u := p.Unreadable; u != nil {
		l.Unreadable = &Unreadable{Reason: format.Plain([]byte(u.Reason)), Do: u.Do}
		if u.Offset >= 0 {
			l.Unreadable.Offset = &u.Offset
		}
	}
	t.Partitions = append(t.Partitions, l)
}

// Unreadable returns an error for each reason why partitions can't be read, up to
// maxUnreadableReasons.
func (t *TopicLag) Unreadable() (errs []error) {
	var whys []Unreadable
	partitions := map[Unreadable][]int{}
	for _, p := range t.Partitions {
		if p.Unreadable == nil {
			continue
		}
		why := Unreadable{Reason: p.Unreadable.Reason, Do: p.Unreadable.Do}
		if partitions[why] == nil {
			whys = append(whys, why)
		}
		partitions[why] = append(partitions[why], p.Partition)
	}
	for i, why := range whys {
		if i == maxUnreadableReasons {
			more := len(whys) - i
			return append(errs,
				fmt.Errorf("topic %q: partitions can't be read for %d other reasons", t.Topic,
					more))
		}
		what := "partitions " + format.Ranges(partitions[why])
		if len(partitions[why]) == 1 {
			what = "partition " + format.Ranges(partitions[why])
		}
		errs = append(errs,
			fmt.Errorf("topic %q, %s can't be read: %s; %s", t.Topic, what, why.Reason, why.Do))
	}
	return errs
}

const maxUnreadableReasons = 10

// DeadLetters counts dead letters by state, and by class and code.
type DeadLetters struct {
	Topic string `json:"topic"`
	StateCounts
	Foreign int64  `json:"foreign"`
	Kinds   []Kind `json:"kinds"`

	// Reading is the number of the read from the topic's beginning that these counts continue, from
	// 1; 0: a part of the topic can't be read. Only counts of the same reading can be compared.
	Reading int `json:"-"`
}

// StateCounts is the number of dead letters in each state.
type StateCounts struct {
	Open      int64 `json:"open"`
	Parked    int64 `json:"parked"`
	Replayed  int64 `json:"replayed"`
	Discarded int64 `json:"discarded"`
}

// Kind counts the dead letters of one class and code.
type Kind struct {
	Class string `json:"class"`
	Code  string `json:"code"`
	StateCounts
}

// CountsOf returns the number of dead letters of a kind in each state.
func CountsOf(c deadletter.Count) StateCounts {
	return StateCounts{c.Letters[deadletter.Open], c.Letters[deadletter.Parked],
		c.Letters[deadletter.Replayed], c.Letters[deadletter.Discarded]}
}

// Add adds other counts.
func (n *StateCounts) Add(more StateCounts) {
	n.Open += more.Open
	n.Parked += more.Parked
	n.Replayed += more.Replayed
	n.Discarded += more.Discarded
}

// DeadLettersOf returns the counts of an index.
func DeadLettersOf(topic string, index *deadletter.Index) *DeadLetters {
	r := &DeadLetters{Topic: topic, Foreign: index.Unknown(), Kinds: []Kind{}}
	for _, c := range index.Counts() {
		n := CountsOf(c)
		r.Add(n)
		r.Kinds = append(r.Kinds, Kind{format.Line(c.Class), format.Line(c.Code), n})
	}
	return r
}

// Worker is the state of one worker, from its admin server.
type Worker struct {
	URL    string         `json:"url"`
	Ready  bool           `json:"ready"`
	Group  string         `json:"group"`
	Member *string        `json:"member"`
	Held   []console.Hold `json:"held"`
	Quota  console.Quota  `json:"quota"`
	Lanes  console.Lanes  `json:"lanes"`
	Note   string         `json:"note"`

	StartedAt time.Time `json:"-"`
	Calls     int64     `json:"-"` // since it was started

	// Unreadable are the partitions that this worker can't read. They may differ from those in the
	// lag: the worker reads ahead of the group's offset, and perhaps as another user.
	Unreadable []WorkerUnreadable `json:"unreadable"`
}

// WorkerUnreadable is a partition that a worker can't read.
type WorkerUnreadable struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	console.Unreadable
}

// WorkerOf returns a worker's report. It has a note if the worker is not in the group.
func WorkerOf(url string, s console.State, group string) *Worker {
	r := &Worker{URL: url, Ready: s.Ready, Group: s.Group.Name, Member: s.Group.Member,
		Held: s.Held, Quota: s.Quota, Lanes: s.Lanes, Unreadable: []WorkerUnreadable{},
		StartedAt: s.StartedAt, Calls: s.Totals.Calls}
	for _, p := range s.Partitions {
		if p.Unreadable != nil {
			r.Unreadable = append(r.Unreadable,
				WorkerUnreadable{p.Topic, p.Partition, *p.Unreadable})
		}
	}
	if s.Group.Name != group {
		r.Note = fmt.Sprintf("this worker is in the group %q, not in %q (--group): it is not part "+
			"of what is shown above", s.Group.Name, group)
	}
	return r
}
