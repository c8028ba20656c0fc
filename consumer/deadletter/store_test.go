package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// topic is a topic in memory.
type topic struct {
	mu         sync.Mutex // for publishing
	name       string
	partitions [][]event.Record
	broken     map[int]int64 // by partition: first unreadable offset
	away       map[int]error // partitions without a leader
	scans      []int64       // number of offsets of each scan
	onRecord   func()        // if non-nil, called for each record of a scan
	appended   int           // number of records, for their times
	publish    func(m event.Message) error
	published  []event.Message
	shared     *[]string
}

func (t *topic) TopicOffsets(context.Context, string) (kafkaclient.TopicOffsets, error) {
	e := kafkaclient.TopicOffsets{Topic: t.name}
	for number, p := range t.partitions {
		b := kafkaclient.OffsetRange{Err: t.away[number]}
		if len(p) > 0 && b.Err == nil {
			b.First, b.End = p[0].Offset, p[len(p)-1].Offset+1
		}
		e.Partitions = append(e.Partitions, b)
	}
	return e, nil
}

func (t *topic) Scan(ctx context.Context, e kafkaclient.TopicOffsets,
	each func(event.Record) error) (unread []kafkaclient.UnreadRange, err error) {
	t.scans = append(t.scans, e.Size())
	for number, p := range t.partitions {
		if err := e.Partitions[number].Err; err != nil {
			tp := event.TopicPartition{Topic: t.name, Partition: number}
			unread = append(unread, kafkaclient.UnreadRange{TopicPartition: tp, From: -1, Err: err})
			continue
		}
		for _, r := range p {
			b := e.Partitions[number]
			if r.Offset < b.First || r.Offset >= b.End {
				continue
			}
			if t.onRecord != nil {
				t.onRecord()
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if broken, some := t.broken[number]; some && r.Offset >= broken {
				tp := event.TopicPartition{Topic: t.name, Partition: number}
				unread = append(unread, kafkaclient.UnreadRange{TopicPartition: tp, From: r.Offset,
					To: b.End, Err: errors.New("checksum")})
				break
			}
			if err := each(r); err != nil {
				return nil, err
			}
		}
	}
	return unread, nil
}

// Publish is for event topics, which nothing reads here.
func (t *topic) Publish(ctx context.Context, messages ...event.Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.note("publish")
	return t.write(ctx, messages, func(m event.Message) { t.published = append(t.published, m) })
}

func (t *topic) PublishTo(ctx context.Context, partition int, messages ...event.Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.note("resolve")
	return t.write(ctx, messages, func(m event.Message) { t.append(partition, m) })
}

func (t *topic) note(what string) {
	if t.shared != nil {
		*t.shared = append(*t.shared, what)
	}
}

func (t *topic) write(ctx context.Context, messages []event.Message, do func(event.Message)) error {
	failed := kafkaclient.PublishErrors{}
	for i, m := range messages {
		err := ctx.Err()
		if err == nil && t.publish != nil {
			err = t.publish(m)
		}
		if err != nil {
			failed[i] = err
			continue
		}
		do(m)
	}
	if len(failed) > 0 {
		return failed
	}
	return nil
}

func (t *topic) append(partition int, m event.Message) {
	next := int64(0)
	if log := t.partitions[partition]; len(log) > 0 {
		next = log[len(log)-1].Offset + 1
	}
	t.appended++
	t.partitions[partition] = append(t.partitions[partition], event.Record{
		Topic: t.name, Partition: partition, Offset: next, Key: m.Key, Value: m.Value,
		Headers: m.Headers, Time: time.UnixMilli(1_700_000_000_000 + int64(t.appended)),
	})
}

// firstSecond is before all read times: the tests count seconds from it.
const firstSecond = 1_600_000_000

// letter writes a dead letter of an event whose T is that second, and whose event time is T.
func (t *topic) letter(partition int, report string, second int64, headers ...string) {
	readTime := firstSecond + second
	value := fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":"p","MsgReadTime":%d}`, report,
		readTime)
	m := event.Message{Key: event.Key(report, "p"), Value: []byte(value)}
	for i, h := range append([]string{
		"markread.class", "rejected", "markread.code", "90048", "markread.event-time",
		strconv.FormatInt(readTime*1000, 10),
		"markread.failed-at", time.Unix(1_600_000_000+int64(t.size()), 0).UTC().
			Format(time.RFC3339), "markread.replays", "0", "trace", report,
	}, headers...) {
		if i%2 == 0 {
			m.Headers = append(m.Headers, event.Header{Key: h})
		} else {
			m.Headers[i/2].Value = []byte(h)
		}
	}
	t.append(partition, m)
}

