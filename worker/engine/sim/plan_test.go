package sim

import (
	"math"
	"time"
)

// dice is the randomness of a seed. Every roll names its subject, so that it doesn't depend on
// earlier rolls: a seed is a trace, and a local change doesn't reshuffle everything else.
type dice uint64

// The subjects of rolls. The values are part of a seed's trace: append new ones.
const (
	dieSwarm uint64 = iota + 1
	dieKnob
	diePhase
	dieConversation
	dieLoad
	dieRecord
	dieLatency
	dieFate
	dieFetch
	dieCommit
	dieLetter
	dieGroup
	dieJitter
	dieClock
)

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (d dice) roll(die, a, b uint64) uint64 { return mix(mix(mix(uint64(d)^die<<56)^a) ^ b) }

// unit returns a number in [0, 1).
func (d dice) unit(die, a, b uint64) float64 { return float64(d.roll(die, a, b)>>11) / (1 << 53) }

func (d dice) chance(p float64, die, a, b uint64) bool { return d.unit(die, a, b) < p }

// between returns a number in [low, high]; every order of magnitude is equally likely.
func (d dice) between(low, high float64, die, a, b uint64) float64 {
	return low * math.Pow(high/low, d.unit(die, a, b))
}

func (d dice) span(low, high time.Duration, die, a, b uint64) int64 {
	return int64(d.between(float64(low), float64(high), die, a, b))
}

// fault is a kind of fault. Each occurs as a phase with a beginning and an end, or only at its
// beginning.
type fault int

const (
	serverBadGateway fault = iota
	serverReset
	serverHangs
	serverRefuses
	serverFails     // every call gets a transient ErrorCode
	brownout        // a share of the calls fails, in all ways, including lost responses
	slowNetwork     // ten times the latency
	keyRevoked      // the server's key changes; at the end the worker's key file, too
	notAdmin        // a refusal that no signature can prevent
	locked          // 70050
	signatureEnds   // earlier signatures are refused once
	keyUnreadable   // the key file
	strictServer    // the server allows less than we believe
	retryAfter      // 429 with Retry-After
	rejectsAll      // all conversations, or the ones that only the backfill lane has
	fetchFails      // no fetch gets a response
	commitFails     // commits are refused
	commitLost      // commits succeed, and the response is lost
	rebalance       // the group rebalances for no reason
	leave           // a member leaves and rejoins
	kill            // a member dies and rejoins
	freeze          // a process is suspended
	pause           // an operator pauses a worker, and resumes it
	lettersRefused  // the dead-letter topic refuses
	lettersSlow     // dead letters take up to 4 s longer
	lettersLost     // dead letters are written, and the acknowledgement is lost
	burst           // a much higher load
	onlyInvalid     // all new records of a lane are invalid
	acceptsRejected // an operator resumes with --accept-rejections
	longFreeze      // a process is suspended for longer than its session
	beatsLost       // heartbeats or their responses are lost
	metadataCut     // the metadata committed with an offset is truncated
	metadataForeign // or another tool's
	clockSteps      // the wall clock is changed
	rollout         // the workers are restarted one after the other, with another rate
	grows           // a topic gets more partitions
	faults
)

var faultNames = [faults]string{
	"bad gateway", "reset", "hang", "refused", "failing", "brownout", "slow", "key revoked",
	"not admin", "locked",
	"signature ends",
	"key unreadable", "strict", "retry-after", "rejects all", "fetch", "commit", "commit lost",
	"rebalance", "leave",
	"kill", "freeze",
	"pause", "letters refused", "letters slow", "letters lost", "burst", "only invalid", "accept",
	"long freeze", "heartbeats lost", "metadata cut", "metadata foreign", "clock steps", "rollout",
	"more partitions",
}

func (f fault) String() string { return faultNames[f] }

