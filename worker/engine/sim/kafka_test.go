package sim

import (
	"math"
	"slices"
	"time"

	"markread/consumer/event"
)

// record is one record of a partition, and what has happened to it.
type record struct {
	offset       int64
	readTime     int64
	at           int64 // when it was appended
	receivedAt   int64 // when it was last delivered
	conversation int32 // the conversation
	invalid      bool
	dead         uint16 // dead letters on the topic that stand for it
	lost         uint16 // dead letters whose acknowledgement was lost
	deliveries   uint16
	// the generation, by its unique number, in which it was last reported as finished
	finishedIn int32
	attempts   int   // as the engine last reported
	done       bool  // the engine reported it as finished
	changedAt  int64 // when it was reported; -1: no commit since has informed the owner
}

// log is a partition: it only grows, and its offsets have gaps.
type log struct {
	topic            string
	number           int
	lane             event.Lane
	records          []record
	end              int64 // the next offset
	committed        int64 // -1: nothing
	metadata         string
	settled          int // records before this one are below the committed offset
	owner            *generation
	knownAt          int64 // the last commit contains what was known by then
	metadataComplete bool  // the metadata had space for all of it, and is stored as it was sent
}

// kafka is the two topics, and the group.
type kafka struct {
	logs       []*log // sorted by topic and number
	partitions [2]int // by lane
	before     [2]int // before partitions were added
	grownAt    int64  // 0: never
	group      group
	names      []string // of the readers
}

const peer = "peer"

func (k *kafka) open(w *world) {
	k.grow(w, event.Live, w.partitions)
	k.grow(w, event.Backfill, w.backfill)
	k.grownAt, w.stats.grown = 0, 0
	for i := range w.conversations {
		k.names = append(k.names,
			"reader"+string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676%26),
				'a' + byte(i/17576)}))
	}
}

// conversationOf returns the conversation of a reader's name.
func conversationOf(name string) int32 {
	n := name[len("reader"):]
	return int32(n[0]-'a') + 26*int32(n[1]-'a') + 676*int32(n[2]-'a') + 17576*int32(n[3]-'a')
}

func (k *kafka) append(w *world, l *log, r record) {
	id := uint64(len(l.records))<<8 | uint64(l.number)<<1 | uint64(l.lane)
	r.offset, r.at = l.end, w.now
	if w.chance(0.02, dieRecord, id, 9) { // compacted, aborted, or a marker
		r.offset += 1 + int64(w.roll(dieRecord, id, 10)%5)
	}
	l.end = r.offset + 1
	if w.chance(0.01, dieRecord, id, 11) {
		l.end++ // and one gap at the end, which no record follows
	}
	l.records = append(l.records, r)
	w.stats.records++
	if g := l.owner; g != nil {
		g.process.appended(l)
	}
}

// produce appends the events of one moment to the live topic.
func (w *world) produce() {
	if w.faultsOver {
		return
	}
	const step = 250 * time.Millisecond
	tick := uint64(w.now / int64(step))
	load := w.live
	if w.active[burst] > 0 {
		load *= 3 + 10*w.current[burst].strength
	}
	mean := load * step.Seconds() * 2 * w.unit(dieLoad, tick, 0)
	n := int(mean)
	if w.chance(mean-math.Floor(mean), dieLoad, tick, 1) {
		n++
	}
	for i := range n {
		w.emit(event.Live, tick<<16|uint64(i))
	}
	w.queue.push(entry{at: w.now + int64(step), kind: loadDue})
}

// produceBulk appends many events to the backfill topic at the same time.
func (w *world) produceBulk() {
	if w.faultsOver {
		return
	}
	bulk := uint64(w.now / w.bulkEvery)
	for i := range int(w.bulk * 2 * w.unit(dieLoad, bulk, 2)) {
		w.emit(event.Backfill, 1<<60|bulk<<24|uint64(i))
	}
	w.queue.push(entry{at: w.now + w.bulkEvery, kind: bulkDue})
}

