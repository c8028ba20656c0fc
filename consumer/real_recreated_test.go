package consumer_test

import (
	"testing"
	"time"
)

// When a topic is deleted, Kafka deletes the committed offsets of all groups, even of a group with
// members. So does the embedded broker. A member that joins after the topic was recreated starts at
// its beginning.
func TestRealDeletedTopicTakesItsOffsets(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 10)
	r.publish(r.topics.Backfill, 0, 3)
	m := r.join(r.client())
	r.waitForCommit(m, r.topics.Live, 0, 10)
	r.waitForCommit(m, r.topics.Backfill, 0, 3)
	m.leave()
	r.delete(r.topics.Live)
	r.eventually(20*time.Second, "the committed offset is gone",
		func() bool { return r.committed(r.topics.Live, 0) == -1 })
	if got := r.committed(r.topics.Backfill, 0); got != 3 {
		t.Errorf("of the other topic %d is committed, want 3", got)
	}
	r.create(r.topics.Live, 1)
	r.publish(r.topics.Live, 0, 20)
	m = r.join(r.client())
	r.waitForOffsets(m, r.topics.Live, 0, offsets(0, 20))
	r.waitForCommit(m, r.topics.Live, 0, 20)
	if lost := m.generation().Lost(); len(lost) != 0 {
		t.Errorf("lost %v", lost)
	}
	m.leave()
}

// A topic is deleted and recreated while a member reads it, with fewer records than were read of
// the old one. The new topic is read from its beginning, and its offsets are committed.
func TestRealRecreatedTopic(t *testing.T) {
	needCluster(t, "it takes 5 s, and virtual time has it (TestRecreatedTopic)")
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 10)
	m := r.join(r.client())
	r.waitForCommit(m, r.topics.Live, 0, 10)
	began := time.Now()
	r.delete(r.topics.Live)
	r.eventually(20*time.Second, "the committed offset is gone",
		func() bool { return r.committed(r.topics.Live, 0) == -1 })
	r.create(r.topics.Live, 1)
	r.publish(r.topics.Live, 0, 5)
	r.waitForOffsets(m, r.topics.Live, 0, append(offsets(0, 10), offsets(0, 5)...))
	t.Logf("continued reading %v after it was deleted", time.Since(began))
	r.waitForCommit(m, r.topics.Live, 0, 5)
	lines := r.log.Lines("topic recreated or truncated; reading from the beginning")
	if len(lines) != 1 || lines[0]["level"] != "error" || lines[0]["offset"] != 10.0 ||
		lines[0]["next_offset"] != 0.0 {
		t.Errorf("logged: %v", lines)
	}
	if n := m.generationCount(); n != 1 {
		t.Errorf("%d generations", n)
	}
	m.leave()
}

// A fetch names the topic, not its id. So a broker returns records of the recreated log once it has
// grown beyond the old position. The member still detects the new log, and reads it from its
// beginning. Here it fetches nothing until the new log is longer, for lack of capacity.
func TestRealRecreatedTopicThatIsLonger(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 10)
	m := r.join(r.client())
	r.waitForCommit(m, r.topics.Live, 0, 10)
	m.set(func() { m.oneDelivery = true }) // no capacity after one event
	r.publish(r.topics.Live, 0, 1)
	r.waitFor(m, r.topics.Live, 0, 11)
	r.delete(r.topics.Live)
	r.create(r.topics.Live, 1)
	r.publish(r.topics.Live, 0, 30)
	m.set(func() { m.full, m.oneDelivery = false, false })
	r.waitForOffsets(m, r.topics.Live, 0, append(offsets(0, 11), offsets(0, 30)...))
	r.waitForCommit(m, r.topics.Live, 0, 30)
	m.leave()
}
