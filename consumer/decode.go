package consumer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	eventTimeHeader = "markread.event-time"
	replaysHeader   = "markread.replays"

	maxAccount = 32 // bytes
	maxAhead   = 5 * time.Minute
	maxReplays = 1000
)

// Key returns the recommended record key of a conversation: with it and the Java partitioner, all events of
// a conversation are in one partition.
func Key(report, peer string) []byte { return []byte(report + "|" + peer) }

// AppendKey appends the Key of a conversation to b.
func AppendKey(b, report, peer []byte) []byte {
	return append(append(append(b, report...), '|'), peer...)
}

// Decode applies the contract's rules to a record. latest is the later of the worker's clock and the last
// Date of the IM server: a read time may be at most five minutes ahead of it. Decode is pure.
func Decode(record Record, latest time.Time) Event {
	e := Event{Record: record, Replays: replays(record.Headers)}
	if record.Damage != nil {
		e.EventTime, e.Invalid = record.Time, damageError{record.Offset, record.Damage}
		return e
	}
	var err error
	if e.EventTime, err = eventTime(record); err != nil {
		e.Invalid = err
		return e
	}
	e.Report, e.Peer, e.ReadTime, e.Invalid = decodeValue(record.Value, e.EventTime, latest)
	return e
}

// damageError says in one line which records can't be read, and why.
type damageError struct {
	first int64
	*Damage
}

func (e damageError) Error() string {
	what := fmt.Sprintf("the %d records at offsets %d to %d", e.Count, e.first, e.Last)
	switch {
	case e.Last <= e.first:
		what = fmt.Sprintf("the record at offset %d", e.first)
	case e.Count == 1:
		what = fmt.Sprintf("the record at one of the offsets %d to %d", e.first, e.Last)
	}
	return cut(fmt.Sprintf("%s can't be decoded: %s", what, printable(fmt.Sprint(e.Err))), maxLetterMessage)
}

func (e damageError) Unwrap() error { return e.Err }

// printable replaces what could steer a terminal or break a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// ErrNoTime is what is wrong with an event that has neither a MsgReadTime nor a time of its own; else it is a valid one.
var ErrNoTime = errors.New("no time at all: no MsgReadTime, no " + eventTimeHeader + " header, no record timestamp")

// CheckFields applies the rules of Decode to the fields of an event that has no JSON form, as a table's row has none. An
// empty readTime is an absent one: ErrNoTime.
func CheckFields(report, peer, readTime []byte, latest time.Time) (int64, error) {
	if err := checkAccount("Report_Account", report); err != nil {
		return 0, err
	}
	if err := checkAccount("Peer_Account", peer); err != nil {
		return 0, err
	}
	if len(readTime) == 0 {
		return 0, ErrNoTime
	}
	return parseReadTime(string(readTime), latest)
}

func decodeValue(value []byte, eventTime, latest time.Time) (report, peer string, readTime int64, err error) {
	if value == nil {
		return "", "", 0, errors.New("the value is null")
	}
	o, err := parseObject(value)
	if err != nil {
		return "", "", 0, err
	}
	if report, err = account("Report_Account", o.report); err != nil {
		return "", "", 0, err
	}
	if peer, err = account("Peer_Account", o.peer); err != nil {
		return "", "", 0, err
	}
	readTime, err = resolveReadTime(o.readTime, eventTime, latest)
	return report, peer, readTime, err
}

// account checks one of the two accounts; raw is its JSON value, nil when it is absent.
func account(name string, raw []byte) (string, error) {
	if raw == nil {
		return "", fmt.Errorf("%s is missing", name)
	}
	s, ok := unquote(raw)
	if !ok {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return s, checkAccount(name, s)
}

// checkAccount checks the text of one of the two accounts.
func checkAccount[text string | []byte](name string, s text) error {
	if len(s) == 0 {
		return fmt.Errorf("%s is empty", name)
	}
	// Before the length: what the user sees as 20 letters may be 60 bytes.
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return fmt.Errorf("%s has bytes outside printable ASCII", name)
		}
	}
	if len(s) > maxAccount {
		return fmt.Errorf("%s has %d bytes, more than %d", name, len(s), maxAccount)
	}
	return nil
}

// resolveReadTime returns T: MsgReadTime (raw is its JSON value, nil when it is absent), else the event time.
func resolveReadTime(raw []byte, eventTime, latest time.Time) (int64, error) {
	if raw != nil && string(raw) != "null" {
		text := string(raw)
		if raw[0] == '"' {
			text, _ = unquote(raw)
		}
		return parseReadTime(text, latest)
	}
	const source = "the event time, which stands in for the absent MsgReadTime,"
	if eventTime.IsZero() {
		return 0, ErrNoTime
	}
	t := eventTime.Unix()
	if t <= 0 {
		return 0, fmt.Errorf("%s is not positive: %d seconds since 1970", source, t)
	}
	return t, checkAhead(source, t, latest)
}

func parseReadTime(text string, latest time.Time) (int64, error) {
	if !isSeconds(text) {
		return 0, errors.New("MsgReadTime is neither a whole number of seconds since 1970 (1 to 19 digits, the first not 0) nor a string of one")
	}
	t, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("MsgReadTime %s is too large; it looks like milliseconds or a smaller unit", text)
	}
	return t, checkAhead("MsgReadTime", t, latest)
}

func checkAhead(source string, t int64, latest time.Time) error {
	if t <= latest.Add(maxAhead).Unix() {
		return nil
	}
	hint := ""
	if t >= 1e11 {
		hint = "; it looks like milliseconds"
	}
	return fmt.Errorf("%s is more than 5 minutes ahead: %d seconds since 1970%s", source, t, hint)
}

// isSeconds reports whether s matches ^[1-9][0-9]{0,18}$.
func isSeconds(s string) bool {
	return len(s) <= 19 && isDigits(s) && s[0] != '0'
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// eventTime returns when the user read: the header, else the record's timestamp, else zero.
func eventTime(record Record) (time.Time, error) {
	value, ok := lastHeader(record.Headers, eventTimeHeader)
	if !ok {
		return record.Time, nil
	}
	if len(value) > 15 || !isDigits(string(value)) {
		return time.Time{}, errors.New("the header " + eventTimeHeader + " is malformed: not milliseconds since 1970 in 1 to 15 digits")
	}
	ms, err := strconv.ParseInt(string(value), 10, 64)
	return time.UnixMilli(ms), err
}

// replays returns how often the event was replayed. What a producer may have forged counts as 0.
func replays(headers []Header) int {
	value, ok := lastHeader(headers, replaysHeader)
	if !ok || len(value) > 4 || !isDigits(string(value)) {
		return 0
	}
	if n, err := strconv.Atoi(string(value)); err == nil && n <= maxReplays {
		return n
	}
	return 0
}

// lastHeader returns the last header of that name, as Kafka's own lastHeader does.
func lastHeader(headers []Header, name string) ([]byte, bool) {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Key == name {
			return headers[i].Value, true
		}
	}
	return nil, false
}
