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
//   - Memory is bounded: 40 bytes for each letter of the topic, 60 for each that was found, and one part (see listBytes, workBytes) of the records
//     themselves.
//
// Non-obvious:
//   - Two replays at the same time publish and resolve twice. The first resolution of a letter counts; the second publication is one of those that
//     a worker collapses, or finds covered.
//   - Letters of one conversation are published as one event, so they have to be in one part: they are next to each other in a letters.Plan.
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
	Scan(ctx context.Context, extent consumer.Extent, each func(consumer.Record) error) error
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
}

// Find reads the topic to its present end into the fold.
func (o *Office) Find(ctx context.Context, fold *letters.Fold) error {
	extent, err := o.Topic.Extent(ctx, o.Name)
	if err != nil {
		return err
	}
	o.partitions = len(extent.Partitions)
	watch := func(consumer.Record) {}
	if o.Reading != nil {
		each, end := o.Reading(extent)
		defer end()
		watch = each
	}
	return o.Topic.Scan(ctx, extent, func(r consumer.Record) error {
		watch(r)
		fold.Add(r)
		return nil
	})
}

// Bounds of what is in memory at a time: of letters that are listed, briefly, and of records that are worked on. Work has smaller parts, so that it can
// be stopped soon and says often how far it is.
const (
	listLetters = 250_000
	listBytes   = 32 << 20
	workLetters = 5_000
	workBytes   = 8 << 20
)

// List gives letters that Find found to each, in the order in which they are given, without their headers. What retention has deleted meanwhile is left
// out.
//
// They are read in the order of the topic, which is another; so they are kept until their turn comes.
func (o *Office) List(ctx context.Context, found []letters.Found, each func(*letters.Letter) error) error {
	for part := range letters.BriefParts(found, listLetters, listBytes) {
		shelf := letters.NewShelf(len(part))
		err := o.scan(ctx, part, func(i int, r consumer.Record) {
			l := letters.Parse(r, part[i].State)
			shelf.Put(i, &l)
		})
		if err != nil {
			return err
		}
		for i := range part {
			if l, ok := shelf.Take(i); ok {
				if err := each(&l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// scan reads the records of some letters, in any order; i is the letter's place among them.
func (o *Office) scan(ctx context.Context, part []letters.Found, each func(i int, r consumer.Record)) error {
	index := make(map[letters.ID]int, len(part))
	for i, l := range part {
		index[l.ID] = i
	}
	return o.Topic.Scan(ctx, letters.Around(part, o.Name, o.partitions), func(r consumer.Record) error {
		if i, wanted := index[letters.IDOf(r)]; wanted {
			each(i, r)
		}
		return nil
	})
}

// Done is what has been done to letters.
type Done struct {
	Letters       int // resolved
	Conversations int // records published for them
	TooLarge      int // letters that stay open: the topic takes no record of that size
	Changed       int // letters that stay open: they can't be replayed any more
	Gone          int // letters that retention has deleted meanwhile
	Unresolved    int // letters that were replayed, or may have been, and stay open: they would be replayed once more
}

// add adds what was done to another part.
func (d *Done) add(more Done) {
	d.Letters += more.Letters
	d.Conversations += more.Conversations
	d.TooLarge += more.TooLarge
	d.Changed += more.Changed
	d.Gone += more.Gone
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

// work does something to all letters, part by part, until it fails or ctx ends; a part that was begun is finished. progress, which may be nil, is
// told after each.
func (o *Office) work(
	ctx context.Context, found []letters.Found, do func(context.Context, []consumer.Record) (Done, error), progress func(Done),
) (Done, error) {
	var done Done
	for part := range letters.Parts(found, workLetters, workBytes) {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		records := make([]*consumer.Record, len(part))
		if err := o.scan(ctx, part, func(i int, r consumer.Record) { records[i] = &r }); err != nil {
			return done, err
		}
		var there []consumer.Record
		for _, r := range records {
			if r != nil {
				there = append(there, *r)
			}
		}
		done.Gone += len(part) - len(there)
		finish, cancel := finishing(ctx)
		more, err := do(finish, there)
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

// Replay publishes the letters of a plan, and resolves them as replayed. now judges them; its result is the time of that moment.
//
// What the topic refuses as too large stays open, and is no error. Any other failure ends it.
func (o *Office) Replay(ctx context.Context, plan letters.Plan, now func() time.Time, events, resolutions Publisher, progress func(Done)) (Done, error) {
	return o.work(ctx, plan.Letters, func(ctx context.Context, records []consumer.Record) (done Done, err error) {
		publications, stuck := letters.Collapse(records, now())
		done.Changed = len(stuck)
		messages := make([]consumer.Message, len(publications))
		for i, p := range publications {
			messages[i] = p.Message
		}
		failed, err := failuresOf(events.Publish(ctx, messages...))
		var replayed []consumer.Record
		for i, p := range publications {
			switch cause := failed[i]; {
			case cause == nil && err == nil:
				done.Conversations++
				replayed = append(replayed, p.Letters...)
			case consumer.IsTooLarge(cause):
				done.TooLarge += len(p.Letters)
			default:
				done.Unresolved += len(p.Letters)
			}
		}
		if err == nil {
			err = worst(failed)
		}
		resolved, resolveErr := resolve(ctx, replayed, letters.Replayed, resolutions)
		done.Letters = resolved
		done.Unresolved += len(replayed) - resolved
		if err != nil && resolveErr != nil {
			err = fmt.Errorf("%w; %w", err, resolveErr)
		}
		return done, cmp.Or(err, resolveErr)
	}, progress)
}

// Discard resolves letters as discarded.
func (o *Office) Discard(ctx context.Context, found []letters.Found, resolutions Publisher, progress func(Done)) (Done, error) {
	return o.work(ctx, found, func(ctx context.Context, records []consumer.Record) (done Done, err error) {
		done.Letters, err = resolve(ctx, records, letters.Discarded, resolutions)
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
			answers <- answer{len(messages) - len(failed), worst(failed)}
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

// worst is the first failure that is more than a record that is too large; nil: there is none.
func worst(failed consumer.PublishErrors) error {
	var indexes []int
	for i, err := range failed {
		if !consumer.IsTooLarge(err) {
			indexes = append(indexes, i)
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	return failed[slices.Min(indexes)]
}