// emit appends one event.
func (w *world) emit(lane event.Lane, id uint64) {
	conversation := int32(w.roll(dieRecord, id, 0) % uint64(w.conversations))
	if w.chance(w.hot, dieRecord, id, 1) {
		conversation = int32(w.roll(dieRecord, 0, 1) % uint64(w.conversations))
	}
	r := record{conversation: conversation, readTime: 1_700_000_000 + w.now/int64(time.Second)}
	switch kind := w.unit(dieRecord, id, 2); {
	case kind < w.repeated:
		r.readTime -= r.readTime % 30
	case kind < w.repeated+w.older:
		r.readTime -= int64(w.between(1, 3000, dieRecord, id, 3))
	}
	r.invalid = w.chance(w.invalid, dieRecord, id, 4) ||
		w.active[onlyInvalid] > 0 && int(lane) == w.current[onlyInvalid].lane
	logs := w.kafka.ofLane(lane)
	key := mix(uint64(conversation))
	if !w.keyed {
		key = w.roll(dieRecord, id, 5)
	}
	w.kafka.append(w, logs[key%uint64(len(logs))], r)
}

// group is the coordinator's side of the consumer group.
type group struct {
	members      []member
	generation   int // number of generations created
	generationAt int64
	preparing    bool
	next         int // numbers the queue entries that create a generation
}

type member struct {
	id            int
	life          int32
	joined        bool  // in the next generation
	lastHeartbeat int64 // when its last heartbeat arrived
	quotaTerms
}

const session = 15 * time.Second

// join adds a member to the next generation.
func (g *group) join(w *world, h *process) {
	i := g.find(h.id, h.life)
	if i < 0 {
		i = len(g.members)
		g.members = append(g.members, member{id: h.id, life: h.life})
	}
	g.members[i].joined, g.members[i].quotaTerms = true, h.currentTerms()
	g.rebalance(w)
	g.completeIfJoined(w)
}

// rebalance informs all members that a new generation starts.
func (g *group) rebalance(w *world) {
	if g.preparing {
		return
	}
	g.preparing = true
	for i := range g.members {
		m := &g.members[i]
		if !m.joined {
			beat := int64(w.unit(dieGroup, uint64(g.generation),
				uint64(m.id)) * float64(time.Second))
			w.queue.push(entry{at: w.now + beat, kind: rebalanceSeen, w: int16(m.id), life: m.life,
				a: g.generation})
		}
	}
	g.completeIfJoined(w)
}

// remove removes a member that left or whose session expired.
func (g *group) remove(w *world, id int, life int32) {
	if i := g.find(id, life); i >= 0 {
		g.members = append(g.members[:i:i], g.members[i+1:]...)
		w.note("member removed", id, int64(life), 0, 0)
		g.rebalance(w)
		g.completeIfJoined(w)
	}
}

// expire removes a member without a heartbeat for a session.
func (g *group) expire(w *world, id int, life int32) {
	i := g.find(id, life)
	if i < 0 || g.members[i].joined || w.now-g.members[i].lastHeartbeat < int64(session) {
		return
	}
	if h := w.workers[id]; h.life == life && h.gen != nil {
		h.gen.expired = true
		w.stats.expired++
	}
	g.remove(w, id, life)
}

// beat is the arrival of a heartbeat.
func (g *group) beat(w *world, id int, life int32) {
	if i := g.find(id, life); i >= 0 {
		g.members[i].lastHeartbeat = w.now
		w.queue.push(entry{at: w.now + int64(session), kind: sessionEnds, w: int16(id), life: life})
	}
}

// completeIfJoined creates the generation when all members have joined.
func (g *group) completeIfJoined(w *world) {
	if !g.preparing || len(g.members) == 0 || !g.allJoined() {
		return
	}
	g.next++
	w.queue.push(entry{at: w.now + w.span(2*time.Millisecond, 500*time.Millisecond, dieGroup, 1<<32,
		uint64(g.next)),
		kind: generationMade, a: g.next})
}

