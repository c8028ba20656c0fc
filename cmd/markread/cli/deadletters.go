package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	"markread/worker/groupstatus"
)

// deadLettersCommand is the commands about dead letters.
type deadLettersCommand struct {
	Ls      lettersLsCommand      `cmd:"" help:"Count dead letters by class and code, or list them as JSON lines."`
	Show    lettersShowCommand    `cmd:"" help:"Show one letter, with what to do about it; or its event, to be mended and emitted."`
	Replay  lettersReplayCommand  `cmd:"" help:"Publish the events of open letters again."`
	Discard lettersDiscardCommand `cmd:"" help:"Give letters up."`
}

// storeFlags is what every command about dead letters needs.
type storeFlags struct {
	Kafka              config.KafkaFlags `embed:"" group:"Kafka:"`
	config.ReplaysFlag `embed:"" group:"Worker:"`
	Log                config.LogFlags `embed:"" group:"Log:"`
}

func (f *storeFlags) validate(env config.Environment) error {
	return cmp.Or(f.Kafka.Check(env), f.ReplaysFlag.Check())
}

// deadLetters is the store of one command, and the client that it uses.
type deadLetters struct {
	*deadletter.Store
	kafka  *kafkaclient.Client
	p      *process
	warned map[string]bool // of parts that can't be read
}

// open begins the log and waits for a broker at most 8 s. The caller closes the client.
func (f *storeFlags) open(ctx context.Context, p *process, topic string) (*deadLetters, error) {
	p.begin(f.Log)
	kafka, err := f.Kafka.Open(p.env, p.log)
	if err != nil {
		return nil, err
	}
	if err := kafka.Ping(ctx); err != nil {
		kafka.Close()
		return nil, plainly(ctx, err)
	}
	store := &deadletter.Store{Topic: kafka, Name: topic,
		OnFind: terminal.NewProgress(p.stderr, "reading the dead letters").Reading}
	return &deadLetters{store, kafka, p, map[string]bool{}}, nil
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
			line.Str("reason", format.Line(u.Err.Error())).Str("do", groupstatus.RemedyOf(u)).
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
	return "a part of the topic can't be read; letters there are missing here, and those before " +
		"it in its partition may be resolved"
}

