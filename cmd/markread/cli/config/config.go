// Package config is the configuration that commands share: flags and their rules, the environment,
// and secrets. It turns them into the options of clients and workers, or into a [UsageError] that
// names the flag. It does not know the commands, and it opens no connection.
//
// Each struct of flags belongs to one part of the product and has a Check method with its rules. A
// command embeds the structs that it needs, and accepts no other shared flags; flags of a single
// command are in its own file. Defaults and rules of the shared flags are only here: the packages
// below recheck only what would make them misbehave.
//
// It promises that no error shows a secret, and that a value that was damaged by an env file, a
// template or YAML is refused or causes a warning.
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

// UsageError is returned for a wrong command line or configuration. Its text names the flag or the
// variable.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// Usagef returns a formatted [UsageError].
func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// TopicFlag is the topic of live events.
type TopicFlag struct {
	Topic string `default:"mark-read" help:"Topic of live events."`
}

func (f *TopicFlag) Check() error { return validTopic("--topic", f.Topic) }

// BackfillFlag is the topic of backfilled and replayed events.
type BackfillFlag struct {
	BackfillTopic string `default:"mark-read-backfill" help:"backfill_topic_help"`
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

// TopicsFlags is all topics.
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
		return Usagef("--dead-letter-topic and --topic are both %q: dead letters would be read "+
			"as events", f.Topic)
	case f.DeadLetterTopic == f.BackfillTopic:
		return Usagef("--dead-letter-topic and --backfill-topic are both %q: dead letters would "+
			"be read as events", f.DeadLetterTopic)
	}
	return nil
}

// GroupFlags is a consumer's topics and its group.
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

// EngineFlags configures how the worker schedules and retries calls.
type EngineFlags struct {
	RateFlag
	MaxInFlight    *int          `placeholder:"256" help:"Calls at the same time; only with --rate 0."`
	MaxPending     int           `default:"500000" help:"Conversations in memory at which fetching pauses."`
	MaxRejected    int           `default:"95" help:"max_rejected_help"`
	Attempts       int           `default:"8" help:"Counted failures after which an event is dead-lettered."`
	BackoffInitial time.Duration `default:"200ms" help:"backoff_initial_help"`
	BackoffMax     time.Duration `default:"30s" help:"Upper bound of every random wait before a retry."`
	ReplaysFlag
	CommitEvery  time.Duration `default:"1s" help:"How often finished offsets are committed."`
	DrainTimeout time.Duration `default:"10s" help:"How long a shutdown or a rebalance waits for calls in flight."`
}

// helpTexts are the help texts that are too long for a tag, which has their key instead.
var helpTexts = map[string]string{
	"backfill_topic_help": "Topic of backfilled events, served after the live ones; empty: none.",
	"max_rejected_help": "Per cent of the last 500 events of a lane that may be rejected or " +
		"invalid before that lane is held.",
	"backoff_initial_help": "Upper bound of the first random wait before a retry; it doubles " +
		"with every failure.",
	"max_replays_help": "Replays after which a dead letter is parked: only a replay with " +
		"--parked takes it again.",
	"admin_addr_help": "Address of the admin server; other machines see more than health and " +
		"metrics only with MARKREAD_ADMIN_TOKEN.",
	"log_format_help": "json or console; default: console on a terminal, else json.",
	"im_url_help":     "IM server, or a region: " + strings.Join(imclient.Regions(), " ") + ".",
	"sasl_help": "How to authenticate: plain, scram-sha-256 or scram-sha-512; the password is " +
		"MARKREAD_SASL_PASSWORD.",
}

// maxRate is far above any quota of the vendor. It is small enough to take little memory: each call
// a second needs a permit and may keep an idle connection.
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
			"calls in flight can finish", f.DrainTimeout, imTimeout)
	case f.DrainTimeout > 45*time.Second:
		return Usagef("--drain-timeout %s: must be at most 45s, so that a rebalance ends in time",
			f.DrainTimeout)
	}
	return f.ReplaysFlag.Check()
}

