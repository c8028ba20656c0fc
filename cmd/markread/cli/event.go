package cli

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/consumer/event"
)

// decode judges a message as the worker will.
func decode(m event.Message) event.Event {
	return event.Decode(event.Record{Key: m.Key, Value: m.Value, Headers: m.Headers, Time: m.Time}, time.Now())
}

// checkRead returns the read time of --report, --peer and --read-time (nil: not given), or a usage
// error that names the flag that makes no valid event. The rules are the worker's own.
func checkRead(report, peer string, readTime *string) (*int64, error) {
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
		return nil, usageOf(err)
	case readTime == nil:
		return nil, nil
	}
	return &t, nil
}

// checkEventTime adds the event time of --event-time to a message, or returns a usage error. It may
// lie in the future only if there is a read time: else it is one.
func checkEventTime(m event.Message, text string) (event.Message, error) {
	if err := checkLength("--event-time", text); err != nil {
		return m, err
	}
	m = app.WithEventTime(m, text)
	if err := decode(m).Invalid; err != nil {
		return m, usageOf(err)
	}
	return m, nil
}

// checkLength refuses what is too long for a time in any form. It is not shown: it may be a secret
// that was meant for another flag.
func checkLength(flag, text string) error {
	if len(text) > len("2006-01-02T15:04:05.000000+08:00") {
		return config.Usagef("%s: a value of %d characters is no time", flag, len(text))
	}
	return nil
}

// usageOf is a reason why an event is invalid, with the flag instead of the field that it begins with.
func usageOf(reason error) error {
	text := reason.Error()
	for _, part := range []struct{ begins, flag string }{
		{"Report_Account", "--report"}, {"Peer_Account", "--peer"}, {"MsgReadTime", "--read-time"},
		{"the header " + app.EventTimeHeader + " is malformed:", "--event-time:"},
		{"the event time (there is no MsgReadTime)", "--event-time"},
	} {
		if rest, ok := strings.CutPrefix(text, part.begins); ok {
			return config.Usagef("%s%s", part.flag, rest)
		}
	}
	return config.Usagef("%s", text)
}
