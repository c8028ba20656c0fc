package event

import (
	"bytes"
	"fmt"
	"time"

	"markread/consumer/printable"
)

// The names of an event's fields.
const (
	ReportField   = "Report_Account"
	PeerField     = "Peer_Account"
	ReadTimeField = "MsgReadTime"
)

const maxAccount = 32 // bytes

// Key returns the recommended record key of a conversation. With this key and the Java partitioner
// all events of a conversation are in one partition.
func Key[text string | []byte](report, peer text) []byte {
	return append(append(append([]byte(nil), report...), '|'), peer...)
}

// IsKey reports whether key is the Key of a conversation.
func IsKey(key, report, peer []byte) bool {
	rest, ok := bytes.CutPrefix(key, report)
	return ok && len(rest) == 1+len(peer) && rest[0] == '|' && bytes.Equal(rest[1:], peer)
}

// AppendKey appends the Key of a conversation to b.
func AppendKey(b, report, peer []byte) []byte {
	return append(append(append(b, report...), '|'), peer...)
}

// Decode applies the contract's rules to a record. latest is the later of the worker's clock and
// the IM server's last Date: a read time may be at most five minutes ahead of it. Decode is pure.
func Decode(record Record, latest time.Time) (e Event) {
	e.Record = record
	e.Decode(latest)
	return e
}

// Decode decodes e.Record, as the function Decode does. The other fields must be zero or valid
// without it, as Lane is.
func (e *Event) Decode(latest time.Time) {
	e.Replays = replays(e.Record.Headers)
	e.EventTime, e.Invalid = eventTime(e.Record.Headers, e.Record.Time)
	switch {
	case e.Record.Damage != nil: // such a record has no headers, and so a valid time or none
		e.Invalid = damageError{e.Record.Offset, e.Record.Damage}
	case e.Invalid == nil:
		e.Invalid = e.decodeValue(latest)
	}
}

// damageError is the error of records that can't be decoded: one line with their offsets and the
// reason.
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

// CheckFields applies the rules of Decode to the fields of a table row, and returns T. An empty
// readTime counts as absent and returns ErrNoTime.
func CheckFields(report, peer, readTime []byte, latest time.Time) (int64, error) {
	if err := checkAccount(ReportField, report); err != nil {
		return 0, err
	}
	if err := checkAccount(PeerField, peer); err != nil {
		return 0, err
	}
	if len(readTime) == 0 {
		return 0, ErrNoTime
	}
	return parseReadTime(readTime, latest)
}

func (e *Event) decodeValue(latest time.Time) error {
	value := e.Record.Value
	var raw rawEvent
	err := raw.parse(value)
	switch {
	case err != nil:
		return err
	case raw.values.report == nil:
		return explainMissing(value, ReportField, raw.intended.report)
	case raw.values.peer == nil:
		return explainMissing(value, PeerField, raw.intended.peer)
	case raw.values.readTime == nil && raw.intended.readTime != nil:
		return misspelt(ReadTimeField, raw.intended.readTime)
	}
	if e.Report, err = account(ReportField, raw.values.report); err != nil {
		return err
	}
	if e.Peer, err = account(PeerField, raw.values.peer); err != nil {
		return err
	}
	e.ReadTime, err = resolveReadTime(raw.values.readTime, e.EventTime, e.Record.Time, latest)
	return err
}

// account checks and returns an account; raw is its JSON value.
func account(name string, raw []byte) ([]byte, error) {
	if n := len(raw) - 2; n > 0 && n <= maxAccount && raw[0] == '"' && plainLength(raw[1:]) == n {
		return raw[1 : n+1], nil
	}
	s, ok := unquote(raw)
	if !ok {
		return nil, fmt.Errorf("%s is not a string", name)
	}
	return s, checkAccount(name, s)
}

// checkAccount checks the text of an account.
func checkAccount(name string, s []byte) error {
	if len(s) == 0 {
		return fmt.Errorf("%s is empty", name)
	}
	// Before the length, because text that looks like 20 letters may have 60 bytes.
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

// parseDigits returns a number of at most 18 digits, which always fits. ok is false if text has
// more, or other bytes.
func parseDigits(text []byte) (n int64, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, len(text) > 0 && len(text) <= 18
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
