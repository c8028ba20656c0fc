package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Topic reads a dead-letter topic. *kafkaclient.Client implements it.
type Topic interface {
	TopicOffsets(ctx context.Context, topic string) (kafkaclient.TopicOffsets, error)
	Scan(ctx context.Context, extent kafkaclient.TopicOffsets,
		each func(event.Record) error) ([]kafkaclient.UnreadRange, error)
}

// Publisher publishes to a topic. *kafkaclient.Publisher implements it.
type Publisher interface {
	Publish(ctx context.Context, messages ...event.Message) error
	PublishTo(ctx context.Context, partition int, messages ...event.Message) error
}

// Store finds, lists, replays and discards the dead letters of one topic. It is not safe for
// concurrent use.
type Store struct {
	Topic Topic
	Name  string // the topic's name
	// OnFind, if non-nil, is called when Find begins, with the offsets that it will read. It
	// returns each, called for each record, and end, called at the end.
	OnFind func(kafkaclient.TopicOffsets) (each func(event.Record), end func())

	partitions int // number of partitions, set by Find
	unread     unread
}

// Find reads the topic up to its present end into the index, as far as it can be read: see Unread.
// If it has filled the index before, it reads only the records that were appended since; but all of
// them if the topic was recreated or retention has deleted some. It returns an error if parts are
// unreadable and no record could be read.
func (s *Store) Find(ctx context.Context, index *Index) error {
	extent, err := s.Topic.TopicOffsets(ctx, s.Name)
	if err != nil {
		return err
	}
	s.partitions = len(extent.Partitions)
	if !index.continues(extent) {
		index.reset()
	}
	if err = s.find(ctx, extent, index); errors.Is(err, errRecreated) {
		index.reset()
		err = s.find(ctx, extent, index)
	}
	return err
}

// errRecreated means that another record has the offset of the last one that was read.
var errRecreated = errors.New("the topic was recreated")

// find reads into the index what it lacks of the topic.
func (s *Store) find(ctx context.Context, extent kafkaclient.TopicOffsets, index *Index) error {
	if s.unread.ranges = nil; len(index.logs) == 0 {
		s.unread = unread{}
	}
	rest, known := index.rest(extent), maps.Clone(index.logs)
	watch := func(event.Record) {}
	if s.OnFind != nil {
		each, end := s.OnFind(rest)
		defer end()
		watch = each
	}
	nothing := true
	err := s.scan(ctx, rest, func(r event.Record) error {
		nothing = false
		if log, again := known[r.Partition]; again {
			if delete(known, r.Partition); fingerprintOf(r) != log.last {
				return errRecreated
			}
			return nil
		}
		index.logs[r.Partition] = readLog{extent.Partitions[r.Partition].First, fingerprintOf(r)}
		watch(r)
		if r.Damage != nil {
			s.unread.damage(r)
			return nil
		}
		index.Add(r)
		return nil
	})
	ranges := slices.Collect(maps.Values(s.unread.ranges))
	if err == nil && nothing && len(ranges) > 0 {
		first := slices.MinFunc(ranges, // an unknown offset (-1) has the most useful reason
			func(a, b kafkaclient.UnreadRange) int {
				return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Partition, b.Partition))
			})
		err = fmt.Errorf("topic %q, partition %d: %w", s.Name, first.Partition, first.Err)
	}
	return err
}

// scan reads a range of offsets, and remembers what can't be read.
func (s *Store) scan(ctx context.Context, extent kafkaclient.TopicOffsets,
	each func(event.Record) error) error {
	ranges, err := s.Topic.Scan(ctx, extent, each)
	for _, u := range ranges {
		s.unread.fail(u)
	}
	return err
}

// Bounds of the records that are in memory at a time. Replay and Discard use smaller parts, so that
// they stop soon and report progress often.
const (
	listLetters = 250_000
	listBytes   = 32 << 20
	workLetters = 5_000
	workBytes   = 8 << 20
)

