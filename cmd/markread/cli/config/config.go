// Package config is the configuration that commands share: flags with their rules, the environment,
// and secrets. It turns them into the options of clients and workers, or into a [UsageError] that
// names the flag. It does not know the commands, and opens no connection.
//
// Each struct of flags belongs to one part of the product and has a Check method with its rules; a
// command embeds what it needs and accepts nothing else. A default stands here only, and so does a
// rule: the packages below check again only what would make them misbehave.
//
// It promises that no secret is shown in an error, and that a value that an env file, a template or
// YAML has damaged is refused or warned of.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker"

	"github.com/rs/zerolog"
)

// UsageError is a wrong command line or configuration. Its text names the flag or the variable.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// TopicFlag is the topic of live events.
type TopicFlag struct {
	Topic string `default:"mark-read" help:"Topic of live events."`
}

func (f *TopicFlag) Check() error { return validTopic("--topic", f.Topic) }

// BackfillFlag is the topic of backfilled and replayed events.
type BackfillFlag struct {
	BackfillTopic string `default:"mark-read-backfill" help:"Topic of backfilled events, served after the live ones; empty: none."`
}

func (f *BackfillFlag) Check() error {
	if f.BackfillTopic == "" {
		return nil
	}
	return validTopic("--backfill-topic", f.BackfillTopic)
}

// DeadLetterFlag is the topic of dead letters.
type DeadLetterFlag struct {
	DeadLetterTopic string `default:"mark-read-dead-letters" help:"Topic of events that can't be applied."`
}

func (f *DeadLetterFlag) Check() error {
	return validTopic("--dead-letter-topic", f.DeadLetterTopic)
}

// TopicsFlags are all topics.
type TopicsFlags struct {
	TopicFlag
	BackfillFlag
	DeadLetterFlag
}

func (f *TopicsFlags) Check() error {
	err := cmp.Or(f.TopicFlag.Check(), f.BackfillFlag.Check(), f.DeadLetterFlag.Check())
	switch {
	case err != nil:
		return err
	case f.BackfillTopic == f.Topic:
		return Usagef("--backfill-topic and --topic are both %q: the lanes need topics of their "+
			"own", f.Topic)
	case f.DeadLetterTopic == f.Topic:
		return Usagef("--dead-letter-topic and --topic are both %q: letters would be read as "+
			"events", f.Topic)
	case f.DeadLetterTopic == f.BackfillTopic:
		return Usagef("--dead-letter-topic and --backfill-topic are both %q: letters would be "+
			"read as events", f.DeadLetterTopic)
	}
	return nil
}

// GroupFlags is what a consumer works on.
type GroupFlags struct {
	TopicsFlags
	GroupFlag
}

func (f *GroupFlags) Check() error { return cmp.Or(f.TopicsFlags.Check(), f.GroupFlag.Check()) }

// GroupFlag is the consumer group.
type GroupFlag struct {
	Group string `default:"markread" help:"Consumer group."`
}

func (f *GroupFlag) Check() error {
	if f.Group == "" {
		return Usagef("--group must not be empty")
	}
	return nil
}

// RateFlag is the quota of the group.
type RateFlag struct {
	Rate int `default:"200" help:"Calls a second for the whole group, in any window of one second; 0: no limit."`
}

func (f *RateFlag) Check() error {
	switch {
	case f.Rate < 0:
		return Usagef("--rate must not be negative")
	case f.Rate > maxRate:
		return Usagef("--rate must be at most %d", maxRate)
	}
	return nil
}

// EngineFlags is how the worker works.
type EngineFlags struct {
	RateFlag
	MaxInFlight    *int          `placeholder:"256" help:"Calls at the same time, with --rate 0 only."`
	MaxPending     int           `default:"500000" help:"Conversations in memory at which fetching pauses."`
	MaxRejected    int           `default:"95" placeholder:"PERCENT" help:"Per cent of the last 500 events of a lane that may be rejected or invalid before that lane is held."`
	Attempts       int           `default:"8" help:"Counted failures after which an event is dead-lettered."`
	BackoffInitial time.Duration `default:"200ms" help:"Upper end of the first random wait before a retry; it doubles with every failure."`
	BackoffMax     time.Duration `default:"30s" help:"Upper end of all waits before a retry."`
	ReplaysFlag
	CommitEvery  time.Duration `default:"1s" help:"How often finished offsets are committed."`
	DrainTimeout time.Duration `default:"10s" help:"How long a stop or a rebalance waits for calls that are out."`
}

// maxRate is far above any quota that the vendor has, and below what would take noticeable memory:
// each call a second is a permit and an idle connection that may be kept.
const maxRate = 100_000