func (t *topic) size() (n int) {
	for _, p := range t.partitions {
		n += len(p)
	}
	return n
}

func newTopic(partitions int) *topic {
	return &topic{name: "letters", partitions: make([][]event.Record, partitions)}
}

func clock() time.Time { return now }

// planned returns a store and the plan to replay everything that is open.
func planned(t *testing.T, from *topic) (*Store, Plan) {
	t.Helper()
	s := &Store{Topic: from, Name: from.name}
	return s, PlanOf(find(t, s).Find(Open), 0)
}

func find(t *testing.T, s *Store) *Index {
	t.Helper()
	index := NewIndex(3, Filter{})
	index.CheckReplayableAt(now)
	if err := s.Find(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	return index
}

// states lists the states of all dead letters.
func states(t *testing.T, s *Store) string {
	t.Helper()
	index := find(t, s)
	var all []string
	for _, l := range index.Find(AllStates()...) {
		all = append(all, l.ID.String()+" "+l.State.String())
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func value(m event.Message, name string) string {
	text, _ := event.Record{Headers: m.Headers}.Header(name)
	return text
}

// One event for each conversation is published, with the largest T. All of its dead letters are
// resolved, in their partitions, and a second replay finds nothing.
func TestReplay(t *testing.T) {
	from, to := newTopic(3), newTopic(1)
	from.letter(0, "a", 100)
	from.letter(1, "b", 100)
	from.letter(0, "a", 300, "markread.replays", "2")
	from.letter(0, "a", 200)
	from.letter(2, "a", 250) // without the usual key it may be in another partition
	s, plan := planned(t, from)
	done, err := s.Replay(t.Context(), plan, clock, to, from, nil)
	if err != nil || done != (Done{Letters: 5, Conversations: 2}) {
		t.Errorf("%+v %v", done, err)
	}
	if len(to.published) != 2 {
		t.Fatalf("%d events", len(to.published))
	}
	if m := to.published[0]; string(m.Key) != "a|p" || !strings.Contains(string(m.Value),
		`"MsgReadTime":1600000300`) || value(m, "markread.event-time") != "1600000300000" ||
		value(m, "markread.replays") != "3" || value(m, "trace") != "a" || len(m.Headers) != 3 ||
		!m.Time.IsZero() {
		t.Errorf("%s %s %s", m.Key, m.Value, m.Headers)
	}
	if m := to.published[1]; string(m.Key) != "b|p" || value(m, "markread.replays") != "1" {
		t.Errorf("%s %s", m.Key, m.Headers)
	}
	last := from.partitions[2][1]
	if last.Value != nil || string(last.Key) != "a|p" || len(last.Headers) != 2 {
		t.Errorf("a resolution: %+v", last)
	}
	if got := states(t, s); got != "0:0 replayed, 0:1 replayed, 0:2 replayed, 1:0 replayed, 2:0 "+
		"replayed" {
		t.Error(got)
	}
	if _, plan := planned(t, from); plan.Letters() != 0 {
		t.Errorf("a second replay replays %v", plan.All())
	}
}

// A dead letter is resolved only after its event was acknowledged: whatever fails, nothing is lost.
func TestReplayLosesNothing(t *testing.T) {
	broken := errors.New("the connection broke")
	tooLarge := fmt.Errorf("refused: %w", kafka.MessageSizeTooLarge)
	for name, c := range map[string]struct {
		publish, resolve func(m event.Message) error
		done             Done
		err              string
		states           string
	}{
		"nothing is published": {
			publish: func(event.Message) error { return broken },
			done:    Done{Unresolved: 2}, err: "the connection broke",
			states: "0:0 open, 0:1 open, 1:0 open",
		},
		"one is not published": {
			publish: func(m event.Message) error {
				if string(m.Key) == "a|p" {
					return broken
				}
				return nil
			},
			done: Done{Letters: 1, Conversations: 1, Unresolved: 1}, err: "the connection broke",
			states: "0:0 open, 0:1 open, 1:0 replayed",
		},
		"one is too large": {
			publish: func(m event.Message) error {
				if string(m.Key) == "a|p" {
					return tooLarge
				}
				return nil
			},
			done:   Done{Letters: 1, Conversations: 1, TooLarge: 2},
			states: "0:0 open, 0:1 open, 1:0 replayed",
		},
		"one is rejected for its content": {
			publish: func(m event.Message) error {
				if string(m.Key) == "a|p" {
					return fmt.Errorf("refused: %w", kafka.InvalidRecord)
				}
				return nil
			},
			done:   Done{Letters: 1, Conversations: 1, Refused: 2},
			states: "0:0 open, 0:1 open, 1:0 replayed",
		},
		"a resolution is too large": {
			resolve: func(m event.Message) error {
				if value(m, "markread.resolves") == "1:0" {
					return tooLarge
				}
				return nil
			},
			done:   Done{Letters: 1, Conversations: 2, Unresolved: 2},
			err:    "resolutions of dead letters not written: refused",
			states: "0:0 open, 0:1 replayed, 1:0 open",
		},
		"no resolution is written": {
			resolve: func(event.Message) error { return broken },
			done:    Done{Conversations: 2, Unresolved: 3},
			err:     "resolutions of dead letters not written: the connection broke",
			states:  "0:0 open, 0:1 open, 1:0 open",
		},
		"one resolution of a covered dead letter is not written": {
			resolve: func(m event.Message) error {
				if value(m, "markread.resolves") == "0:0" {
					return broken
				}
				return nil
			},
			done:   Done{Letters: 2, Conversations: 2, Unresolved: 1},
			err:    "resolutions of dead letters",
			states: "0:0 open, 0:1 replayed, 1:0 replayed",
		},
		"one resolution is not written": {
			resolve: func(m event.Message) error {
				if value(m, "markread.resolves") == "0:1" {
					return broken
				}
				return nil
			},
			done:   Done{Letters: 1, Conversations: 2, Unresolved: 2},
			err:    "resolutions of dead letters",
			states: "0:0 open, 0:1 open, 1:0 replayed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var order []string
			from, to := newTopic(2), newTopic(1)
			from.shared, to.shared = &order, &order
			from.letter(0, "a", 100)
			from.letter(0, "a", 200)
			from.letter(1, "b", 100)
			from.publish, to.publish = c.resolve, c.publish
			s, plan := planned(t, from)
			done, err := s.Replay(t.Context(), plan, clock, to, from, nil)
			if done != c.done {
				t.Errorf("%+v, want %+v", done, c.done)
			}
			if got := fmt.Sprint(err); c.err == "" && err != nil || !strings.Contains(got, c.err) {
				t.Errorf("%v", err)
			}
			if order[0] != "publish" || slices.Contains(order[1:], "publish") {
				t.Errorf("the order: %v", order)
			}
			from.publish = nil
			if got := states(t, s); got != c.states {
				t.Errorf("%s, want %s", got, c.states)
			}
		})
	}
}

// A replay proceeds in parts that fit into memory. An interrupted replay resolves exactly what it
// has published.
func TestReplayInParts(t *testing.T) {
	from, to := newTopic(4), newTopic(1)
	const all = 2*workLetters + 10
	for i := range all {
		from.letter(i%4, "r"+strconv.Itoa(i), 100)
	}
	s, plan := planned(t, from)
	ctx, cancel := context.WithCancel(t.Context())
	// while the first part is published
	to.publish = func(event.Message) error { cancel(); return nil }
	done, err := s.Replay(ctx, plan, clock, to, from, nil)
	if !errors.Is(err, context.Canceled) ||
		done != (Done{Letters: workLetters, Conversations: workLetters}) {
		t.Errorf("%+v %v", done, err)
	}
	if n := len(find(t, s).Find(Replayed)); n != workLetters || len(to.published) != workLetters {
		t.Errorf("%d dead letters are resolved, %d events published", n, len(to.published))
	}
	var reported []int
	to.publish, from.scans = nil, nil
	_, plan = planned(t, from)
	done, err = s.Replay(t.Context(), plan, clock, to, from,
		func(d Done) { reported = append(reported, d.Letters) })
	if err != nil || done.Letters != all-workLetters ||
		!slices.Equal(reported, []int{workLetters, workLetters + 10}) {
		t.Errorf("%+v %v, reported %v", done, err, reported)
	}
	// Together the parts read little more than the remaining dead letters: each part reads only the
	// range of its own.
	if left := from.scans[1] + from.scans[2]; left > all-workLetters+8 {
		t.Errorf("%d offsets are read for %d dead letters", left, all-workLetters)
	}
}

// The dead letters of a conversation are read once, however many parts there are, and progress is
// reported up to the last one. If a replay is interrupted, what it published is resolved, and what
// that covers. Only what can't be resolved is left to the next replay, which publishes one event
// for each conversation.
func TestReplayOfFewConversations(t *testing.T) {
	from, to := newTopic(2), newTopic(1)
	const all, conversations = 3*workLetters + 10, 20
	for i := range all {
		from.letter(i/conversations%2, "r"+strconv.Itoa(i%conversations), int64(100+i))
	}
	s, plan := planned(t, from)
	resolved := 0
	from.publish = func(event.Message) error {
		if resolved++; resolved > conversations {
			return errors.New("the connection broke")
		}
		return nil
	}
	done, err := s.Replay(t.Context(), plan, clock, to, from, nil)
	if want := (Done{Letters: conversations, Conversations: conversations,
		Unresolved: all - conversations}); err == nil || done != want {
		t.Errorf("%+v %v", done, err)
	}
	from.publish, from.scans, to.published = nil, nil, nil
	_, plan = planned(t, from)
	ctx, cancel := context.WithCancel(t.Context())
	to.publish = func(event.Message) error { cancel(); return nil }
	var reported []int
	done, err = s.Replay(ctx, plan, clock, to, from,
		func(d Done) { reported = append(reported, d.Letters) })
	if want := (Done{Letters: all - conversations, Conversations: conversations}); err != nil ||
		done != want || len(to.published) != conversations {
		t.Errorf("%+v %v, %d published", done, err, len(to.published))
	}
	if !slices.IsSorted(reported) || reported[len(reported)-1] != all-conversations {
		t.Errorf("reported %v", reported)
	}
	read := int64(0)
	for _, offsets := range from.scans[1:] { // the first scan is Find's
		read += offsets
	}
	if read > all+2*conversations {
		t.Errorf("%d offsets are read for %d dead letters", read, all)
	}
}

// A replay that is interrupted before all events are published leaves no dead letter open that a
// published event covers.
func TestInterruptedReplayResolvesTheCovered(t *testing.T) {
	from, to := newTopic(1), newTopic(1)
	const all = workLetters + 10
	for i := range 2 * all {
		from.letter(0, "r"+strconv.Itoa(i%all), int64(100+i))
	}
	s, plan := planned(t, from)
	ctx, cancel := context.WithCancel(t.Context())
	// while the first part is published
	to.publish = func(event.Message) error { cancel(); return nil }
	done, err := s.Replay(ctx, plan, clock, to, from, nil)
	if want := (Done{Letters: 2 * workLetters, Conversations: workLetters}); !errors.Is(err,
		context.Canceled) || done != want {
		t.Errorf("%+v %v", done, err)
	}
	if _, plan := planned(t, from); len(plan.Events) != 10 || len(plan.Covered) != 10 {
		t.Errorf("%d events and %d covered dead letters are left", len(plan.Events),
			len(plan.Covered))
	}
}

// An interrupt during the last part changes nothing.
func TestInterruptedInTheLastPart(t *testing.T) {
	from, to := newTopic(1), newTopic(1)
	from.letter(0, "a", 100)
	s, plan := planned(t, from)
	ctx, cancel := context.WithCancel(t.Context())
	to.publish = func(event.Message) error { cancel(); return nil }
	if done, err := s.Replay(ctx, plan, clock, to, from, nil); err != nil || done.Letters != 1 {
		t.Errorf("%+v %v", done, err)
	}
}

// A request that hangs when a replay is interrupted is abandoned after shutdownGrace.
func TestInterruptedReplayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := newTopic(1)
		from.letter(0, "a", 100)
		s, plan := planned(t, from)
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		done, err := s.Replay(ctx, plan, clock, hanging{cancel}, from, nil)
		if took := time.Since(began); took != shutdownGrace || err == nil || done.Letters != 0 ||
			done.Unresolved != 1 {
			t.Errorf("%+v %v after %v", done, err, took)
		}
	})
}

