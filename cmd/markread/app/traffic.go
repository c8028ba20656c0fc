package app

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"markread/consumer/event"
	"markread/imclient"

	"github.com/rs/zerolog"
)

const (
	// TrafficUsers is the number of users who chat in `markread dev`.
	TrafficUsers = 300
	// readAfter is how long a message stays unread.
	readAfter = 1500 * time.Millisecond
	// trafficPause is the pause after a failure, so that a broken local server causes few warnings.
	trafficPause = 2 * time.Second
)

// traffic simulates a small chat product: users send each other messages through the API and read
// them a moment later; their backend publishes the reads as events.
type traffic struct {
	im        apiClient
	events    Publisher
	perSecond int
	log       zerolog.Logger
}

// apiClient is the part of imclient.Client that traffic uses.
type apiClient interface {
	Post(ctx context.Context, command string, body any) (imclient.Response, error)
}

// message is one message of a conversation.
type message struct{ from, to string }

// pendingRead is a message that will be read at a certain time.
type pendingRead struct {
	message
	at time.Time
}

// run sends and reads messages until ctx ends. It returns when both loops have stopped.
func (t *traffic) run(ctx context.Context) {
	if t.perSecond <= 0 {
		return
	}
	reads := make(chan pendingRead, t.perSecond*int(2*readAfter/time.Second)+TrafficUsers)
	var both sync.WaitGroup
	both.Go(func() { t.sendAll(ctx, reads) })
	both.Go(func() { t.readAll(ctx, reads) })
	both.Wait()
}

// sendAll sends perSecond messages a second and closes reads at the end. As in real chats, a few
// users are in most conversations (a Zipf distribution).
func (t *traffic) sendAll(ctx context.Context, reads chan<- pendingRead) {
	defer close(reads)
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	popular := rand.NewZipf(random, 1.5, 3, TrafficUsers-1)
	every := time.NewTicker(time.Second / time.Duration(t.perSecond))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		to := popular.Uint64()
		from := (to + 1 + popular.Uint64()%(TrafficUsers-1)) % TrafficUsers
		m := message{user(from), user(to)}
		if err := t.send(ctx, m); err != nil {
			if !t.logAndPause(ctx, err, "sample message not sent") {
				return
			}
			continue
		}
		select {
		case reads <- pendingRead{m, time.Now().Add(readAfter)}:
		case <-ctx.Done():
			return
		}
	}
}

// readAll publishes an event for each message when it is due. All messages wait equally long, so
// they are due in order.
func (t *traffic) readAll(ctx context.Context, reads <-chan pendingRead) {
	for r := range reads {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(r.at)):
		}
		batch := []event.Message{readEvent(r)}
		// Include reads that are due within 20 ms.
		for len(reads) > 0 && len(batch) < MaxBatch && time.Until(r.at) < 20*time.Millisecond {
			r = <-reads
			batch = append(batch, readEvent(r))
		}
		if err := t.events.Publish(ctx, batch...); err != nil &&
			!t.logAndPause(ctx, err, "sample events not published") {
			return
		}
	}
}

// readEvent returns the event of a read. Its event time is in a header and, for every other reader,
// also in the value as MsgReadTime.
func readEvent(r pendingRead) event.Message {
	var readTime *int64
	if r.to[len(r.to)-1]%2 == 0 {
		readTime = new(r.at.Unix())
	}
	return WithEventTime(NewEvent(r.to, r.from, readTime, r.at),
		strconv.FormatInt(r.at.UnixMilli(), 10))
}

// send sends a message with a real sendmsg call.
func (t *traffic) send(ctx context.Context, m message) error {
	type object map[string]any
	_, err := t.im.Post(ctx, "openim/sendmsg", object{
		"SyncOtherMachine": 2, "From_Account": m.from, "To_Account": m.to,
		"MsgRandom": rand.Uint32(),
		"MsgBody":   []object{{"MsgType": "TIMTextElem", "MsgContent": object{"Text": "hello"}}}})
	return err
}

// logAndPause logs a failure and pauses. It returns false if ctx has ended.
func (t *traffic) logAndPause(ctx context.Context, err error, what string) bool {
	if ctx.Err() != nil {
		return false
	}
	t.log.Warn().Err(err).Msg(what)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(trafficPause):
		return true
	}
}

func user(n uint64) string { return fmt.Sprintf("user-%03d", n) }

// Publisher is the part of kafkaclient.Publisher that traffic and emit use.
type Publisher interface {
	Publish(ctx context.Context, messages ...event.Message) error
}

// MaxBatch is the largest number of events that are published at a time.
const MaxBatch = 1000

// NewEvent returns an event as a backend should write it: its key keeps a conversation in one
// partition. Without a readTime the event has no MsgReadTime.
func NewEvent(report, peer string, readTime *int64, now time.Time) event.Message {
	value, _ := json.Marshal(struct {
		Report   string `json:"Report_Account"`
		Peer     string `json:"Peer_Account"`
		ReadTime *int64 `json:"MsgReadTime,omitempty"`
	}{report, peer, readTime})
	return event.Message{Key: event.Key(report, peer), Value: value, Time: now}
}

// WithEventTime adds the event-time header; ms is in milliseconds since 1970.
func WithEventTime(m event.Message, ms string) event.Message {
	m.Headers = []event.Header{{Key: event.HeaderEventTime, Value: []byte(ms)}}
	return m
}
