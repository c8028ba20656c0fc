package sim

import "markread/consumer/offsets"

// metadataMost is the maximum size of a commit's metadata, in bytes.
const metadataMost = 4000

// inherit lets a new owner of a partition read the metadata committed with its offset, and marks
// the records whose state no commit contains.
func (h *process) inherit(l *log, t *offsets.Tracker) {
	if t.Inherit(l.metadata) != nil {
		h.stats.unread++
		if l.metadataComplete {
			h.fail("metadata", "worker %d can't read what was committed beside offset %d of %s/%d",
				h.id, l.committed, l.topic, l.number)
		}
	}
	for i := l.settled; i < len(l.records); i++ {
		if r := &l.records[i]; r.changedAt >= l.knownAt && r.changedAt > 0 || !l.metadataComplete {
			r.changedAt = -1
		}
	}
}

// checkInherited checks what is known of a record when it is read: never more than there was to
// know, and all of it if the last commit of its partition contained it, whichever worker has read
// it since.
func (h *process) checkInherited(p *assignedPartition, r *record, attempts int, finished bool) {
	if finished && !h.world.finished(r) {
		h.fail("loss", "offset %d of %s/%d (%s at %d) is skipped as finished, but the server has "+
			"%d and there is no dead letter", r.offset, p.topic, p.number,
			h.kafka.names[r.conversation], r.readTime, h.server.readStates[r.conversation].largest)
	}
	if finished {
		h.stats.skipped++
		r.finishedIn = h.gen.unique
	} else {
		h.stats.inherited += min(attempts, 1)
	}
	if p.owner != h.gen {
		return // it was removed from the group, and doesn't know: no commit of it will be accepted
	}
	if attempts > r.attempts {
		h.fail("metadata", "offset %d of %s/%d is delivered with %d attempts, it has had %d",
			r.offset, p.topic, p.number, attempts, r.attempts)
	}
	if r.changedAt >= 0 && r.changedAt < p.knownAt {
		h.stats.known++
		if finished != r.done || !finished && attempts != r.attempts {
			h.fail("metadata", "offset %d of %s/%d is delivered as finished %v, with %d "+
				"attempts; a commit contained %v and %d", r.offset, p.topic, p.number, finished,
				attempts, r.done, r.attempts)
		}
	}
	if r.changedAt < 0 {
		r.changedAt = h.now
	}
	r.done = finished
	if !finished {
		r.attempts = attempts
	}
}

// markAllKnown notes that a generation ends cleanly: its last commit was accepted, and contains all
// that its owner knew.
func (h *process) markAllKnown() {
	for i := range h.gen.partitions {
		if l := h.gen.partitions[i].log; l.owner == h.gen {
			l.knownAt = h.now + 1
		}
	}
}
