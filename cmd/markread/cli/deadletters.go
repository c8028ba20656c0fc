package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker/format"
)

// deadLettersCommand has the subcommands for dead letters.
type deadLettersCommand struct {
	Ls      lsCommand      `cmd:"" help:"Count dead letters by class and code, or list them as JSON lines."`
	Show    showCommand    `cmd:"" help:"Show one dead letter and its remedy, or its event to edit and emit."`
	Replay  replayCommand  `cmd:"" help:"Publish the events of open dead letters again."`
	Discard discardCommand `cmd:"" help:"Discard dead letters."`
}

// storeFlags are the flags of all subcommands for dead letters.
type storeFlags struct {
	Kafka              config.KafkaFlags `embed:"" group:"Kafka:"`
	config.ReplaysFlag `embed:"" group:"Worker:"`
	Log                config.LogFlags `embed:"" group:"Log:"`
}

func (f *storeFlags) validate(env config.Environment) error {
	return cmp.Or(f.Kafka.Check(env), f.ReplaysFlag.Check())
}

// deadLetters is the dead-letter store of one command, with its client.
type deadLetters struct {
	*deadletter.Store
	kafka  *kafkaclient.Client
	p      *process
	warned map[string]bool // unreadable parts that a warning has named
}

// open begins the log, and waits at most 8 s for a broker. The caller must close the client.
func (f *storeFlags) open(ctx context.Context, p *process, topic string) (*deadLetters, error) {
	p.begin(f.Log)
	kafka, err := f.Kafka.Open(p.env, p.log)
	if err != nil {
		return nil, err
	}
	if err := kafka.Ping(ctx); err != nil {
		kafka.Close()
		return nil, explainError(ctx, err)
	}
	store := &deadletter.Store{Topic: kafka, Name: topic,
		OnFind: terminal.NewProgress(p.stderr, "reading the dead letters").Reading}
	return &deadLetters{store, kafka, p, map[string]bool{}}, nil
}

