// Package overview builds what the console's overview shows, for one worker and for a group: the
// sentence on top, which says what is wrong and what to do, workers, partitions, and what happened.
//
// It is pure except for [Monitor], which holds the latest overview and the history for concurrent
// readers. Texts are keys of the catalogue (package texts) with parameters, so that the page shows
// them in its user's language and time zone.
package overview

import "time"

// The bounds of lists in an Overview.
const (
	MaxPartitions = 200
	MaxHappened   = 200
)

// Overview is the state at one moment, as the page receives it.
type Overview struct {
	At             time.Time    `json:"at"`
	Scope          string       `json:"scope"` // worker or group
	Group          string       `json:"group"`
	Sentence       Sentence     `json:"sentence"`
	Now            Now          `json:"now"`
	Workers        []Worker     `json:"workers"`
	Partitions     []Partition  `json:"partitions"` // worst first, at most MaxPartitions
	MorePartitions int          `json:"more_partitions"`
	Happened       []Happening  `json:"happened"`     // newest first
	DeadLetters    *DeadLetters `json:"dead_letters"` // of a group; nil: not known
	Replay         any          `json:"replay"`       // of a group: the latest one; nil: none
	Errors         []string     `json:"errors"`       // what could not be read, in English
}

// Sentence says what matters most. The catalogue has its texts: sentence.KEY and, if there is more
// to say, sentence.KEY.more and sentence.KEY.do, in which {name:format} stands for a parameter.
type Sentence struct {
	Key      string         `json:"key"`
	Severity string         `json:"severity"` // bad, warn or good
	Params   map[string]any `json:"params"`
}

// Now is the present of all workers together. Rates are of the last half minute.
type Now struct {
	Rate          *float64 `json:"rate"` // nil: no limit
	Share         *float64 `json:"share"`
	Limit         *float64 `json:"limit"`
	Calls         *float64 `json:"calls"`         // a second
	In            *float64 `json:"in"`            // events a second
	Out           *float64 `json:"out"`           // events a second
	Conversations float64  `json:"conversations"` // waiting or in flight
	Events        float64  `json:"events"`
	MaxPending    *float64 `json:"max_pending"`
	OldestSeconds *float64 `json:"oldest_seconds"` // nil: nothing waits
	P50           *float64 `json:"p50"`            // age of live events in seconds, last minute
	P99           *float64 `json:"p99"`
	DrainSeconds  *float64 `json:"drain_seconds"` // at the present rates; nil: never, or not known
}

// Worker is one worker.
type Worker struct {
	Name          string    `json:"name"`    // for people: its address, else its member ID
	Address       string    `json:"address"` // of its admin server; "": this one
	Member        string    `json:"member"`
	Version       string    `json:"version"`
	StartedAt     time.Time `json:"started_at"`
	State         string    `json:"state"`  // ready, not-ready or silent
	Silent        string    `json:"silent"` // why it does not respond, in English
	Held          []Hold    `json:"held"`
	Share         *float64  `json:"share"`
	Limit         *float64  `json:"limit"`
	Calls         *float64  `json:"calls"` // a second
	InFlight      *float64  `json:"in_flight"`
	Conversations *float64  `json:"conversations"`
	Events        *float64  `json:"events"`
	OldestSeconds *float64  `json:"oldest_seconds"`
	Partitions    *int      `json:"partitions"`
	Controllable  bool      `json:"controllable"` // this console can pause it
	Note          string    `json:"note"`         // from Kafka, in English
}

// Hold is an active hold. Only the worker's own console knows more than reason, lane and since.
type Hold struct {
	Reason      string     `json:"reason"`
	Lane        string     `json:"lane"` // live, backfill or all
	Since       time.Time  `json:"since"`
	Detail      string     `json:"detail"` // what was observed, in English
	Code        string     `json:"code"`   // of the failure that caused it; "": none, or not known
	Do          string     `json:"do"`     // in English
	By          string     `json:"by"`     // who paused it
	Why         string     `json:"why"`    // the reason that they typed
	NextProbeAt *time.Time `json:"next_probe_at"`
}

// Partition is one partition of the event topics.
type Partition struct {
	Topic         string   `json:"topic"`
	Partition     int      `json:"partition"`
	Lane          string   `json:"lane"`
	Worker        string   `json:"worker"` // the name of its owner; "": none
	Lag           *float64 `json:"lag"`
	OldestSeconds float64  `json:"oldest_seconds"` // 0: nothing waits
	// Trend is how the age has changed over the last minute, in seconds per second: 1 means that
	// nothing finishes; nil: not known.
	Trend         *float64    `json:"trend"`
	RetentionLeft *float64    `json:"retention_left"` // seconds; nil: not known; -1: forever
	Unreadable    *Unreadable `json:"unreadable"`
	Oldest        *Oldest     `json:"oldest"` // nil: only its owner's console knows
}

// Unreadable says why a partition can't be read.
type Unreadable struct {
	Since  time.Time `json:"since"`
	Offset *int64    `json:"offset"`
	Reason string    `json:"reason"`
	Do     string    `json:"do"`
}

// Oldest is a partition's oldest unfinished event.
type Oldest struct {
	Offset     int64      `json:"offset"`
	Attempts   int        `json:"attempts"`    // that count
	AttemptsOf int        `json:"attempts_of"` // after which it becomes a dead letter
	WaitsFor   string     `json:"waits_for"`   // a word of the contract
	Code       string     `json:"code"`        // of its last failure; "": none, or not known
	Message    string     `json:"message"`
	RetryAt    *time.Time `json:"retry_at"` // nil: no retry is scheduled
	Report     string     `json:"report"`   // the accounts; "": not known
	Peer       string     `json:"peer"`
}

// Happening is something that happened. Kind is started, hold-began, hold-ended, rebalanced,
// slowed, recovered, silent, responding, lost, trouble-began, trouble-ended or command; the
// catalogue has its text as happening.KIND.
type Happening struct {
	At     time.Time      `json:"at"`
	Kind   string         `json:"kind"`
	Worker string         `json:"worker"` // "": the only one, or the group
	Params map[string]any `json:"params"`
}

// DeadLetters counts the dead letters of the topic by state.
type DeadLetters struct {
	Open   int64 `json:"open"`
	Parked int64 `json:"parked"`
}