// end returns what went wrong: the command's failure, and that not all of the topic can be read.
func (d *deadLetters) end(failed error) error {
	d.warn()
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

// plainly is an error in the words of these commands.
func plainly(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if missing := (*kafkaclient.MissingTopicError)(nil); errors.As(err, &missing) {
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
		return kindText{"the record is no event",
			"mend what wrote it; `markread dead-letters show ID --event` prints an event to be " +
				"mended and emitted"}
	case !codePattern.MatchString(code):
		return kindText{}
	}
	failure := &imclient.Error{Label: code}
	if n, err := strconv.Atoi(code); err == nil {
		failure.ErrorCode = n
	}
	// The event of a letter is not retried any more.
	return kindText{failure.Meaning(), failure.RemedyWithoutRetry()}
}

// shown makes text of anybody's harmless on a terminal; of what is not plain it is a quotation.
func shown(text string) string {
	if strings.ContainsFunc(text,
		func(r rune) bool { return r == '\uFFFD' || !strconv.IsPrint(r) }) {
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
		return fmt.Sprintf("%s … and %s more", shown(strings.ToValidUTF8(string(b[:most]), "")),
			format.Count(len(b)-most, "byte"))
	}
	return shown(string(b))
}

// filterFlags say which letters. They are pointers so that one that is set to nothing, by a
// script's empty variable, is no filter that is left out.
type filterFlags struct {
	Class  *string `placeholder:"CLASS" help:"Only letters of this class: invalid, rejected or exhausted."`
	Code   *string `placeholder:"CODE" help:"Only letters with this code: an ErrorCode such as 90048, or timeout, connect, reset, tls, answer, http_502 …"`
	Report *string `placeholder:"ACCOUNT" help:"Only events of this reader, Report_Account."`
	Peer   *string `placeholder:"ACCOUNT" help:"Only events about this peer's messages, Peer_Account."`
	Since  *string `placeholder:"TIME" help:"Only letters that failed at this time or later: RFC 3339, or an age such as 24h or 7d."`
	Until  *string `placeholder:"TIME" help:"Only letters that failed at this time (in this second) or before: RFC 3339, or an age."`
	Limit  *int    `placeholder:"N" help:"Only the oldest N of them."`
	Parked bool    `help:"Parked letters, too: those that came back from --max-replays replays."`
}

// known codes without digits; all others are an ErrorCode or an HTTP status.
var codePattern = regexp.MustCompile(
	`^(-?[0-9]{1,10}|http_[0-9]{3}|timeout|connect|reset|tls|answer|key|request)$`)

// filter reads the flags.
func (f *filterFlags) filter(now time.Time) (deadletter.Filter, error) {
	var filter deadletter.Filter
	classes := []string{event.ClassInvalid, event.ClassRejected, event.ClassExhausted}
	switch {
	case f.Class != nil && !slices.Contains(classes, *f.Class):
		return filter, config.Usagef("--class must be one of invalid, rejected, exhausted, not %q",
			*f.Class)
	case f.Code != nil && !codePattern.MatchString(*f.Code):
		return filter, config.Usagef("--code %q is neither an ErrorCode (90048) nor one of "+
			"timeout, connect, reset, tls, answer, http_502 and the like", *f.Code)
	case f.Report != nil && *f.Report == "":
		return filter, config.Usagef("--report must not be empty")
	case f.Peer != nil && *f.Peer == "":
		return filter, config.Usagef("--peer must not be empty")
	case f.Limit != nil && *f.Limit < 1:
		return filter, config.Usagef("--limit must be at least 1")
	}
	filter.Class, filter.Code = value(f.Class), value(f.Code)
	filter.Report, filter.Peer = value(f.Report), value(f.Peer)
	for _, t := range []struct {
		name string
		flag *string
		to   *time.Time
	}{{"--since", f.Since, &filter.Since}, {"--until", f.Until, &filter.Until}} {
		if t.flag == nil {
			continue
		}
		at, ok := momentOf(*t.flag, now)
		if !ok {
			return filter, config.Usagef("%s %q is neither a time in RFC 3339 "+
				"(2026-03-01T02:48:00Z) nor an age (24h, 7d)", t.name, *t.flag)
		}
		*t.to = at
	}
	if f.Until != nil && wholeSecond.MatchString(*f.Until) {
		// what ls shows has whole seconds: all of that one
		filter.Until = filter.Until.Add(time.Second - 1)
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && filter.Since.After(filter.Until) {
		return filter, config.Usagef("--since %s is later than --until %s: no letter is in between",
			*f.Since, *f.Until)
	}
	return filter, nil
}

// narrows reports whether any of the flags leaves letters out.
func (f *filterFlags) narrows() bool {
	return f.Class != nil || f.Code != nil || f.Report != nil || f.Peer != nil || f.Since != nil ||
		f.Until != nil || f.Limit != nil
}

// limit is 0 without the flag.
func (f *filterFlags) limit() int { return value(f.Limit) }

// value is that of a flag, zero without it.
func value[T any](flag *T) (zero T) {
	if flag == nil {
		return zero
	}
	return *flag
}

// states returns the states that --state and --parked name.
func (f *filterFlags) states(state string) (states []deadletter.State) {
	for _, s := range deadletter.AllStates() {
		if state == "all" || s.String() == state || s == deadletter.Parked && f.Parked {
			states = append(states, s)
		}
	}
	return states
}

// wholeSecond is a time in RFC 3339 without a fraction.
var wholeSecond = regexp.MustCompile(`T[0-9:]{8}(Z|[+-])`)

var days = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// momentOf reads a time, or the time that was so long ago.
func momentOf(text string, now time.Time) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, true
	}
	var age time.Duration
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		if n > 36_500 {
			return time.Time{}, false
		}
		age, text = time.Duration(n)*24*time.Hour, cmp.Or(m[2], "0")
	}
	more, err := time.ParseDuration(text)
	if err != nil || more < 0 || strings.HasPrefix(text, "+") {
		return time.Time{}, false
	}
	return now.Add(-age - more), true
}

// filterHelp belongs to the help of every command with filters.
const filterHelp = `

A letter is "open", or "parked" once it came back from --max-replays replays, or resolved: "replayed" or "discarded". Filters that are given
together must all hold. --since and --until are about when it failed.`

// confirmFlags is how a command that changes something asks for leave.
type confirmFlags struct {
	DryRun bool `help:"Say what would be done, and do nothing."`
	Yes    bool `help:"Do it without asking; needed where there is no terminal."`
}

func (f *confirmFlags) validate(p *process) error {
	if !f.Yes && !f.DryRun && !(terminal.Is(p.stdin) && terminal.Is(p.stderr)) {
		return config.Usagef("--yes is needed where there is no terminal to ask on (--dry-run " +
			"says what would be done)")
	}
	return nil
}

// confirmed asks on the terminal, if it is to be asked. What is no yes is a no.
func (f *confirmFlags) confirmed(ctx context.Context, p *process, question string) (bool, error) {
	if f.Yes {
		return true, nil
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", format.Line(question))
	answers := make(chan string, 1)
	go func() { // it ends with the answer, or with the process: a read of a terminal can't be ended
		line, _ := bufio.NewReader(p.stdin).ReadString('\n') // at its end there is no answer
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
