package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"markread/consumer"
	"markread/consumer/letters"
	"markread/consumer/letters/office"
	"markread/imclient"
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
	Kafka       kafkaFlags `embed:"" group:"Kafka:"`
	replaysFlag `embed:"" group:"Worker:"`
	Log         logFlags `embed:"" group:"Log:"`
}

func (f *officeFlags) validate(env environment) error {
	return firstError(func() error { return f.Kafka.validate(env) }, f.replaysFlag.validate)
}

// deadLetters is the office of one command, and the client that it uses.
type deadLetters struct {
	*office.Office
	kafka *consumer.Client
	p     *process
}

// open begins: what is configured is right. It waits for a broker at most 8 s. The caller closes the client.
func (f *officeFlags) open(ctx context.Context, p *process, topic string) (*deadLetters, error) {
	options, err := f.Kafka.options(p.env)
	if err != nil {
		return nil, err
	}
	p.begin(f.Log)
	f.Kafka.warn(p)
	p.takeStandardLog(nil)
	options.Log = p.log
	kafka, err := consumer.New(options)
	if err != nil {
		return nil, usagef("--brokers: %v", err)
	}
	if err := kafka.Reach(ctx); err != nil {
		kafka.Close()
		return nil, plainly(ctx, err)
	}
	shown := newProgress(p.stderr, "reading the dead letters")
	o := &office.Office{Topic: kafka, Name: topic, Reading: func(e consumer.Extent) (func(consumer.Record), func()) {
		end := shown.start(e)
		return shown.add, end
	}}
	return &deadLetters{o, kafka, p}, nil
}

// plainly is an error in the words of these commands.
func plainly(ctx context.Context, err error) error {
	var missing *consumer.MissingTopicError
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
	case code == "" && class == letters.ClassInvalid:
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
		return fmt.Sprintf("%s … and %s more", shown(strings.ToValidUTF8(string(b[:most]), "")), number(len(b)-most, "byte"))
	}
	return shown(string(b))
}

// plainLine is anybody's bytes on one line, with a question mark for each rune that is not plain.
func plainLine(b []byte) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, oneLine(string(b)))
}
