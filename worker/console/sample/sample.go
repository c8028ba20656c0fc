// Package sample decodes the metrics of one worker into a [Member]: the worker's state at one
// moment, in numbers. The console reads every worker in this way: its own in its process, the
// others from their /metrics.
//
// It is pure. The text of another worker's /metrics is written by others: [Decode] and [Parse]
// bound what they accept, and a series that is missing or makes no sense is not known, never 0.
package sample

import "time"

// Lanes is the number of lanes; a lane is 0, live, or 1, backfill.
const Lanes = 2

// Results are the values of the label result of markread_calls_total, in the order of
// Member.Calls.
var Results = [...]string{"ok", "transient", "throttled", "held", "rejected"}

// Outcomes are the values of the label outcome of markread_events_total, in the order of
// Lane.Finished.
var Outcomes = [...]string{"applied", "collapsed", "superseded", "dead_lettered"}

// AgeBounds are the upper bounds in seconds of the buckets of markread_event_age_seconds; one more
// bucket has the rest.
var AgeBounds = [...]float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600,
	6 * 3600, 86400}

// Ages counts events by age: not cumulative, in the buckets of [AgeBounds].
type Ages [len(AgeBounds) + 1]float64

// Member is a worker's state at one moment. A number that is not known is NaN; a time, zero.
type Member struct {
	At              time.Time // when the metrics were read
	ID              string    // of the member of the group; "": none yet, or an older version
	Version, Commit string
	Started         time.Time // of the process
	Ready           bool
	Rate            float64 // calls a second of the group; NaN: no limit
	Share, Limit    float64 // of this worker
	InFlight        float64
	MaxPending      float64
	Assigned        float64 // partitions
	GroupPartitions float64
	Generations     float64            // counter
	LastSuccess     time.Time          // of a call; zero: none
	Calls           [5]float64         // counter, by [Results]
	CallCodes       map[Code]float64   // counter, without those that are 0
	Letters         map[Code]float64   // counter of dead letters by class and code, without 0
	Lost            map[string]float64 // counter of events lost to retention, by topic
	CommitFailures  float64            // counter
	Lanes           [Lanes]Lane
	Held            []Held      // sorted by Since
	Partitions      []Partition // sorted by topic and number
	Settings        map[string]string
}

// Code is a result or class, and a code.
type Code struct{ Class, Code string }

// Lane is one lane of a worker.
type Lane struct {
	Topic         string     // "": there is no such lane
	Received      float64    // counter
	Returned      float64    // counter
	Finished      [4]float64 // counter, by [Outcomes]
	Conversations float64
	Events        float64
	Paused        bool // fetching is paused: memory is full
	Ages          Ages // counters
}

// Held is an active hold. Lane is live, backfill or all.
type Held struct {
	Reason, Lane string
	Since        time.Time
}

// Partition is an assigned partition. RetentionLeft is +Inf if the topic keeps records forever.
type Partition struct {
	Topic         string
	Number        int
	Lag           float64 // records; NaN: not known
	Oldest        float64 // seconds, of the oldest unfinished event; 0: none
	Unreadable    bool
	RetentionLeft float64 // seconds
}