// warnUnread logs each unreadable part of the topic, once.
func (d *deadLetters) warnUnread() {
	unread, more := d.Unread()
	for _, u := range unread {
		if key := fmt.Sprint(u.Partition, u.From, u.Damaged); !d.warned[key] {
			d.warned[key] = true
			line := d.p.log.Warn().Str("topic", d.Name).Int("partition", u.Partition)
			if u.From >= 0 {
				line.Int64("offset", u.From).Int64("last_offset", u.To-1)
			}
			line.Str("reason", format.Line(u.Err.Error())).Str("do", u.Do()).
				Msg(unreadText(u))
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
	return "a part of the topic can't be read; its dead letters are missing here, and earlier " +
		"ones of its partition may be resolved"
}

// finish returns the command's error. If parts of the topic can't be read, it returns an error
// about that instead, or in addition to rejected input.
func (d *deadLetters) finish(failed error) error {
	d.warnUnread()
	unread, more := d.Unread()
	var rejected *rejectedError
	switch n := len(unread) + more; {
	case n == 0:
		return failed
	case failed == nil:
		return fmt.Errorf("%s of topic %q can't be read; the warnings name them",
			format.Count(n, "part"), d.Name)
	case errors.As(failed, &rejected): // status 1 rather than 3
		return fmt.Errorf("%s of topic %q can't be read; %s", format.Count(n, "part"), d.Name,
			rejected.text)
	}
	return failed
}

// explainError returns an error in the words of these commands.
func explainError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if _, ok := errors.AsType[*kafkaclient.MissingTopicError](err); ok {
		return publishCause(err)
	}
	return err
}

// explanation explains dead letters of one class and code.
type explanation struct{ meaning, remedy string }

// explainKind explains a class and a code; both texts are "" if they are unknown.
func explainKind(class, code string) explanation {
	switch {
	case code == "" && class == event.ClassInvalid:
		return explanation{"the record is not a valid event",
			"fix what wrote it; `markread dead-letters show ID --event` prints the event, to " +
				"edit and emit"}
	case !deadletter.IsCode(code):
		return explanation{}
	}
	failure := &imclient.Error{Label: code}
	if n, err := strconv.Atoi(code); err == nil {
		failure.ErrorCode = n
	}
	// The event of a dead letter is not retried any more.
	return explanation{failure.Meaning(), failure.RemedyWithoutRetry()}
}

// display returns text from outside in a form that is safe on a terminal: quoted if it has
// unprintable characters.
func display(text string) string {
	if strings.ContainsFunc(text,
		func(r rune) bool { return r == '\uFFFD' || !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// displayBytes is display for bytes, truncated after most bytes.
func displayBytes(b []byte, most int) string {
	if b == nil {
		return "null"
	}
	if len(b) > most {
		return fmt.Sprintf("%s … and %s more", display(strings.ToValidUTF8(string(b[:most]), "")),
			format.Count(len(b)-most, "byte"))
	}
	return display(string(b))
}

// filterFlags select dead letters. They are pointers so that a flag that is set to "", by a
// script's empty variable, is an error rather than no filter.
type filterFlags struct {
	Class  *string `placeholder:"CLASS" help:"Only this class: invalid, rejected or exhausted."`
	Code   *string `placeholder:"CODE" help:"Only this code, such as 90048, http_502 or timeout."`
	Report *string `placeholder:"ACCOUNT" help:"Only events of this reader, Report_Account."`
	Peer   *string `placeholder:"ACCOUNT" help:"Only events about this peer's messages, Peer_Account."`
	Since  *string `placeholder:"TIME" help:"Only failures at this time or later: RFC 3339, or an age (24h, 7d)."`
	Until  *string `placeholder:"TIME" help:"Only failures at this time (in this second) or earlier."`
	Limit  *int    `placeholder:"N" help:"Only the oldest N of them."`
	Parked bool    `help:"Parked dead letters, too: they failed again after --max-replays replays."`
}

// filter checks the flags and returns the filter that they describe.
func (f *filterFlags) filter(now time.Time) (deadletter.Filter, error) {
	if f.Limit != nil && *f.Limit < 1 {
		return deadletter.Filter{}, config.Usagef("--limit must be at least 1")
	}
	query := deadletter.Query{Class: f.Class, Code: f.Code, Report: f.Report, Peer: f.Peer,
		Since: f.Since, Until: f.Until}
	filter, err := query.Filter("--", now)
	if err != nil {
		return filter, config.Usagef("%v", err)
	}
	return filter, nil
}

// narrows reports whether any of the flags is set that can exclude dead letters.
func (f *filterFlags) narrows() bool {
	return f.Class != nil || f.Code != nil || f.Report != nil || f.Peer != nil || f.Since != nil ||
		f.Until != nil || f.Limit != nil
}

// limit returns --limit; 0 without it.
func (f *filterFlags) limit() int { return value(f.Limit) }

// value returns the value of a flag; zero if it is not set.
func value[T any](flag *T) (zero T) {
	if flag == nil {
		return zero
	}
	return *flag
}

// states returns the states that --state and --parked select.
func (f *filterFlags) states(state string) (states []deadletter.State) {
	for _, s := range deadletter.AllStates() {
		if state == "all" || s.String() == state || s == deadletter.Parked && f.Parked {
			states = append(states, s)
		}
	}
	return states
}

// filterHelp is part of the help of every command with filters.
const filterHelp = `

A dead letter is "open", or "parked" once it failed again after --max-replays replays, or resolved:
"replayed" or "discarded". Several filters must all match. A code is an ErrorCode (90048), an HTTP
status (http_502), timeout, connect, reset, tls or answer. --since and --until are about the time of
the failure: RFC 3339, or an age (24h, 7d).`

// confirmFlags are the flags for the confirmation prompt of commands that modify state.
type confirmFlags struct {
	DryRun bool `help:"Show what would be done, and do nothing."`
	Yes    bool `help:"Do it without asking; required without a terminal."`
}

func (f *confirmFlags) validate(p *process) error {
	if !f.Yes && !f.DryRun && !(terminal.Is(p.stdin) && terminal.Is(p.stderr)) {
		return config.Usagef("--yes is required without a terminal to ask on (--dry-run shows " +
			"what would be done)")
	}
	return nil
}

// confirmed asks the question on the terminal, unless --yes is set. Anything but y or yes means no.
func (f *confirmFlags) confirmed(ctx context.Context, p *process, question string) (bool, error) {
	if f.Yes {
		return true, nil
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", format.Line(question))
	answers := make(chan string, 1)
	go func() { // ends with the answer or the process: a read of a terminal can't be cancelled
		line, _ := bufio.NewReader(p.stdin).ReadString('\n') // at the end of input: no answer
		answers <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.stderr)
		return false, errors.New("interrupted; nothing was done")
	case answer := <-answers:
		answer = strings.ToLower(strings.TrimSpace(answer))
		return answer == "y" || answer == "yes", nil
	}
}