// Options returns the worker's options, without clients, topics, group and version.
func (f *EngineFlags) Options(imTimeout time.Duration, log zerolog.Logger) worker.Options {
	return worker.Options{Rate: f.Rate, MaxInFlight: f.CallLimit(),
		MaxPending: f.MaxPending, MaxRejected: f.MaxRejected, Attempts: f.Attempts,
		Backoff: imclient.NewBackoff(f.BackoffInitial, f.BackoffMax), MaxReplays: f.MaxReplays,
		CallTimeout: imTimeout, CommitEvery: f.CommitEvery, DrainTimeout: f.DrainTimeout, Log: log,
		Settings: f.tuning(imTimeout)}
}

// tuning returns the settings that the worker exports as metrics, by flag without dashes.
func (f *EngineFlags) tuning(imTimeout time.Duration) map[string]string {
	settings := map[string]string{
		"rate":            strconv.Itoa(f.Rate),
		"max-pending":     strconv.Itoa(f.MaxPending),
		"max-rejected":    strconv.Itoa(f.MaxRejected),
		"attempts":        strconv.Itoa(f.Attempts),
		"backoff-initial": f.BackoffInitial.String(),
		"backoff-max":     f.BackoffMax.String(),
		"max-replays":     strconv.Itoa(f.MaxReplays),
		"commit-every":    f.CommitEvery.String(),
		"drain-timeout":   f.DrainTimeout.String(),
		"im-timeout":      imTimeout.String(),
	}
	if f.Rate == 0 {
		settings["max-in-flight"] = strconv.Itoa(f.CallLimit())
	}
	return settings
}

// ReplaysFlag is the number of replays after which a dead letter is parked.
type ReplaysFlag struct {
	MaxReplays int `default:"3" help:"max_replays_help"`
}

func (f *ReplaysFlag) Check() error {
	if f.MaxReplays < 1 || f.MaxReplays > 1000 {
		return Usagef("--max-replays must be from 1 to 1000")
	}
	return nil
}

// CallLimit returns the largest number of calls in flight.
func (f *EngineFlags) CallLimit() int {
	switch {
	case f.Rate > 0:
		return f.Rate
	case f.MaxInFlight != nil:
		return *f.MaxInFlight
	}
	return 256 // the placeholder of --max-in-flight shows it
}

// AdminFlags is the admin server.
type AdminFlags struct {
	AdminAddr string `default:"127.0.0.1:8780" help:"admin_addr_help"`
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
	LogLevel  string `enum:"debug,info,warn,error" default:"info" help:"Lowest level that is logged: ${enum}."`
	LogFormat string `enum:",json,console" default:"" placeholder:"FORMAT" help:"log_format_help"`
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func validTopic(flag, name string) error {
	if !topicName.MatchString(name) || name == "." || name == ".." {
		return Usagef("%s %q: a topic's name has 1 to 249 letters, digits, dots, underscores and "+
			"hyphens", flag, name)
	}
	return nil
}

// SplitAddr splits HOST:PORT. An empty host and port 0, which make sense only for listening, are
// valid.
func SplitAddr(addr string) (host string, port int, err error) {
	if strings.Contains(addr, "@") {
		// The value is not shown: it may contain a password.
		return "", 0, errors.New("there is an @ in it: it must be HOST:PORT, without a user and " +
			"a password")
	}
	if scheme, _, ok := strings.Cut(addr, "://"); ok {
		return "", 0, fmt.Errorf("%q is not HOST:PORT: omit %s://", addr, scheme)
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

// Topics returns the names of all topics.
func (f *GroupFlags) Topics() event.Topics {
	return event.Topics{Live: f.Topic, Backfill: f.BackfillTopic, DeadLetter: f.DeadLetterTopic}
}