// A publisher that fails as a whole has published nothing, and nothing is resolved.
func TestReplayWithoutPublisher(t *testing.T) {
	from := newTopic(1)
	from.letter(0, "a", 100)
	s, plan := planned(t, from)
	done, err := s.Replay(t.Context(), plan, clock, broken{}, from, nil)
	if got := states(t, s); err == nil || done != (Done{Unresolved: 1}) || got != "0:0 open" {
		t.Errorf("%+v %v; %s", done, err, got)
	}
}

type broken struct{ Publisher }

func (broken) Publish(context.Context, ...event.Message) error { return errors.New("no metadata") }

// A record other than the dead letter that was found is left alone: retention deleted that one, or
// the topic was recreated.
func TestGone(t *testing.T) {
	from, to := newTopic(1), newTopic(1)
	for i := range 5 {
		from.letter(0, "r"+strconv.Itoa(i), 100)
	}
	s, plan := planned(t, from)
	found := plan.All()
	records := from.partitions[0]
	records[1].Headers = nil                                              // not a dead letter
	records[2].Value = append(slices.Clone(records[2].Value), "     "...) // another dead letter
	records[3].Headers = append(slices.Clone(records[3].Headers),
		event.Header{Key: "markread.failed-at", Value: []byte("2026-03-01T02:48:00Z")})
	from.partitions[0] = records[1:]
	done, err := s.Replay(t.Context(), plan, clock, to, from, nil)
	if err != nil || done != (Done{Letters: 1, Conversations: 1, Gone: 4}) ||
		len(to.published) != 1 || string(to.published[0].Key) != "r4|p" {
		t.Errorf("%+v %v", done, err)
	}
	if done, err := s.Discard(t.Context(), found[:4], from, nil); err != nil ||
		done != (Done{Gone: 4}) {
		t.Errorf("%+v %v", done, err)
	}
}

