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
	"golang.org/x/sync/errgroup"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Publisher publishes to the backfill topic. *kafkaclient.Publisher implements it.
type Publisher interface {
	Publish(ctx context.Context, messages ...event.Message) error
}

const (
	senders   = 3 // batches in flight; with only one, the slowest partition would delay all others
	saveEvery = time.Second
	// retryTime is how long a batch is retried, unless the run is stopped: a broker that has
	// crashed may be away for a minute.
	retryTime = 3 * time.Minute
)

// senderPool publishes batches, up to senders at a time, and tracks the position up to which all
// are acknowledged.
type senderPool struct {
	to       Publisher // nil: publish nothing
	progress *Progress
	// called with the new position, at most once per saveEvery
	save    func(Position, Times) error
	fail    context.CancelCauseFunc // called with each error
	log     zerolog.Logger
	stopped <-chan struct{} // closed when the run should stop
	group   errgroup.Group  // of at most senders goroutines
	warn    sync.Once       // for the warning that brokers accept no records

	mu       sync.Mutex
	inFlight []*batch // in order; the first is not acknowledged
	at       Position // everything before it is acknowledged
	times    Times    // of acknowledged records
	saved    time.Time
}

// send publishes a batch in the background. It waits until fewer than senders batches are in
// flight; the end of ctx ends those soon. Its error is the cause of that end.
func (s *senderPool) send(ctx context.Context, b *batch) error {
	s.mu.Lock()
	s.inFlight = append(s.inFlight, b)
	s.mu.Unlock()
	s.group.Go(func() error {
		if err := s.publish(ctx, b); err != nil {
			s.fail(err)
		}
		return nil
	})
	return context.Cause(ctx)
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
	b.messages, b.text = nil, nil // free memory now: b may have to wait for earlier batches
	for len(s.inFlight) > 0 && s.inFlight[0].acked {
		s.at, s.inFlight = s.inFlight[0].upTo, s.inFlight[1:]
	}
	if time.Since(s.saved) < saveEvery {
		return nil
	}
	s.saved = time.Now()
	return s.save(s.at, s.times)
}

// publishWithRetry publishes messages, and retries for retryTime while that may help. An attempt of
// the publisher takes up to some ten seconds.
func (s *senderPool) publishWithRetry(ctx context.Context, messages []event.Message) error {
	for began := time.Now(); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := s.to.Publish(ctx, messages...)
		switch {
		case err != nil && ctx.Err() != nil: // another sender failed, or shutdownLimit passed
			return context.Cause(ctx)
		case err == nil, time.Since(began) > retryTime, !kafkaclient.TransientPublishError(err):
			return err
		}
		select {
		case <-s.stopped:
			return err
		case <-time.After(time.Second):
		}
		s.warn.Do(func() {
			s.log.Warn().Err(err).Stringer("for", retryTime).
				Str("do", "wait for the brokers to recover, or stop with Ctrl-C").
				Msg("the brokers don't accept records; retrying")
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

// batch holds the records of a chunk's conversations.
type batch struct {
	now      time.Time
	messages []event.Message
	times    Times
	text     []byte // memory of keys and values
	acked    bool
	upTo     Position // no earlier row is needed once all batches up to this one are acknowledged
}

// add adds a record for a conversation. Its timestamp is the present: with an older one the topic's
// retention could delete it before it is applied. It has no event-time header: when the user read
// is not known, and the age of a backfilled event is how long it has waited.
func (b *batch) add(report, peer []byte, readTime int64) {
	b.times = b.times.union(Times{readTime, readTime})
	const most = 65 + 2*2*32 + 80 // the key, accounts of only escapes, and the rest of the value
	if cap(b.text)-len(b.text) < most {
		b.text = make([]byte, 0, 64<<10) // shared by many records: an allocation for each is slow
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

// appendString appends an account as a JSON string. Valid accounts are printable ASCII, in which
// only quotes and backslashes are escaped, as in Go.
func appendString(b, account []byte) []byte {
	if bytes.IndexByte(account, '"') >= 0 || bytes.IndexByte(account, '\\') >= 0 {
		return strconv.AppendQuote(b, string(account))
	}
	return append(append(append(b, '"'), account...), '"')
}

// Progress is the progress of a run; it may be read concurrently. Rows, Rejected and Untimed
// include the runs that this one resumes.
type Progress struct {
	Size, Read              atomic.Int64 // bytes; Size is 0 if not all inputs are files
	Rows, Rejected, Untimed atomic.Int64
	Records                 atomic.Int64 // of the rows read: published, in flight or in the window
	Published               atomic.Int64 // of Records; in a dry run: would be published
	Draining                atomic.Bool  // everything is read; the window is being published
}

// begin sets the initial values.
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

// count updates the counters of what was read.
func (p *Progress) count(at Position, records int64) {
	p.Rows.Store(at.Rows)
	p.Rejected.Store(at.Rejected)
	p.Untimed.Store(at.Untimed)
	p.Records.Store(records)
}
