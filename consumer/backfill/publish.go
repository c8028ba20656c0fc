package backfill

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Publisher is what a run needs of a kafkaclient.Publisher.
type Publisher interface {
	Publish(ctx context.Context, messages ...event.Message) error
}

const (
	senders   = 3 // batches in flight: with one, the slowest partition would delay all others
	saveEvery = time.Second
	// patience is how long a batch is retried, unless the run is stopped: a broker that has crashed
	// may be away for a minute.
	retryTime = 3 * time.Minute
)

// shipping publishes batches, some at a time, and knows up to where all of them are acknowledged.
type senderPool struct {
	to       Publisher // nil: nothing is published
	progress *Progress
	// called with the new mark, not more than once in saveEvery
	save    func(Position, Times) error
	fail    context.CancelCauseFunc // called with each error
	log     zerolog.Logger
	stopped <-chan struct{} // closed when the run is to end
	queue   chan *batch
	warn    sync.Once // of brokers that take nothing

	mu       sync.Mutex
	inFlight []*batch // the oldest is not acknowledged
	at       Position // up to which all are acknowledged
	times    Times    // of what is acknowledged
	saved    time.Time
}

// send gives a batch to a sender, and waits until one is free, or ctx ends.
func (s *senderPool) enqueue(ctx context.Context, b *batch) error {
	s.mu.Lock()
	s.inFlight = append(s.inFlight, b)
	s.mu.Unlock()
	select {
	case s.queue <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run publishes batches of the queue until it is closed.
func (s *senderPool) run(ctx context.Context) {
	for b := range s.queue {
		if err := s.publish(ctx, b); err != nil {
			s.fail(err)
		}
	}
}

func (s *senderPool) publish(ctx context.Context, b *batch) error {
	if s.to != nil {
		if err := s.publishWithRetry(ctx, b.messages); err != nil {
			return err
		}
	}
	s.progress.Published.Add(int64(len(b.messages)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times, b.acked = s.times.union(b.times), true
	b.messages, b.text = nil, nil // it may have to wait for those before it
	for len(s.inFlight) > 0 && s.inFlight[0].acked {
		s.at, s.inFlight = s.inFlight[0].upTo, s.inFlight[1:]
	}
	if time.Since(s.saved) < saveEvery {
		return nil
	}
	s.saved = time.Now()
	return s.save(s.at, s.times)
}

// persist publishes messages, and retries while that may help. Each attempt takes the publisher
// some ten seconds.
func (s *senderPool) publishWithRetry(ctx context.Context, messages []event.Message) error {
	for began := time.Now(); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := s.to.Publish(ctx, messages...)
		switch {
		case err != nil && ctx.Err() != nil: // another has failed, or time is up
			return context.Cause(ctx)
		case err == nil, time.Since(began) > retryTime, !kafkaclient.MayPass(err):
			return err
		}
		select {
		case <-s.stopped:
			return err
		case <-time.After(time.Second):
		}
		s.warn.Do(func() {
			s.log.Warn().Err(err).Msgf("the brokers don't take records; trying again for %s: "+
				"they may come back, and Ctrl-C stops", retryTime)
		})
		var some kafkaclient.PublishErrors
		if errors.As(err, &some) {
			var left []event.Message
			for i, m := range messages {
				if some[i] != nil {
					left = append(left, m)
				}
			}
			messages = left
		}
	}
}

// batch is the records of a chunk's conversations.
type batch struct {
	now      time.Time
	messages []event.Message
	times    Times
	text     []byte // for keys and values
	acked    bool
	upTo     Position // no row before it is needed when this and all before are acknowledged
}

// add adds the event of a conversation. Its record has the present time: with an old one the
// topic's retention could delete it before it is applied. It has no event-time header either: when
// the user read is not known, and the age of a backfilled event is how long it waits.
func (b *batch) add(report, peer []byte, readTime int64) {
	b.times = b.times.union(Times{readTime, readTime})
	const most = 65 + 2*2*32 + 80 // the key, accounts of escapes only, and the rest of the value
	if cap(b.text)-len(b.text) < most {
		b.text = make([]byte, 0, 64<<10) // for many: each of its own would be slow
	}
	begin := len(b.text)
	text := event.AppendKey(b.text, report, peer)
	value := len(text)
	text = appendString(append(text, `{"Report_Account":`...), report)
	text = appendString(append(text, `,"Peer_Account":`...), peer)
	text = append(strconv.AppendInt(append(text, `,"MsgReadTime":`...), readTime, 10), '}')
	b.text = text
	b.messages = append(b.messages, event.Message{
		Key: text[begin:value:value], Value: text[value:len(text):len(text)], Time: b.now})
}

// appendString appends an account as JSON. Valid ones are printable ASCII, of which only quotes and
// backslashes need an escape, the same as Go's.
func appendString(b, account []byte) []byte {
	if bytes.IndexByte(account, '"') >= 0 || bytes.IndexByte(account, '\\') >= 0 {
		return strconv.AppendQuote(b, string(account))
	}
	return append(append(append(b, '"'), account...), '"')
}

// Progress is how far a run is; it may be read while it runs. Rows, Rejected and Untimed include
// those of the runs that this one resumes.
type Progress struct {
	Size, Read              atomic.Int64 // bytes of the files; Size is 0 if not all are files
	Rows, Rejected, Untimed atomic.Int64
	Records                 atomic.Int64 // of the rows read: published, in flight, or in the window
	Published               atomic.Int64 // of them; those that would be, if nothing is
	Draining                atomic.Bool  // everything is read, the window is being published
}

// begin sets what a run begins with.
func (p *Progress) begin(inputs []Input, at Position) {
	size := int64(0)
	for i, in := range inputs {
		if in.stdin != nil {
			size = 0
			break
		}
		if size += in.Identity.Size; i < at.Input {
			p.Read.Add(in.Identity.Size)
		}
	}
	p.Size.Store(size)
	p.count(at, 0)
}

// count notes what was read.
func (p *Progress) count(at Position, records int64) {
	p.Rows.Store(at.Rows)
	p.Rejected.Store(at.Rejected)
	p.Untimed.Store(at.Untimed)
	p.Records.Store(records)
}