// If the dead letter to publish for a conversation is gone, the others stay open: nothing was
// published for them.
func TestGoneEvent(t *testing.T) {
	from, to := newTopic(2), newTopic(1)
	from.letter(0, "a", 100)
	from.letter(1, "a", 200)
	s, plan := planned(t, from)
	from.partitions[1][0].Headers = nil
	done, err := s.Replay(t.Context(), plan, clock, to, from, nil)
	if got := states(t, s); err != nil || done != (Done{Gone: 2}) || got != "0:0 open" ||
		len(to.published) != 0 {
		t.Errorf("%+v %v; %s", done, err, got)
	}
}

type hanging struct{ begun func() }

func (h hanging) Publish(ctx context.Context, _ ...event.Message) error {
	h.begun()
	<-ctx.Done()
	return ctx.Err()
}

func (h hanging) PublishTo(ctx context.Context, _ int, messages ...event.Message) error {
	return h.Publish(ctx, messages...)
}

func TestDiscard(t *testing.T) {
	from := newTopic(2)
	for i := range 4 {
		from.letter(i%2, "a", int64(100+i))
	}
	s := &Store{Topic: from, Name: from.name}
	found := Oldest(find(t, s).Find(Open), 3)
	done, err := s.Discard(t.Context(), found, from, nil)
	if err != nil || done != (Done{Letters: 3}) {
		t.Errorf("%+v %v", done, err)
	}
	if got := states(t, s); got != "0:0 discarded, 0:1 discarded, 1:0 discarded, 1:1 open" {
		t.Error(got)
	}
}