func (f *EngineFlags) Check(imTimeout time.Duration) error {
	switch err := f.RateFlag.Check(); {
	case err != nil:
		return err
	case f.MaxInFlight != nil && f.Rate != 0:
		return Usagef("--max-in-flight has no effect with --rate %d: the rate's permits limit "+
			"the calls; it is for --rate 0", f.Rate)
	case f.MaxInFlight != nil && *f.MaxInFlight < 1:
		return Usagef("--max-in-flight must be at least 1")
	case f.MaxPending < 1:
		return Usagef("--max-pending must be at least 1")
	case f.MaxRejected < 1 || f.MaxRejected > 100:
		return Usagef("--max-rejected must be from 1 to 100, per cent")
	case f.Attempts < 1:
		return Usagef("--attempts must be at least 1")
	case f.BackoffInitial <= 0:
		return Usagef("--backoff-initial must be positive")
	case f.BackoffMax < f.BackoffInitial:
		return Usagef("--backoff-max %s is less than --backoff-initial %s", f.BackoffMax,
			f.BackoffInitial)
	case f.CommitEvery <= 0:
		return Usagef("--commit-every must be positive")
	case f.DrainTimeout < imTimeout+time.Second:
		return Usagef("--drain-timeout %s: must be at least --im-timeout (%s) + 1s, so that "+
			"calls that are out can end", f.DrainTimeout, imTimeout)
	case f.DrainTimeout > 45*time.Second:
		return Usagef("--drain-timeout %s: must be at most 45s, so that a rebalance ends in time",
			f.DrainTimeout)
	}
	return f.ReplaysFlag.Check()
}

// Options turns the flags into a worker's options, without clients, topics, group and version.
func (f *EngineFlags) Options(imTimeout time.Duration, log zerolog.Logger) worker.Options {
	return worker.Options{Rate: f.Rate, MaxInFlight: f.CallLimit(),
		MaxPending: f.MaxPending, MaxRejected: f.MaxRejected, Attempts: f.Attempts,
		Backoff: imclient.NewBackoff(f.BackoffInitial, f.BackoffMax), MaxReplays: f.MaxReplays,
		CallTimeout: imTimeout, CommitEvery: f.CommitEvery, DrainTimeout: f.DrainTimeout, Log: log}
}

// ReplaysFlag is when a dead letter is parked.
type ReplaysFlag struct {
	MaxReplays int `default:"3" help:"Replays after which a dead letter is parked: only a replay that asks for parked ones takes it again."`
}

func (f *ReplaysFlag) Check() error {
	if f.MaxReplays < 1 || f.MaxReplays > 1000 {
		return Usagef("--max-replays must be from 1 to 1000")
	}
	return nil
}

// CallLimit is the most calls that can be out at the same time.
func (f *EngineFlags) CallLimit() int {
	switch {
	case f.Rate > 0:
		return f.Rate
	case f.MaxInFlight != nil:
		return *f.MaxInFlight
	}
	return 256 // as the placeholder of --max-in-flight has it
}

// AdminFlags is the admin server.
type AdminFlags struct {
	AdminAddr string `default:"127.0.0.1:8780" help:"Where the admin server listens; other machines see more than health and metrics only with MARKREAD_ADMIN_TOKEN."`
}

func (f *AdminFlags) Check(env Environment) error {
	if _, _, err := SplitAddr(f.AdminAddr); err != nil {
		return Usagef("--admin-addr: %v", err)
	}
	_, err := env.AdminToken()
	return err
}

// LogFlags is the log on standard error.
type LogFlags struct {
	LogLevel  string `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: debug, info, warn or error."`
	LogFormat string `enum:",json,console" default:"" placeholder:"FORMAT" help:"json or console; without it console on a terminal, else json."`
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func validTopic(flag, name string) error {
	if !topicName.MatchString(name) || name == "." || name == ".." {
		return Usagef("%s %q: a topic's name has 1 to 249 letters, digits, dots, underscores and "+
			"hyphens", flag, name)
	}
	return nil
}

// SplitAddr checks HOST:PORT and returns both. No host, or port 0, make sense for listening only.
func SplitAddr(addr string) (host string, port int, err error) {
	if strings.Contains(addr, "@") {
		// not quoted
		return "", 0, errors.New("there is an @ in it: it must be HOST:PORT, without a user and " +
			"a password")
	}
	if scheme, _, ok := strings.Cut(addr, "://"); ok {
		return "", 0, fmt.Errorf("%q is not HOST:PORT: leave out %s://", addr, scheme)
	}
	host, digits, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT", addr)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT with a port up to 65535", addr)
	}
	return host, int(n), nil
}

func (f *GroupFlags) Topics() event.Topics {
	return event.Topics{Live: f.Topic, Backfill: f.BackfillTopic, DeadLetter: f.DeadLetterTopic}
}
