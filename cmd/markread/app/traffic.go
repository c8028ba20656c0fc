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
	// TrafficUsers is how many people chat in `markread dev`.
	TrafficUsers = 300
	// readAfter is how long a message stays unread.
	readAfter = 1500 * time.Millisecond
	// trafficPause follows a failure: who breaks the local servers should see few warnings.
	trafficPause = 2 * time.Second
)

// traffic is a chat product in small: users send each other messages through the API and read them
// a moment later, which their backend publishes as events.
type traffic struct {
	chat      poster
	events    Publisher
	perSecond int
	log       zerolog.Logger
}

// poster is what traffic needs of an imclient.Client.
type poster interface {
	Post(ctx context.Context, command string, body any) (imclient.Response, error)
}

// message is one message of a conversation.
type message struct{ from, to string }

// read is a message that will be read.
type read struct {
	message
	at time.Time
}

// run sends and reads until ctx ends. It returns when both have stopped.
func (t *traffic) run(ctx context.Context) {
	if t.perSecond <= 0 {
		return
	}
	reads := make(chan read, t.perSecond*int(2*readAfter/time.Second)+TrafficUsers)
	var both sync.WaitGroup
	both.Go(func() { t.sendAll(ctx, reads) })
	both.Go(func() { t.readAll(ctx, reads) })
	both.Wait()
}

// sendAll sends perSecond messages a second and closes reads at the end. A few people are in most
// conversations, as everywhere.
func (t *traffic) sendAll(ctx context.Context, reads chan<- read) {
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
			if !t.failed(ctx, err, "sample message not sent") {
				return
			}
			continue
		}
		select {
		case reads <- read{m, time.Now().Add(readAfter)}:
		case <-ctx.Done():
			return
		}
	}
}

// readAll publishes an event for each message at its time. All wait equally long, in order.
func (t *traffic) readAll(ctx context.Context, reads <-chan read) {
	for r := range reads {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(r.at)):
		}
		batch := []event.Message{readEvent(r)}
		// Those that are a little early go along.
		for len(reads) > 0 && len(batch) < MaxBatch && time.Until(r.at) < 20*time.Millisecond {
			r = <-reads
			batch = append(batch, readEvent(r))
		}
		if err := t.events.Publish(ctx, batch...); err != nil &&
			!t.failed(ctx, err, "sample events not published") {
			return
		}
	}
}

// readEvent has the event time in a header, and with every other reader also in the value.
func readEvent(r read) event.Message {
	var readTime *int64
	if r.to[len(r.to)-1]%2 == 0 {
		readTime = new(r.at.Unix())
	}
	return WithEventTime(NewEvent(r.to, r.from, readTime, r.at),
		strconv.FormatInt(r.at.UnixMilli(), 10))
}

// send makes a real sendmsg call.
func (t *traffic) send(ctx context.Context, m message) error {
	type object map[string]any
	_, err := t.chat.Post(ctx, "openim/sendmsg", object{
		"SyncOtherMachine": 2, "From_Account": m.from, "To_Account": m.to,
		"MsgRandom": rand.Uint32(),
		"MsgBody":   []object{{"MsgType": "TIMTextElem", "MsgContent": object{"Text": "hello"}}}})
	return err
}

// failed reports a failure and pauses. It returns false when ctx has ended.
func (t *traffic) failed(ctx context.Context, err error, what string) bool {
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

// Publisher is what traffic and emit need of a kafkaclient.Publisher.
type Publisher interface {
	Publish(ctx context.Context, messages ...event.Message) error
}

// MaxBatch is how many lines are published at a time.
const MaxBatch = 1000

// NewEvent makes an event as a backend should: its key keeps a conversation in one partition.
func NewEvent(report, peer string, readTime *int64, now time.Time) event.Message {
	value, _ := json.Marshal(struct {
		Report   string `json:"Report_Account"`
		Peer     string `json:"Peer_Account"`
		ReadTime *int64 `json:"MsgReadTime,omitempty"`
	}{report, peer, readTime})
	return event.Message{Key: event.Key(report, peer), Value: value, Time: now}
}

// WithEventTime adds the header with the event time, in milliseconds since 1970.
func WithEventTime(m event.Message, ms string) event.Message {
	m.Headers = []event.Header{{Key: event.HeaderEventTime, Value: []byte(ms)}}
	return m
}
