package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/backfill"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/format"

	"github.com/rs/zerolog"
)

// emitCommand publishes events.
type emitCommand struct {
	Report    *string `placeholder:"ACCOUNT" help:"Who has read; without it JSON lines are read from standard input."`
	Peer      *string `placeholder:"ACCOUNT" help:"Whose messages were read."`
	ReadTime  *string `placeholder:"SECONDS" help:"All up to this second since 1970 is read; default: the event time."`
	EventTime *string `placeholder:"MS" help:"When it was read, in milliseconds since 1970; default: now."`

	Kafka config.KafkaFlags `embed:"" group:"Kafka:"`
	Topic config.TopicFlag  `embed:"" group:"Kafka:"`
	Log   config.LogFlags   `embed:"" group:"Log:"`
}

func (*emitCommand) Help() string {
	return `Each line of standard input is one JSON object. Lines that are not valid events are
logged with their number and not published; then the exit status is 3.

    markread emit --brokers localhost:9092 --report alice --peer bob
    markread emit --brokers localhost:9092 < events.ndjson` + variablesHelp
}

func (c *emitCommand) run(ctx context.Context, p *process) error {
	single, err := c.validate(p.env)
	if err != nil {
		return err
	}
	p.begin(c.Log)
	kafka, err := c.Kafka.Open(p.env, p.log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	to := kafka.Publisher(c.Topic.Topic)
	if single != nil {
		if err := to.Publish(ctx, *single); err != nil {
			return fmt.Errorf("not published to %s: %w", c.Topic.Topic, publishCause(err))
		}
		_, err := fmt.Fprintf(p.stdout, "published 1 event to %s\n", c.Topic.Topic)
		return err
	}
	if terminal.Is(p.stdin) {
		p.log.Info().Msg("reading events from the terminal, one JSON object a line; Ctrl-D ends")
	}
	e := emitter{to: to, topic: c.Topic.Topic, log: p.log}
	err = e.copy(ctx, p.stdin)
	if _, werr := fmt.Fprintf(p.stdout, "published %s to %s, rejected %s\n",
		format.Count(e.published, "event"), e.topic, format.Count(e.rejected, "line")); err == nil {
		err = werr
	}
	if err == nil && e.rejected > 0 {
		return &rejectedError{"rejected " + format.Count(e.rejected, "line") + e.hint()}
	}
	return err
}

// validate returns the event that the flags describe; nil if events come from standard input.
func (c *emitCommand) validate(env config.Environment) (*event.Message, error) {
	err := cmp.Or(c.Kafka.Check(env), c.Topic.Check())
	switch {
	case err != nil:
		return nil, err
	case c.Report == nil && c.Peer != nil:
		return nil, config.Usagef("--peer needs --report")
	case c.Report != nil && c.Peer == nil:
		return nil, config.Usagef("--report needs --peer")
	case c.Report == nil && c.ReadTime != nil:
		return nil, config.Usagef("--read-time is for --report and --peer; a line has MsgReadTime")
	case c.Report == nil && c.EventTime != nil:
		return nil, config.Usagef("--event-time is for --report and --peer")
	case c.Report == nil:
		return nil, nil
	}
	readTime, err := checkReadFlags(*c.Report, *c.Peer, c.ReadTime)
	if err != nil {
		return nil, err
	}
	m := app.NewEvent(*c.Report, *c.Peer, readTime, time.Now())
	if c.EventTime != nil {
		m, err = checkEventTime(m, *c.EventTime)
	}
	return &m, err
}

// emitter publishes events from lines of input to a topic.
type emitter struct {
	to                  app.Publisher
	topic               string
	log                 zerolog.Logger
	published, rejected int
}

// hint explains the input format if no line was a valid event, because it is probably the wrong
// input.
func (e *emitter) hint() string {
	if e.published > 0 {
		return ""
	}
	return ", all of them: each must be one JSON object, such as " +
		`{"Report_Account":"alice","Peer_Account":"bob"}` + "; `markread backfill` reads CSV, too"
}

// line is one line of input with its number, from 1.
type line struct {
	number  int
	text    []byte
	tooLong bool
}

// copy publishes the lines of the input until it or ctx ends. It publishes lines that have already
// been read together, and never waits for more.
func (e *emitter) copy(ctx context.Context, input io.Reader) error {
	lines := make(chan line, app.MaxBatch)
	failed := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() { failed <- readLines(input, lines, done) }()
	for {
		var batch []event.Message
		select {
		case <-ctx.Done():
			return fmt.Errorf("interrupted after %s", format.Count(e.published, "event"))
		case l, ok := <-lines:
			for ; ok; l, ok = <-lines {
				batch = e.add(batch, l)
				if len(lines) == 0 || len(batch) == app.MaxBatch {
					break
				}
			}
			if err := e.publish(ctx, batch); err != nil {
				return err
			}
			if !ok {
				return <-failed
			}
		}
	}
}

// add appends the line's event to the batch, or logs why the line is not valid.
func (e *emitter) add(batch []event.Message, l line) []event.Message {
	text := bytes.TrimSpace(l.text)
	m := event.Message{Value: text, Time: time.Now()}
	decoded := decode(m)
	reason := decoded.Invalid
	if l.tooLong {
		reason = fmt.Errorf("longer than %d bytes", backfill.MaxLine)
	}
	if reason != nil {
		e.rejected++
		e.log.Warn().Int("line", l.number).Str("reason", reason.Error()).Msg("rejected")
		return batch
	}
	m.Key = event.Key(decoded.Report, decoded.Peer)
	return append(batch, m)
}

func (e *emitter) publish(ctx context.Context, batch []event.Message) error {
	if len(batch) == 0 {
		return nil
	}
	err, failed := e.to.Publish(ctx, batch...), 0
	if err != nil {
		failed = len(batch)
		if some, ok := errors.AsType[kafkaclient.PublishErrors](err); ok {
			failed = len(some)
		}
		err = fmt.Errorf("%s not published to %s: %w", format.Count(failed, "event"), e.topic,
			publishCause(err))
	}
	e.published += len(batch) - failed
	return err
}

// publishCause returns the error of the first message that failed.
func publishCause(err error) error {
	if some, ok := errors.AsType[kafkaclient.PublishErrors](err); ok && len(some) > 0 {
		err = some[slices.Min(slices.Collect(maps.Keys(some)))]
	}
	if missing, ok := errors.AsType[*kafkaclient.MissingTopicError](err); ok {
		return fmt.Errorf("topic %q does not exist; `markread run --create-topics` creates it",
			missing.Topics[0])
	}
	return err
}

// readLines sends the input's lines, without empty lines, until the input ends or done is closed;
// then it closes lines. Of a line that is too long it sends only the number.
func readLines(input io.Reader, lines chan<- line, done <-chan struct{}) error {
	defer close(lines)
	err := backfill.EachLine(input, func(number int64, text []byte, tooLong bool) bool {
		l := line{number: int(number), tooLong: tooLong}
		if !tooLong {
			l.text = bytes.Clone(text)
		}
		select {
		case lines <- l:
			return true
		case <-done:
			return false
		}
	})
	if err != nil {
		return fmt.Errorf("standard input, %w", err)
	}
	return nil
}

// decode decodes and checks a message as the worker does.
func decode(m event.Message) event.Event {
	return event.Decode(event.Record{Key: m.Key, Value: m.Value, Headers: m.Headers, Time: m.Time},
		time.Now())
}

// checkReadFlags checks --report, --peer and --read-time by the worker's own rules. It returns the
// read time, nil if readTime is nil, or a usage error that names the invalid flag.
func checkReadFlags(report, peer string, readTime *string) (*int64, error) {
	now := time.Now()
	text := strconv.FormatInt(now.Unix(), 10)
	if readTime != nil {
		text = *readTime
	}
	if err := checkLength("--read-time", text); err != nil {
		return nil, err
	}
	t, err := event.CheckFields([]byte(report), []byte(peer), []byte(text), now)
	switch {
	case errors.Is(err, event.ErrNoTime):
		return nil, config.Usagef("--read-time must not be empty")
	case err != nil:
		return nil, flagError(err)
	case readTime == nil:
		return nil, nil
	}
	return &t, nil
}

// checkEventTime adds the event time of --event-time to a message, or returns a usage error. An
// event time in the future is valid only with a read time: without one, the event time is the read
// time.
func checkEventTime(m event.Message, text string) (event.Message, error) {
	if err := checkLength("--event-time", text); err != nil {
		return m, err
	}
	m = app.WithEventTime(m, text)
	if err := decode(m).Invalid; err != nil {
		return m, flagError(err)
	}
	return m, nil
}

// checkLength refuses a value that is too long for a time in any format. The value is not shown: it
// may be a secret that was meant for another flag.
func checkLength(flag, text string) error {
	if len(text) > len("2006-01-02T15:04:05.000000+08:00") {
		return config.Usagef("%s: a value of %d characters is not a time", flag, len(text))
	}
	return nil
}

// flagError returns a usage error with the reason why an event is invalid; the text names the flag
// instead of the field.
func flagError(reason error) error {
	text := reason.Error()
	for _, part := range []struct{ begins, flag string }{
		{"Report_Account", "--report"}, {"Peer_Account", "--peer"}, {"MsgReadTime", "--read-time"},
		{"the header " + event.HeaderEventTime + " is malformed:", "--event-time:"},
		{"the event time (there is no MsgReadTime)", "--event-time"},
	} {
		if rest, ok := strings.CutPrefix(text, part.begins); ok {
			return config.Usagef("%s%s", part.flag, rest)
		}
	}
	return config.Usagef("%s", text)
}