// A resolution that is rejected is a failure, whatever the reason: the dead letter is not
// discarded.
func TestDiscardFails(t *testing.T) {
	from := newTopic(1)
	from.letter(0, "a", 100)
	from.publish = func(event.Message) error { return kafka.MessageSizeTooLarge }
	s := &Store{Topic: from, Name: from.name}
	done, err := s.Discard(t.Context(), find(t, s).Find(Open), from, nil)
	if !errors.Is(err, kafka.MessageSizeTooLarge) || done != (Done{Unresolved: 1}) {
		t.Errorf("%+v %v", done, err)
	}
}

// Dead letters are listed by the time when they failed, wherever they are. Missing ones are
// omitted.
func TestList(t *testing.T) {
	from := newTopic(3)
	for i, seconds := range []int{5, 1, 4, 1, 3, 2, 6} {
		from.letter(i%3, "r"+strconv.Itoa(i), 100, "markread.failed-at",
			time.Unix(1_600_000_000+int64(seconds), 0).UTC().Format(time.RFC3339))
	}
	s := &Store{Topic: from, Name: from.name}
	found := find(t, s).Find(AllStates()...)
	from.partitions[0] = from.partitions[0][1:] // deleted by retention
	var got []string
	err := s.List(t.Context(), found, func(l *Letter) error {
		got = append(got, l.ID.String())
		return nil
	})
	if want := "0:1 1:0 2:1 1:1 2:0 0:2"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, want %s; %v", got, want, err)
	}
}