// complete creates the generation and sends the members their partitions.
func (g *group) complete(w *world, n int) {
	if n != g.next || !g.preparing || !g.allJoined() {
		return // another member joined or left meanwhile
	}
	g.preparing = false
	g.generation++
	g.generationAt = w.now
	w.stats.generations++
	for _, l := range w.kafka.logs {
		l.owner = nil
	}
	g.assign(w)
	for i := range g.members {
		m := &g.members[i]
		m.joined = false
		g.beat(w, m.id, m.life)
		late := w.span(time.Millisecond, 300*time.Millisecond, dieGroup, uint64(3+m.id)<<32,
			uint64(g.generation))
		w.queue.push(entry{at: w.now + late, kind: generationBegins, w: int16(m.id), life: m.life,
			a: g.generation})
	}
	if w.faultsOver {
		w.setDrainBy()
	}
}

// isMember reports whether a member belongs to the generation with that number.
func (g *group) isMember(id int, life int32, generation int) bool {
	return generation == g.generation && g.find(id, life) >= 0
}

// find returns the index of a member, or -1.
func (g *group) find(id int, life int32) int {
	return slices.IndexFunc(g.members, func(m member) bool { return m.id == id && m.life == life })
}

func (g *group) allJoined() bool {
	return !slices.ContainsFunc(g.members, func(m member) bool { return !m.joined })
}

// commit is the arrival of a commit at the coordinator. It is checked here against the server and
// the dead-letter topic.
func (k *kafka) commit(h *process, e entry) {
	w := h.world
	if e.life != h.life {
		return // it died with its process
	}
	g := h.gen
	id := uint64(h.id)<<40 | uint64(e.a)
	response := entry{at: w.now + w.span(time.Millisecond, 200*time.Millisecond, dieCommit, id, 0),
		kind: commitEnds, w: int16(h.id), life: h.life}
	switch {
	case w.active[commitFails] > 0:
		w.stats.commitsFailed++
		response.a = 1
	case g != nil && g.expired:
		w.stats.stale++
		response.a = 2
	case g == nil || !k.group.isMember(h.id, h.life, g.number):
		w.fail("commit", "worker %d commits for generation %v, the group is at %d", h.id, g,
			k.group.generation)
	default:
		for _, c := range h.committing {
			k.accept(h, c)
		}
		if w.active[commitLost] > 0 && w.chance(0.3, dieCommit, id, 1) {
			w.stats.commitsLost++
			response.a = 1
			response.at += int64(2 * time.Second)
		}
	}
	w.queue.push(response)
}

func (k *kafka) accept(h *process, c commitment) {
	w, l := h.world, c.log
	if l.owner != h.gen {
		w.fail("commit", "worker %d commits %s/%d, which it doesn't own", h.id, l.topic, l.number)
	}
	if c.Offset < l.committed {
		w.fail("commit", "%s/%d goes back from %d to %d", l.topic, l.number, l.committed, c.Offset)
	}
	if c.Offset > l.end {
		w.fail("commit", "%s/%d: %d is committed, the log ends at %d", l.topic, l.number, c.Offset,
			l.end)
	}
	l.committed = c.Offset
	for l.settled < len(l.records) && l.records[l.settled].offset < c.Offset {
		r := &l.records[l.settled]
		if !w.finished(r) {
			w.fail("loss", "%s/%d: %d is committed, but offset %d of %s at %d is not finished; "+
				"the server has %d", l.topic, l.number, c.Offset, r.offset, k.names[r.conversation],
				r.readTime, w.server.readStates[r.conversation].largest)
		}
		l.settled++
	}
	if l.metadata = c.Metadata; l.metadata != "" {
		w.stats.metadata++
	}
	switch id := uint64(l.lane)<<32 | uint64(l.number); {
	case w.active[metadataCut] > 0:
		l.metadata = l.metadata[:w.roll(dieCommit, id, uint64(w.now))%uint64(len(l.metadata)+1)]
	case w.active[metadataForeign] > 0:
		l.metadata = "by an operator"
	}
	l.knownAt, l.metadataComplete = c.built, l.metadata == c.Metadata &&
		len(c.Metadata) < metadataMost-100
	w.note("committed", h.id, int64(l.lane)<<32|int64(l.number), c.Offset, 0)
	w.stats.commits++
}

// finished reports whether a record has one of the two outcomes, according to the server and the
// dead-letter topic.
func (w *world) finished(r *record) bool {
	if r.dead > 0 {
		return true
	}
	return !r.invalid &&
		w.server.readStates[r.conversation].covers(r.readTime, r.receivedAt-rememberedAtMost)
}