// lengths are the minimum and maximum lengths of a phase.
var lengths = [faults][2]time.Duration{
	serverBadGateway: {time.Second, 90 * time.Second}, serverReset: {time.Second, 60 * time.Second},
	serverHangs:   {time.Second, 90 * time.Second},
	serverRefuses: {time.Second, 60 * time.Second}, serverFails: {time.Second, 90 * time.Second},
	brownout:    {5 * time.Second, 200 * time.Second},
	slowNetwork: {time.Second, 60 * time.Second}, keyRevoked: {time.Second, 80 * time.Second},
	notAdmin: {time.Second, 60 * time.Second},
	locked:   {time.Second, 90 * time.Second}, keyUnreadable: {time.Second, 60 * time.Second},
	strictServer: {10 * time.Second, 200 * time.Second},
	retryAfter:   {100 * time.Millisecond, 5 * time.Second},
	rejectsAll:   {5 * time.Second, 200 * time.Second},
	fetchFails:   {time.Second, 30 * time.Second}, commitFails: {time.Second, 30 * time.Second},
	commitLost: {time.Second, 60 * time.Second},
	leave:      {time.Second, 60 * time.Second}, kill: {500 * time.Millisecond, 30 * time.Second},
	freeze: {100 * time.Millisecond, 3 * time.Second},
	pause:  {time.Second, 60 * time.Second}, lettersRefused: {time.Second, 40 * time.Second},
	lettersSlow: {time.Second, 60 * time.Second},
	lettersLost: {5 * time.Second, 100 * time.Second}, burst: {time.Second, 20 * time.Second},
	onlyInvalid:     {5 * time.Second, 60 * time.Second},
	acceptsRejected: {time.Second, time.Second},
	longFreeze:      {15500 * time.Millisecond, 45 * time.Second},
	beatsLost:       {3 * time.Second, 40 * time.Second},
	metadataCut:     {time.Second, 60 * time.Second},
	metadataForeign: {time.Second, 60 * time.Second},
	clockSteps:      {time.Second, time.Second},
	rollout:         {time.Second, 60 * time.Second}, grows: {time.Second, time.Second},
}

// phase is one fault of a run.
type phase struct {
	fault    fault
	from, to int64
	worker   int     // the affected worker
	strength float64 // in [0, 1): the severity
	lane     int     // the affected lane
}

// plan is everything that a seed chooses in advance.
type plan struct {
	dice
	length int64 // of the fault phase, ns

	workers, partitions, backfill int // backfill: partitions of that topic
	keyed                         bool
	rate, attempts, maxPending    int
	maxEvents, maxRejected        int
	fetchMost                     int
	backoffInitial, backoffMost   time.Duration
	commitEvery, drainTimeout     int64

	conversations   int
	live, bulk      float64 // events per second; events of one bulk of the backfill
	bulkEvery       int64
	hot             float64 // share of the events that belong to one conversation
	repeated, older float64
	invalid         float64
	// shares of the conversations: rejected, always failing, never getting a response
	poison, alwaysFailing, unanswered float64
	latency, jitter                   time.Duration

	on     [faults]bool
	phases []phase
}