// List calls each for the dead letters of found, a result of Find, in the given order. It omits
// the ones that have changed since or can't be read. It reads them in topic order, so it keeps each in
// memory until its turn.
func (s *Store) List(ctx context.Context, found []Entry, each func(*Letter) error) error {
	for part := range parts(found, listLetters, listBytes) {
		records, err := s.read(ctx, part)
		if err != nil {
			return err
		}
		for i, r := range records {
			if r != nil {
				l := Parse(*r, part[i].State)
				if err := each(&l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// read returns the records of dead letters, in the same order. An element is nil if the dead letter
// has changed or can't be read.
func (s *Store) read(ctx context.Context, part []Entry) ([]*event.Record, error) {
	index := make(map[ID]int, len(part))
	for i, l := range part {
		index[l.ID] = i
	}
	records := make([]*event.Record, len(part))
	err := s.scan(ctx, rangesOf(part, s.Name, s.partitions), func(r event.Record) error {
		if i, wanted := index[IDOf(r)]; wanted && part[i].Is(r) {
			records[i] = &r
		}
		return nil
	})
	return records, err
}

// Done counts what an operation did.
type Done struct {
	Letters       int // resolved dead letters
	Conversations int // records published for them
	// Dead letters that stay open:
	TooLarge int // the target topic rejects a record of that size
	Refused  int // the target topic rejects the content of the record
	Changed  int // they can't be replayed any more
	Unread   int // they, or the one that covers them, can't be read any more
	// they were published, or may have been published or resolved; as far as is known they are open
	Unresolved int

	Gone int // dead letters that are missing or changed, or whose covering one is
}

// add adds the counts of another part.
func (d *Done) add(more Done) {
	d.Letters += more.Letters
	d.Conversations += more.Conversations
	d.TooLarge += more.TooLarge
	d.Refused += more.Refused
	d.Changed += more.Changed
	d.Gone += more.Gone
	d.Unread += more.Unread
	d.Unresolved += more.Unresolved
}

// shutdownGrace is how long a part in progress may continue after ctx has ended: published events
// should be resolved.
const shutdownGrace = 5 * time.Second

// withGrace returns a context that ends shutdownGrace after ctx ends.
func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(shutdownGrace, cancel) })
	return later, func() { stop(); cancel() }
}

// forEachPart reads the dead letters of found part by part and calls do with the ones that are
// unchanged, until do fails or ctx ends. A part in progress is finished. progress, if non-nil, is
// called after each part.
func (s *Store) forEachPart(
	ctx context.Context, found []Entry,
	do func(context.Context, []Entry, []event.Record) (Done, error), progress func(Done),
) (Done, error) {
	var done Done
	for part := range parts(found, workLetters, workBytes) {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		read, err := s.read(ctx, part)
		if err != nil {
			return done, err
		}
		var there []Entry
		var records []event.Record
		for i, r := range read {
			switch {
			case r != nil:
				there, records = append(there, part[i]), append(records, *r)
			case s.unread.has(part[i].ID):
				done.Unread++
			default:
				done.Gone++
			}
		}
		finish, cancel := withGrace(ctx)
		more, err := do(finish, there, records)
		cancel()
		done.add(more)
		if progress != nil {
			progress(done)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Replay publishes the events of a plan, resolves them as replayed, and then resolves the dead
// letters that they cover. A dead letter that can't be replayed at the time now, or that the target
// topic rejects for its size or content, stays open; that is not an error. Any other failure ends
// the replay.
func (s *Store) Replay(ctx context.Context, plan Plan, now func() time.Time, events,
	resolutions Publisher, progress func(Done)) (Done, error) {
	var published, tooLarge, refused []Entry
	resolving := true
	done, err := s.forEachPart(ctx, plan.Events,
		func(ctx context.Context, part []Entry, records []event.Record) (done Done, err error) {
			var places []int // index of each message in part
			var messages []event.Message
			at := now()
			for i, r := range records {
				if _, obstacle := CheckReplay(r, at); obstacle != Replayable {
					done.Changed++
					continue
				}
				places, messages = append(places, i), append(messages, part[i].ReplayMessage(r))
			}
			failed, all := failuresOf(events.Publish(ctx, messages...))
			err = all
			var replayed []event.Record
			for n, i := range places {
				switch cause := failed[n]; {
				case cause == nil && all == nil:
					published, replayed = append(published, part[i]), append(replayed, records[i])
				case kafkaclient.IsTooLarge(cause):
					tooLarge = append(tooLarge, part[i])
					done.TooLarge++
				case kafkaclient.IsRefusedRecord(cause):
					refused = append(refused, part[i])
					done.Refused++
				default:
					done.Unresolved++
					err = cmp.Or(err, cause)
				}
			}
			done.Conversations = len(replayed)
			resolved, resolveErr := resolve(ctx, replayed, Replayed, resolutions)
			resolving = resolveErr == nil
			done.Letters = resolved
			done.Unresolved += len(replayed) - resolved
			if err != nil && resolveErr != nil {
				err = fmt.Errorf("%w; %w", err, resolveErr)
			}
			return done, cmp.Or(err, resolveErr)
		}, progress)
	covered := plan.CoveredBy(published)
	if err == nil {
		large, unwanted := len(plan.CoveredBy(tooLarge)), len(plan.CoveredBy(refused))
		done.TooLarge += large
		done.Refused += unwanted
		if left := len(plan.Covered) - len(covered) - large - unwanted; done.Unread > 0 {
			done.Unread += left
		} else {
			done.Gone += left
		}
	}
	if !resolving {
		done.Unresolved += len(covered)
		return done, err
	}
	// Also after a failure: of a dead letter that stays open the next replay would publish a T that
	// is lower than the one that was published.
	finish, cancel := withGrace(ctx)
	defer cancel()
	more, moreErr := s.resolveAll(finish, covered, Replayed, resolutions, func(more Done) {
		if progress != nil {
			more.add(done)
			progress(more)
		}
	})
	if moreErr != nil {
		more.Unresolved = len(covered) - more.Letters - more.Gone - more.Unread
	}
	done.add(more)
	return done, cmp.Or(err, moreErr)
}

// Discard resolves dead letters as discarded.
func (s *Store) Discard(ctx context.Context, found []Entry, resolutions Publisher,
	progress func(Done)) (Done, error) {
	return s.resolveAll(ctx, found, Discarded, resolutions, progress)
}

func (s *Store) resolveAll(
	ctx context.Context, found []Entry, how State, resolutions Publisher, progress func(Done),
) (Done, error) {
	return s.forEachPart(ctx, found,
		func(ctx context.Context, _ []Entry, records []event.Record) (done Done, err error) {
			done.Letters, err = resolve(ctx, records, how, resolutions)
			done.Unresolved = len(records) - done.Letters
			return done, err
		}, progress)
}

// resolve writes the resolutions of dead letters to their partitions, and returns how many were
// acknowledged.
func resolve(ctx context.Context, records []event.Record, how State,
	resolutions Publisher) (resolved int, err error) {
	byPartition := map[int][]event.Message{}
	for _, r := range records {
		byPartition[r.Partition] = append(byPartition[r.Partition], ResolutionMessage(r, how))
	}
	var written atomic.Int64
	var partitions errgroup.Group
	for partition, messages := range byPartition {
		partitions.Go(func() error { // ended by PublishTo, which ctx bounds
			failed, err := failuresOf(resolutions.PublishTo(ctx, partition, messages...))
			if err == nil {
				written.Add(int64(len(messages) - len(failed)))
			}
			for _, i := range slices.Sorted(maps.Keys(failed)) {
				err = cmp.Or(err, failed[i])
			}
			return err
		})
	}
	if err = partitions.Wait(); err != nil {
		err = fmt.Errorf("resolutions of dead letters not written: %w", err)
	}
	return int(written.Load()), err
}

// failuresOf splits a publisher's error into the failures of single messages and err, the reason
// why no message was published.
func failuresOf(published error) (failed kafkaclient.PublishErrors, err error) {
	if published == nil || errors.As(published, &failed) {
		return failed, nil
	}
	return nil, published
}
