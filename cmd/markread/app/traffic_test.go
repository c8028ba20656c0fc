package app

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/imclient"
)

// fakeIM is an IM API that records the commands it receives.
type fakeIM struct {
	mu   sync.Mutex
	sent []string
	fail error
}

func (c *fakeIM) Post(_ context.Context, command string, body any) (imclient.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return imclient.Response{}, c.fail
	}
	c.sent = append(c.sent, command)
	return imclient.Response{}, nil
}

// fakePublisher records the messages it is given.
type fakePublisher struct {
	messages []event.Message
	broken   error
}

func (b *fakePublisher) Publish(_ context.Context, messages ...event.Message) error {
	b.messages = append(b.messages, messages...)
	return b.broken
}

func TestTraffic(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		im, to := &fakeIM{}, &fakePublisher{}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		begin := time.Now()
		(&traffic{im: im, events: to, perSecond: 20, log: zerolog.Nop()}).run(ctx)
		if sent := len(im.sent); sent < 1190 || sent > 1200 {
			t.Errorf("%d messages in 60 s", sent)
		}
		// All messages but those of the last 1.5 s have been read.
		if read := len(to.messages); read < 1150 || read > 1180 {
			t.Errorf("%d events in 60 s", read)
		}
		conversations, withTime := map[string]int{}, 0
		for _, m := range to.messages {
			e := event.Decode(event.Record{Key: m.Key, Value: m.Value, Headers: m.Headers,
				Time: m.Time}, time.Now())
			switch {
			case e.Invalid != nil:
				t.Fatalf("%s: %v", m.Value, e.Invalid)
			case string(e.Report) == string(e.Peer):
				t.Fatalf("%s talks to nobody else", e.Report)
			case string(m.Key) != string(event.Key(e.Report, e.Peer)):
				t.Fatalf("key %s of %s", m.Key, m.Value)
			case e.EventTime.Before(begin.Add(readAfter)) || e.EventTime.After(time.Now()):
				t.Fatalf("event time %s", e.EventTime)
			}
			conversations[string(m.Key)]++
			if strings.Contains(string(m.Value), "MsgReadTime") {
				withTime++
			}
		}
		if len(conversations) < 200 || len(conversations) > 1000 {
			t.Errorf("%d conversations: want some that repeat, and not always the same",
				len(conversations))
		}
		if withTime < 200 || withTime > 1000 {
			t.Errorf("%d of %d events have MsgReadTime; both forms should occur", withTime,
				len(to.messages))
		}
	})
}

// Failures are logged now and then, not for every event.
func TestTrafficLogsFailuresSparingly(t *testing.T) {
	for name, c := range map[string]struct {
		im *fakeIM
		to *fakePublisher
	}{
		"API":   {&fakeIM{fail: errors.New("broken")}, &fakePublisher{}},
		"Kafka": {&fakeIM{}, &fakePublisher{broken: errors.New("broken")}},
	} {
		brokertest.Bubble(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			var log strings.Builder
			(&traffic{im: c.im, events: c.to, perSecond: 1000, log: zerolog.New(&log)}).run(ctx)
			if lines := strings.Count(log.String(), "\n"); lines < 20 || lines > 40 {
				t.Errorf("%s: %d warnings in a minute", name, lines)
			}
		})
	}
}

func TestNoTraffic(t *testing.T) {
	im := &fakeIM{}
	(&traffic{im: im, events: &fakePublisher{}, log: zerolog.Nop()}).run(t.Context())
	if len(im.sent) != 0 {
		t.Errorf("%d messages", len(im.sent))
	}
}
