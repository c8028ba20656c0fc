package backfill

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Publisher is what a run needs of a kafkaclient.Publisher.
type Publisher interface {
	// Publish returns when all messages are acknowledged, or with what some of them failed with.
	Publish(ctx context.Context, messages ...event.Message) error
}

const (
	// senders is how many shipments are out at the same time: with one, its slowest partition would keep all others waiting.
	senders   = 3
	saveEvery = time.Second
	// patience is how long a shipment is tried again when the brokers don't take it, as long as nobody stops the run: a broker that has crashed may be away
	// for a minute.
	patience = 3 * time.Minute
)

// shipment is a chunk on its way to the topic.
type shipment struct {
	number   int64
	messages []event.Message
	times    Times
	upTo     Mark // when this one and all before it are acknowledged, no row before it is needed any more
}

// shipping publishes shipments, some at a time, and knows up to where all of them are acknowledged.
type shipping struct {
	to       Publisher // nil: nothing is published
	progress *Progress
	save     func(Mark, Times) error // called with the new mark, not more than once in saveEvery
	fail     context.CancelCauseFunc
	log      zerolog.Logger
	stopped  <-chan struct{} // closed when the run is to end
	queue    chan shipment
	senders  sync.WaitGroup

	mu    sync.Mutex
	acked map[int64]Mark // beyond next
	next  int64          // the first that is not acknowledged
	at    Mark
	times Times // of what is acknowledged
	saved time.Time
	count int64 // shipments given to send

	warn sync.Once // of brokers that take nothing
}

// start begins where the state says. fail is told what goes wrong first.
func (s *shipping) start(ctx context.Context, from *State) {
	s.queue, s.acked, s.saved = make(chan shipment), map[int64]Mark{}, time.Now()
	s.at, s.times = from.At, from.Times
	for range senders {
		s.senders.Go(func() {
			for shipment := range s.queue {
				if err := s.publish(ctx, shipment); err != nil {
					s.fail(err)
				}
			}
		})
	}
}

// send gives a batch to a sender, and waits until one is free, or ctx ends.
func (s *shipping) send(ctx context.Context, b batch, upTo Mark) error {
	s.count++
	select {
	case s.queue <- shipment{s.count - 1, b.messages, b.times, upTo}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wait returns when nothing is out any more, with the mark up to which everything is acknowledged,
// and the times of what is.
func (s *shipping) wait() (Mark, Times) {
	close(s.queue)
	s.senders.Wait()
	return s.at, s.times
}

func (s *shipping) publish(ctx context.Context, shipment shipment) error {
	if s.to != nil {
		if err := s.persist(ctx, shipment.messages); err != nil {
			return err
		}
	}
	s.progress.Published.Add(int64(len(shipment.messages)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked[shipment.number] = shipment.upTo
	s.times = s.times.with(shipment.times)
	for {
		upTo, ok := s.acked[s.next]
		if !ok {
			break
		}
		delete(s.acked, s.next)
		s.next, s.at = s.next+1, upTo
	}
	if time.Since(s.saved) < saveEvery {
		return nil
	}
	s.saved = time.Now()
	return s.save(s.at, s.times)
}

// persist publishes messages, again and again while that may help. Each try takes the publisher some ten seconds.
func (s *shipping) persist(ctx context.Context, messages []event.Message) error {
	for began := time.Now(); ; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err := s.to.Publish(ctx, messages...)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			return cause // another shipment has failed, or the time to stop is over
		}
		if err == nil || time.Since(began) > patience || !kafkaclient.MayPass(err) {
			return err
		}
		select {
		case <-s.stopped:
			return err
		case <-time.After(time.Second):
		}
		s.warn.Do(func() {
			s.log.Warn().Err(err).Msgf("the brokers don't take records; trying again for %s: they may come back, and Ctrl-C stops", patience)
		})
		var some kafkaclient.PublishErrors
		if errors.As(err, &some) {
			left := make([]event.Message, 0, len(some))
			for i, m := range messages {
				if some[i] != nil {
					left = append(left, m)
				}
			}
			messages = left
		}
	}
}

// batch makes records of conversations.
type batch struct {
	now      time.Time
	messages []event.Message
	times    Times
	text     []byte // what is left for keys and values
}

// add adds the event of a conversation. Its time is the record's, that is now: an old one would have the topic's retention delete the record
// before it is applied. There is no header with an event time either: when the user read is not known, only up to when, and the age of a
// backfilled event is how long it waits.
func (b *batch) add(report, peer []byte, readTime int64) {
	b.times = b.times.with(Times{readTime, readTime})
	const most = 65 + 2*2*32 + 80 // the key, accounts of escapes only, and the rest of the value
	if cap(b.text)-len(b.text) < most {
		b.text = make([]byte, 0, 64<<10) // one for many: each of its own would cost more than all the rest
	}
	begin := len(b.text)
	text := event.AppendKey(b.text, report, peer)
	value := len(text)
	text = appendString(append(text, `{"Report_Account":`...), report)
	text = appendString(append(text, `,"Peer_Account":`...), peer)
	text = append(strconv.AppendInt(append(text, `,"MsgReadTime":`...), readTime, 10), '}')
	b.text = text
	b.messages = append(b.messages, event.Message{Key: text[begin:value:value], Value: text[value:len(text):len(text)], Time: b.now})
}

// appendString appends an account as JSON. Valid ones are printable ASCII, of which only quotes and
// backslashes need an escape, the one that Go has, too.
func appendString(b, account []byte) []byte {
	if bytes.IndexByte(account, '"') >= 0 || bytes.IndexByte(account, '\\') >= 0 {
		return strconv.AppendQuote(b, string(account))
	}
	return append(append(append(b, '"'), account...), '"')
}