func TestShow(t *testing.T) {
	from := newTopic(2)
	from.letter(0, "a", 100)
	from.letter(0, "b", 100)
	from.letter(0, "a", 200, "markread.replays", "3")
	from.append(0, ResolutionMessage(from.partitions[0][0], Discarded))
	from.append(0, ResolutionMessage(from.partitions[0][0], Replayed)) // too late
	from.append(0, event.Message{Value: []byte("foreign")})
	s := &Store{Topic: from, Name: from.name}
	v, err := s.Show(t.Context(), ID{Partition: 0, Offset: 0}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if v.State != Discarded || v.Resolution == nil || v.Resolution.Offset != 3 || *v.Report != "a" {
		t.Errorf("%+v", v)
	}
	if len(v.Others) != 1 || v.Others[0].Offset != 2 || v.Others[0].State != Parked {
		t.Errorf("%+v", v.Others)
	}
	for id, why := range map[ID]string{
		{Partition: 2, Offset: 0}: "the topic has 2 partitions",
		{Partition: 1, Offset: 0}: "partition 1 is empty",
		{Partition: 0, Offset: 9}: "partition 0 has the offsets 0 to 5",
		{Partition: 0, Offset: 3}: "that record is a resolution: dead letter 0:0 was discarded",
		{Partition: 0, Offset: 5}: "markread did not write that record",
	} {
		var none *NotFoundError
		if _, err := s.Show(t.Context(), id, 3); !errors.As(err, &none) ||
			!strings.HasPrefix(none.Why, why) {
			t.Errorf("%s: %v", id, err)
		}
	}
}