func newPlan(seed uint64, minutes float64) *plan {
	d := dice(mix(seed))
	p := &plan{dice: d, length: int64(minutes * float64(time.Minute))}
	knob := func(n uint64, low, high float64) float64 { return d.between(low, high, dieKnob, n, 0) }
	often := func(n uint64, p float64) bool { return d.chance(p, dieSwarm, n, 0) }
	p.workers = 1 + int(d.roll(dieKnob, 1, 0)%4)
	p.partitions = int(knob(2, 1, 13))
	p.backfill = p.partitions
	switch {
	case often(1, 0.2):
		p.backfill = 0
	case often(2, 0.2):
		p.backfill = int(knob(3, 1, 13))
	}
	p.keyed = often(3, 0.7)
	p.rate = int(knob(4, 6, 200))
	if often(4, 0.03) {
		p.rate = 200
	}
	p.attempts = int(knob(5, 1, 10))
	p.maxPending = int(knob(6, 40, 20000))
	if often(5, 0.15) {
		p.maxPending = int(knob(7, 2, 40))
	}
	p.maxEvents = 8_000_000
	if often(6, 0.2) {
		p.maxEvents = int(knob(8, 10, 1000))
	}
	p.maxRejected = 95
	if often(7, 0.3) {
		p.maxRejected = 20 + int(d.roll(dieKnob, 9, 0)%81)
	}
	p.fetchMost = int(knob(10, 1, 500))
	p.backoffInitial = time.Duration(knob(11, float64(20*time.Millisecond), float64(2*time.Second)))
	p.backoffMost = time.Duration(knob(12, float64(2*time.Second), float64(30*time.Second)))
	p.commitEvery = int64(knob(13, float64(200*time.Millisecond), float64(5*time.Second)))
	p.drainTimeout = int64(knob(14, float64(6*time.Second), float64(9*time.Second)))
	p.conversations = 1 + int(knob(15, 1, 3000))
	p.live = float64(p.rate) * knob(16, 0.2, 2)
	p.bulk = float64(p.rate) * knob(17, 1, 60)
	p.bulkEvery = int64(knob(18, float64(5*time.Second), float64(4*time.Minute)))
	// A run takes as long as there are fetches. Many events fetched one by one test no more than
	// few.
	const fetches = 50_000
	events := p.live*minutes*60 + p.bulk*float64(p.length)/float64(p.bulkEvery)
	p.fetchMost = max(p.fetchMost, int(events/fetches))
	if often(8, 0.3) {
		p.hot = d.unit(dieKnob, 19, 0)
	}
	p.repeated, p.older = d.unit(dieKnob, 20, 0)*0.3, d.unit(dieKnob, 21, 0)*0.3
	if often(9, 0.5) {
		p.invalid = knob(22, 0.001, 0.2)
	}
	if often(10, 0.5) {
		p.poison = knob(23, 0.005, 0.3)
	}
	if often(11, 0.4) {
		p.alwaysFailing = knob(24, 0.005, 0.2)
	}
	if often(12, 0.4) {
		p.unanswered = knob(25, 0.005, 0.1)
	}
	p.latency = time.Duration(knob(26, float64(2*time.Millisecond), float64(200*time.Millisecond)))
	p.jitter = time.Duration(knob(27, float64(time.Millisecond), float64(500*time.Millisecond)))
	p.choosePhases(minutes)
	return p
}

func (p *plan) choosePhases(minutes float64) {
	share := p.between(0.05, 1, dieSwarm, 100, 0) // how many kinds of faults occur
	for f := range faults {
		p.on[f] = p.chance(share, dieSwarm, 200, uint64(f))
	}
	p.on[acceptsRejected] = p.on[acceptsRejected] && (p.on[rejectsAll] || p.on[onlyInvalid])
	for f := range faults {
		if !p.on[f] {
			continue
		}
		for i := range 1 + int(p.unit(diePhase, uint64(f), 0)*minutes/2) {
			k := uint64(f)<<20 | uint64(i)<<4
			from := int64(p.unit(diePhase, k, 1) * float64(p.length))
			to := from
			if l := lengths[f]; l[0] > 0 {
				to += p.span(l[0], l[1], diePhase, k, 2)
			}
			p.phases = append(p.phases, phase{
				fault: f, from: from, to: min(to, p.length), strength: p.unit(diePhase, k, 3),
				worker: int(p.roll(diePhase, k, 4) % uint64(p.workers)),
				lane:   int(p.roll(diePhase, k, 5) % 2),
			})
		}
	}
}

// lastWriteWins reports whether a server that keeps the T that arrived last must also keep the
// largest within a generation: each conversation belongs to one worker, and no call has an effect
// that the worker doesn't learn of.
func (p *plan) lastWriteWins() bool {
	for _, f := range []fault{serverHangs, serverReset, brownout, freeze, longFreeze, beatsLost,
		slowNetwork, grows} {
		if p.on[f] {
			return false
		}
	}
	return p.unanswered == 0 &&
		(p.workers == 1 || p.keyed && (p.backfill == 0 || p.backfill == p.partitions))
}
