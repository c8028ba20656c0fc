package event

import (
	"fmt"
	"strconv"
	"time"

	"markread/consumer/printable"
)

const (
	reportField   = "Report_Account"
	peerField     = "Peer_Account"
	readTimeField = "MsgReadTime"

	maxAccount = 32 // bytes
)

// Key returns the recommended record key of a conversation: with it and the Java partitioner, all
// events of a conversation are in one partition.
func Key(report, peer string) []byte { return []byte(report + "|" + peer) }

// AppendKey appends the Key of a conversation to b.
func AppendKey(b, report, peer []byte) []byte {
	return append(append(append(b, report...), '|'), peer...)
}

// Decode applies the contract's rules to a record. latest is the later of the worker's clock and
// the last Date of the IM server: a read time may be at most five minutes ahead of it. Decode is
// pure.
func Decode(record Record, latest time.Time) Event {
	e := Event{Record: record, Replays: replays(record.Headers)}
	if record.Damage != nil {
		e.EventTime, _ = EventTime(record) // it has no headers
		e.Invalid = damageError{record.Offset, record.Damage}
		return e
	}
	if e.EventTime, e.Invalid = EventTime(record); e.Invalid != nil {
		return e
	}
	e.Report, e.Peer, e.ReadTime, e.Invalid = decodeValue(record, e.EventTime, latest)
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
	return printable.Truncate(fmt.Sprintf("%s can't be decoded: %s", what,
		printable.Line(fmt.Sprint(e.Err))), maxLetterMessage)
}

func (e damageError) Unwrap() error { return e.Err }

// CheckFields applies the rules of Decode to the fields of an event that has no JSON form, as a
// table's row has none. An empty readTime is an absent one: ErrNoTime.
func CheckFields(report, peer, readTime []byte, latest time.Time) (int64, error) {
	if err := checkAccount(reportField, report); err != nil {
		return 0, err
	}
	if err := checkAccount(peerField, peer); err != nil {
		return 0, err
	}
	if len(readTime) == 0 {
		return 0, ErrNoTime
	}
	return parseReadTime(string(readTime), latest)
}

func decodeValue(record Record, eventTime, latest time.Time) (
	report, peer string, readTime int64, err error,
) {
	value := record.Value
	o, err := parseRawEvent(value)
	if err != nil {
		return "", "", 0, err
	}
	if o.values.report == nil {
		return "", "", 0, explainAbsent(value, reportField, o.meant.report)
	}
	if o.values.peer == nil {
		return "", "", 0, explainAbsent(value, peerField, o.meant.peer)
	}
	if o.values.readTime == nil && o.meant.readTime != nil {
		return "", "", 0, misspelt(readTimeField, o.meant.readTime)
	}
	if report, err = account(reportField, o.values.report); err != nil {
		return "", "", 0, err
	}
	if peer, err = account(peerField, o.values.peer); err != nil {
		return "", "", 0, err
	}
	readTime, err = resolveReadTime(o.values.readTime, eventTime, record.Time, latest)
	return report, peer, readTime, err
}

// account checks one of the two accounts; raw is its JSON value.
func account(name string, raw []byte) (string, error) {
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
			return fmt.Errorf("%s has bytes outside printable ASCII: its byte %d is 0x%02x", name,
				i+1, s[i])
		}
	}
	if len(s) > maxAccount {
		return fmt.Errorf("%s has %d bytes, more than %d", name, len(s), maxAccount)
	}
	return nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// replays returns how often the event was replayed. What a producer may have forged counts as 0.
func replays(headers []Header) int {
	value, ok := lastHeader(headers, HeaderReplays)
	if !ok || len(value) > 4 || !isDigits(string(value)) {
		return 0
	}
	if n, err := strconv.Atoi(string(value)); err == nil && n <= MaxReplays {
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
