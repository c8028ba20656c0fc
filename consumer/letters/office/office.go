// Package office is the dead-letter office: it finds letters on a dead-letter topic, reads them, replays them and discards them. Commands and
// console share it.
//
// What a letter is and what has to be written for it is package letters' to know; here is only what is read and written, in which order. Nobody is
// asked for leave here, and nothing is shown.
//
// It promises:
//   - A letter is resolved only when its event is acknowledged by all replicas of the topic that it is replayed to. So a replay that is interrupted
//     anywhere, killed even, loses no letter. At worst some are replayed once more: then a worker finds their T covered, or calls once too often.
//   - What it reads ends where the topic ended when it began to read: a replay does not meet its own letters.
//   - Memory is bounded: 56 bytes for each letter of the topic, about 170 for each that is replayed, and one part (see listBytes, workBytes) of the
//     records themselves.
//
// Non-obvious:
//   - Two replays at the same time publish and resolve twice. The first resolution of a letter counts; the second publication is one of those that
//     a worker collapses, or finds covered.
//   - A partition may end, for us, before its end: at a batch with a wrong checksum, or where its leader is gone. A letter before that may be
//     resolved by a record behind it. So it is neither replayed nor discarded unless it is named: see Known. Records of others that can't be decoded
//     hide nothing: markread wrote none of them.
//   - Letters of one conversation are published as one event, and those that it covers are resolved when all events are published. A replay that is
//     killed before leaves them open, and the next publishes the newest of them: a T that is covered already. One that is interrupted resolves them.
package office

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"markread/consumer"
	"markread/consumer/letters"
)

// Topic reads a dead-letter topic; a *consumer.Client does.
type Topic interface {
	Extent(ctx context.Context, topic string) (consumer.Extent, error)
	Scan(ctx context.Context, extent consumer.Extent, each func(consumer.Record) error) ([]consumer.UnreadRange, error)
}

// Publisher publishes to a topic; a *consumer.Publisher does.
type Publisher interface {
	Publish(ctx context.Context, messages ...consumer.Message) error
	PublishTo(ctx context.Context, partition int, messages ...consumer.Message) error
}

// Office works on the letters of one topic.
type Office struct {
	Topic Topic
	Name  string // of the topic
	// Reading is called before the topic is read to the end of the extent, and says whom to tell of each record, and of the end. nil: nobody.
	Reading func(consumer.Extent) (each func(consumer.Record), end func())

	partitions int // of the topic, since Find or Show
	unread     unread
}

// Find reads the topic to its present end into the fold, as far as it can be read: see Unread. If it can't read a single record because of that, it
// returns an error.
func (o *Office) Find(ctx context.Context, fold *letters.Fold) error {
	extent, err := o.Topic.Extent(ctx, o.Name)
	if err != nil {
		return err
	}
	o.partitions, o.unread = len(extent.Partitions), unread{}
	watch := func(consumer.Record) {}
	if o.Reading != nil {
		each, end := o.Reading(extent)
		defer end()
		watch = each
	}
	nothing := true
	err = o.scan(ctx, extent, func(r consumer.Record) error {
		nothing = false
		watch(r)
		if r.Damage != nil {
			o.unread.damage(r)
			return nil
		}
		fold.Add(r)
		return nil
	})
	if unread, _ := o.Unread(); err == nil && nothing && len(unread) > 0 {
		first := slices.MinFunc(unread, func(a, b Unread) int { return cmp.Compare(a.From, b.From) }) // unknown bounds say why best
		err = fmt.Errorf("topic %q, partition %d: %w", o.Name, first.Partition, first.Err)
	}
	return err
}

// scan reads a part of the topic, and keeps what can't be read.
func (o *Office) scan(ctx context.Context, extent consumer.Extent, each func(consumer.Record) error) error {
	ranges, err := o.Topic.Scan(ctx, extent, each)
	for _, u := range ranges {
		o.unread.fail(u)
	}
	return err
}

