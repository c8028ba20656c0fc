package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/cmd/markread/cli/config"
	"markread/consumer/backfill"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// fakeTopic is a publisher that records the messages it is given.
type fakeTopic struct {
	messages []event.Message
	calls    int
	fail     error
}

func (p *fakeTopic) Publish(_ context.Context, messages ...event.Message) error {
	p.calls++
	if p.fail != nil {
		return p.fail
	}
	p.messages = append(p.messages, messages...)
	return nil
}

// emitLines runs input through an emitter.
func emitLines(t *testing.T, to *fakeTopic, input io.Reader) (*emitter, string, error) {
	t.Helper()
	var log bytes.Buffer
	e := &emitter{to: to, topic: "t", log: zerolog.New(&log)}
	err := e.copy(t.Context(), input)
	return e, log.String(), err
}

func TestEmitLines(t *testing.T) {
	to := &fakeTopic{}
	e, log, err := emitLines(t, to, strings.NewReader(strings.Join([]string{
		`{"Report_Account":"alice","Peer_Account":"bob"}`,
		``,
		`  {"Report_Account":"alice","Peer_Account":"bob","MsgReadTime":"1700000000","more":1}  ` +
			"\r",
		`{"Report_Account":"alice"}`,
		`not JSON`,
		`{"Report_Account":"alice","Peer_Account":"bob","MsgReadTime":1700000000000}`,
		strings.Repeat(" ", backfill.MaxLine) + `{"Report_Account":"alice","Peer_Account":"bob"}`,
		`{"Report_Account":"carol","Peer_Account":"bob"}`, // no newline at the end
	}, "\n")))
	if err != nil || e.published != 3 || e.rejected != 4 {
		t.Fatalf("published %d, rejected %d, %v\n%s", e.published, e.rejected, err, log)
	}
	for i, want := range []struct{ key, value string }{
		{"alice|bob", `{"Report_Account":"alice","Peer_Account":"bob"}`},
		{"alice|bob", `{"Report_Account":"alice","Peer_Account":"bob","MsgReadTime":"1700000000",` +
			`"more":1}`},
		{"carol|bob", `{"Report_Account":"carol","Peer_Account":"bob"}`},
	} {
		if m := to.messages[i]; string(m.Key) != want.key || string(m.Value) != want.value ||
			m.Time.IsZero() {
			t.Errorf("message %d: key %s, value %s, time %s", i, m.Key, m.Value, m.Time)
		}
	}
	for _, want := range []string{`"line":4,`, `"line":5,`, `"line":6,"reason":"`,
		"looks like milliseconds",
		`"line":7,"reason":"longer than`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	if strings.Count(log, "\n") != 4 {
		t.Errorf("not one line for each rejected one:\n%s", log)
	}
}

// Editors write a byte order mark before the first line; concatenated files have more before other
// lines.
func TestEmitSkipsByteOrderMarks(t *testing.T) {
	line := "\uFEFF" + `{"Report_Account":"a","Peer_Account":"b"}` + "\n"
	to := &fakeTopic{}
	e, _, err := emitLines(t, to, strings.NewReader(line+line))
	if err != nil || e.published != 2 ||
		string(to.messages[1].Value) != strings.TrimPrefix(strings.TrimSpace(line), "\uFEFF") {
		t.Errorf("published %d, rejected %d, %v", e.published, e.rejected, err)
	}
}

func TestEmitManyLinesTogether(t *testing.T) {
	to := &fakeTopic{}
	var input strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&input, "{\"Report_Account\":\"u%d\",\"Peer_Account\":\"p\"}\n", i)
	}
	e, _, err := emitLines(t, to, strings.NewReader(input.String()))
	if err != nil || e.published != 5000 || len(to.messages) != 5000 {
		t.Fatalf("published %d, %v", e.published, err)
	}
	for i, m := range to.messages {
		if want := fmt.Sprintf("u%d|p", i); string(m.Key) != want {
			t.Fatalf("message %d is %s: the order changed", i, m.Key)
		}
	}
}

// A line is published once it is read, without waiting for more.
func TestEmitDoesNotWaitForMore(t *testing.T) {
	reader, writer := io.Pipe()
	got := make(chan event.Message)
	e := &emitter{to: sendingTopic(got), topic: "t", log: zerolog.Nop()}
	done := make(chan error, 1)
	go func() { done <- e.copy(t.Context(), reader) }()
	for range 3 {
		if _, err := io.WriteString(writer,
			`{"Report_Account":"a","Peer_Account":"b"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		<-got
	}
	writer.Close()
	if err := <-done; err != nil || e.published != 3 {
		t.Errorf("published %d, %v", e.published, err)
	}
}

// sendingTopic is a publisher that sends each message to a channel.
type sendingTopic chan<- event.Message

func (p sendingTopic) Publish(_ context.Context, messages ...event.Message) error {
	for _, m := range messages {
		p <- m
	}
	return nil
}

func TestEmitFailures(t *testing.T) {
	line := `{"Report_Account":"a","Peer_Account":"b"}` + "\n"
	broken := errors.New("broken")
	e, _, err := emitLines(t, &fakeTopic{fail: broken}, strings.NewReader(line))
	if !errors.Is(err, broken) || e.published != 0 {
		t.Errorf("refused: published %d, %v", e.published, err)
	}
	// One message of a batch is refused: the rest counts as published.
	e = &emitter{to: &fakeTopic{fail: kafkaclient.PublishErrors{1: broken}}, topic: "t",
		log: zerolog.Nop()}
	if err := e.publish(t.Context(), make([]event.Message, 5)); err == nil || e.published != 4 ||
		!strings.Contains(err.Error(), "1 event not published to t") {
		t.Errorf("partly refused: published %d, %v", e.published, err)
	}
	e, _, err = emitLines(t, &fakeTopic{},
		io.MultiReader(strings.NewReader(line), brokenReader{broken}))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("input breaks: published %d, %v", e.published, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stuck, writer := io.Pipe()
	defer writer.Close()
	if err := (&emitter{to: &fakeTopic{}, topic: "t", log: zerolog.Nop()}).
		copy(ctx, stuck); err == nil ||
		!strings.Contains(err.Error(), "interrupted") {
		t.Errorf("stopped while it waits for input: %v", err)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

func TestEventOfFlags(t *testing.T) {
	c := emitCommand{Report: new("alice"), Peer: new(`b"ob`)}
	c.Kafka.Brokers, c.Topic.Topic = []string{"localhost:9092"}, "mark-read"
	event := func() event.Message {
		t.Helper()
		m, err := c.validate(config.NewEnvironment(nil))
		if err != nil {
			t.Fatal(err)
		}
		return *m
	}
	m := event()
	if string(m.Key) != `alice|b"ob` ||
		string(m.Value) != `{"Report_Account":"alice","Peer_Account":"b\"ob"}` ||
		time.Since(m.Time) > time.Minute || m.Headers != nil {
		t.Errorf("%s %s %v %v", m.Key, m.Value, m.Time, m.Headers)
	}
	c.ReadTime, c.EventTime = new("1699999999"), new("1699999998500")
	m = event()
	if !strings.Contains(string(m.Value), `"MsgReadTime":1699999999`) || len(m.Headers) != 1 ||
		m.Headers[0].Key != "markread.event-time" || string(m.Headers[0].Value) != "1699999998500" {
		t.Errorf("%s %v", m.Value, m.Headers)
	}
	if e := decode(m); e.Invalid != nil || e.ReadTime != 1_699_999_999 ||
		e.EventTime.UnixMilli() != 1_699_999_998_500 {
		t.Errorf("the worker reads %+v", e)
	}
}
