package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"markread/cmd/markread/cli/config"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker/format"
	"markread/worker/groupstatus"
)

// deadLettersCommand is the commands about dead letters.
type deadLettersCommand struct {
	Ls      lettersLsCommand      `cmd:"" help:"Count dead letters by class and code, or list them as JSON lines."`
	Show    lettersShowCommand    `cmd:"" help:"Show one letter, with what to do about it; or its event, to be mended and emitted."`
	Replay  lettersReplayCommand  `cmd:"" help:"Publish the events of open letters again."`
	Discard lettersDiscardCommand `cmd:"" help:"Give letters up."`
}

// officeFlags is what every command about dead letters needs.
type officeFlags struct {
	Kafka              config.KafkaFlags `embed:"" group:"Kafka:"`
	config.ReplaysFlag `embed:"" group:"Worker:"`
	Log                config.LogFlags `embed:"" group:"Log:"`
}

func (f *officeFlags) validate(env config.Environment) error {
	return config.FirstError(func() error { return f.Kafka.Check(env) }, f.ReplaysFlag.Check)
}

// deadLetters is the office of one command, and the client that it uses.
type deadLetters struct {
	*deadletter.Store
	kafka  *kafkaclient.Client
	p      *process
	warned map[string]bool // of parts that can't be read
}

// open begins: what is configured is right. It waits for a broker at most 8 s. The caller closes the client.
func (f *officeFlags) open(ctx context.Context, p *process, topic string) (*deadLetters, error) {
	options, err := f.Kafka.ClientOptions(p.env)
	if err != nil {
		return nil, err
	}
	p.begin(f.Log)
	f.Kafka.Warn(p.env, p.log)
	p.takeStandardLog(nil)
	options.Log = p.log
	kafka, err := kafkaclient.New(options)
	if err != nil {
		return nil, config.Usagef("--brokers: %v", err)
	}
	if err := kafka.Ping(ctx); err != nil {
		kafka.Close()
		return nil, plainly(ctx, err)
	}
	o := &deadletter.Store{Topic: kafka, Name: topic, Reading: newProgress(p.stderr, "reading the dead letters").reading}
	return &deadLetters{o, kafka, p, map[string]bool{}}, nil
}

// warn names each part of the topic that can't be read, once.
func (d *deadLetters) warn() {
	unread, more := d.Unread()
	for _, u := range unread {
		if key := fmt.Sprint(u.Partition, u.From, u.Damaged); !d.warned[key] {
			d.warned[key] = true
			line := d.p.log.Warn().Str("topic", d.Name).Int("partition", u.Partition)
			if u.From >= 0 {
				line.Int64("offset", u.From).Int64("last_offset", u.To-1)
			}
			line.Str("reason", format.Line(u.Err.Error())).Str("do", groupstatus.RemedyOf(u)).Msg(unreadText(u))
		}
	}
	if more > 0 && !d.warned["more"] {
		d.warned["more"] = true
		d.p.log.Warn().Str("topic", d.Name).Int("more", more).Msg("more records can't be decoded")
	}
}

func unreadText(u deadletter.Unread) string {
	if u.Damaged {
		return "records can't be decoded"
	}
	return "a part of the topic can't be read; letters there are missing here, and those before it in its partition may be resolved"
}

// end returns what went wrong with a command: its own failure, and that not all of the topic could be read.
func (d *deadLetters) end(failed error) error {
	d.warn()
	unread, more := d.Unread()
	var rejected *rejectedError
	switch n := len(unread) + more; {
	case n == 0:
		return failed
	case failed == nil:
		return fmt.Errorf("%s of topic %q can't be read; the warnings name them", format.Count(n, "part"), d.Name)
	case errors.As(failed, &rejected): // status 1 rather than 3
		return fmt.Errorf("%s of topic %q can't be read; %s", format.Count(n, "part"), d.Name, rejected.text)
	}
	return failed
}

// plainly is an error in the words of these commands.
func plainly(ctx context.Context, err error) error {
	var missing *kafkaclient.MissingTopicError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case errors.As(err, &missing):
		return cause(err)
	}
	return err
}

// kindText is what is said of a kind of letters.
type kindText struct{ meaning, remedy string }

// explainKind explains a class and a code, as far as they are ours to know.
func explainKind(class, code string) kindText {
	switch {
	case code == "" && class == event.ClassInvalid:
		return kindText{"the record is no event", "mend what wrote it; `markread dead-letters show ID --event` prints an event to be mended and emitted"}
	case !codePattern.MatchString(code):
		return kindText{}
	}
	failure := &imclient.Error{Label: code}
	if n, err := strconv.Atoi(code); err == nil {
		failure.ErrorCode = n
	}
	// The event of a letter is not retried any more.
	remedy := failure.Remedy()
	if _, lasting, ok := strings.Cut(remedy, "If it goes on, "); ok {
		remedy = lasting
	}
	return kindText{failure.Meaning(), remedy}
}

// shown makes text of anybody's harmless on a terminal; of what is not plain it is a quotation.
func shown(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r == '\uFFFD' || !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// shownBytes is shown for bytes, cut after so many.
func shownBytes(b []byte, most int) string {
	if b == nil {
		return "null"
	}
	if len(b) > most {
		return fmt.Sprintf("%s … and %s more", shown(strings.ToValidUTF8(string(b[:most]), "")), format.Count(len(b)-most, "byte"))
	}
	return shown(string(b))
}