// Bounds of the records that are in memory at a time: of letters that are listed, and of those that are worked on. Work has smaller parts, so that it
// can be stopped soon and says often how far it is.
const (
	listLetters = 250_000
	listBytes   = 32 << 20
	workLetters = 5_000
	workBytes   = 8 << 20
)

// List gives letters that Find found to each, in the order in which they are given. What is not there any more as it was found, or can't be read,
// is left out.
//
// They are read in the order of the topic, which is another; so they are kept until their turn comes.
func (o *Office) List(ctx context.Context, found []letters.Found, each func(*letters.Letter) error) error {
	for part := range letters.Parts(found, listLetters, listBytes) {
		records, err := o.read(ctx, part)
		if err != nil {
			return err
		}
		for i, r := range records {
			if r == nil {
				continue
			}
			l := letters.Parse(*r, part[i].State)
			if err := each(&l); err != nil {
				return err
			}
		}
	}
	return nil
}

// read returns the records of letters, in their order; nil: it is not there any more as it was found, or can't be read.
func (o *Office) read(ctx context.Context, part []letters.Found) ([]*consumer.Record, error) {
	index := make(map[letters.ID]int, len(part))
	for i, l := range part {
		index[l.ID] = i
	}
	records := make([]*consumer.Record, len(part))
	err := o.scan(ctx, letters.Around(part, o.Name, o.partitions), func(r consumer.Record) error {
		if i, wanted := index[letters.IDOf(r)]; wanted && part[i].Is(r) {
			records[i] = &r
		}
		return nil
	})
	return records, err
}

// Done is what has been done to letters.
type Done struct {
	Letters       int // resolved
	Conversations int // records published for them
	TooLarge      int // letters that stay open: the topic takes no record of that size
	Refused       int // letters that stay open: the topic refuses what is in the record
	Changed       int // letters that stay open: they can't be replayed any more
	Gone          int // letters that are not there any more as they were found, or that such a letter covers
	Unread        int // letters that stay open: they can't be read any more, or such a letter covers them
	Unresolved    int // letters to which something was done, or may have been, and that stay open, as far as is known
}

// add adds what was done to another part.
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

// grace is how long a part that was begun may take after ctx has ended: what is published should be resolved.
const grace = 5 * time.Second

// finishing returns a context that ends some time after ctx does.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-later.Done():
		}
	})
	return later, func() { stop(); cancel() }
}

// work does something to all letters that are still there, part by part, until it fails or ctx ends; a part that was begun is finished. progress, which
// may be nil, is told after each.
func (o *Office) work(
	ctx context.Context, found []letters.Found, do func(context.Context, []letters.Found, []consumer.Record) (Done, error), progress func(Done),
) (Done, error) {
	var done Done
	for part := range letters.Parts(found, workLetters, workBytes) {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		read, err := o.read(ctx, part)
		if err != nil {
			return done, err
		}
		var there []letters.Found
		var records []consumer.Record
		for i, r := range read {
			switch {
			case r != nil:
				there, records = append(there, part[i]), append(records, *r)
			case o.unread.has(part[i].ID):
				done.Unread++
			default:
				done.Gone++
			}
		}
		finish, cancel := finishing(ctx)
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

// Replay publishes the events of a plan, and resolves them as replayed, and then the letters that they cover. now judges them; its result is the time of
// that moment.
//
// What the topic refuses for what it is, or as too large, stays open, and is no error. Any other failure ends it.
func (o *Office) Replay(ctx context.Context, plan letters.Plan, now func() time.Time, events, resolutions Publisher, progress func(Done)) (Done, error) {
	var published, tooLarge, refused []letters.Found
	resolving := true
	done, err := o.work(ctx, plan.Events, func(ctx context.Context, part []letters.Found, records []consumer.Record) (done Done, err error) {
		var places []int // of the messages, in the part
		var messages []consumer.Message
		at := now()
		for i, r := range records {
			if _, obstacle := letters.Judge(r, at); obstacle != letters.Replayable {
				done.Changed++
				continue
			}
			places, messages = append(places, i), append(messages, part[i].Publication(r))
		}
		failed, err := failuresOf(events.Publish(ctx, messages...))
		var replayed []consumer.Record
		for n, i := range places {
			switch cause := failed[n]; {
			case cause == nil && err == nil:
				published, replayed = append(published, part[i]), append(replayed, records[i])
			case consumer.IsTooLarge(cause):
				tooLarge = append(tooLarge, part[i])
				done.TooLarge++
			case consumer.IsRefusedRecord(cause):
				refused = append(refused, part[i])
				done.Refused++
			default:
				done.Unresolved++
			}
		}
		done.Conversations = len(replayed)
		if err == nil {
			err = first(failed, func(err error) bool { return !consumer.IsTooLarge(err) && !consumer.IsRefusedRecord(err) })
		}
		resolved, resolveErr := resolve(ctx, replayed, letters.Replayed, resolutions)
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
		left := len(plan.Covered) - len(covered) - large - unwanted
		if done.Unread > 0 {
			done.Unread += left
		} else {
			done.Gone += left
		}
	}
	if !resolving {
		done.Unresolved += len(covered)
		return done, err
	}
	// Also when the events came to no good end: of a letter that stays open the next replay publishes a T that is lower than the one before.
	finish, cancel := finishing(ctx)
	defer cancel()
	more, moreErr := o.resolveAll(finish, covered, letters.Replayed, resolutions, func(more Done) {
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

// Discard resolves letters as discarded.
func (o *Office) Discard(ctx context.Context, found []letters.Found, resolutions Publisher, progress func(Done)) (Done, error) {
	return o.resolveAll(ctx, found, letters.Discarded, resolutions, progress)
}

func (o *Office) resolveAll(
	ctx context.Context, found []letters.Found, how letters.State, resolutions Publisher, progress func(Done),
) (Done, error) {
	return o.work(ctx, found, func(ctx context.Context, _ []letters.Found, records []consumer.Record) (done Done, err error) {
		done.Letters, err = resolve(ctx, records, how, resolutions)
		done.Unresolved = len(records) - done.Letters
		return done, err
	}, progress)
}

// resolve writes the resolutions of letters into their partitions, and returns how many are acknowledged.
func resolve(ctx context.Context, records []consumer.Record, how letters.State, resolutions Publisher) (resolved int, err error) {
	byPartition := map[int][]consumer.Message{}
	for _, r := range records {
		byPartition[r.Partition] = append(byPartition[r.Partition], letters.Resolve(r, how))
	}
	type answer struct {
		written int
		err     error
	}
	answers := make(chan answer)
	for partition, messages := range byPartition {
		go func() { // ended by PublishTo, which ctx bounds; waited for below
			failed, err := failuresOf(resolutions.PublishTo(ctx, partition, messages...))
			if err != nil {
				answers <- answer{0, err}
				return
			}
			answers <- answer{len(messages) - len(failed), first(failed, func(error) bool { return true })}
		}()
	}
	for range byPartition {
		a := <-answers
		resolved += a.written
		if err == nil && a.err != nil {
			err = fmt.Errorf("resolutions of letters are not written: %w", a.err)
		}
	}
	return resolved, err
}

// failuresOf takes a publisher's error apart; err: none of the messages was published for this reason.
func failuresOf(published error) (failed consumer.PublishErrors, err error) {
	if published == nil || errors.As(published, &failed) {
		return failed, nil
	}
	return nil, published
}

// first is the first failure that matters; nil: there is none.
func first(failed consumer.PublishErrors, matters func(error) bool) error {
	var indexes []int
	for i, err := range failed {
		if matters(err) {
			indexes = append(indexes, i)
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	return failed[slices.Min(indexes)]
}
