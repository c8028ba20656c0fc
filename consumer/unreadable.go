package consumer

import (
	"time"

	"markread/consumer/kafkaclient"

	"github.com/rs/zerolog"
)

// unreadableAfter is how long nothing could be read of a partition until it counts as unreadable:
// longer than a change of leaders takes.
const unreadableAfter = 5 * time.Second

// failed notes that the partition could not be read, and logs once when it becomes unreadable.
func (p *partition) fetchFailed(err error) {
	if kafkaclient.StaleMetadata(err) {
		p.g.client.RefreshMetadata()
	}
	reason, do := kafkaclient.WhyUnreadable(err)
	p.mu.Lock()
	before, lastGood, position := p.unreadable, p.lastGood, p.tracker.Position()
	if time.Since(lastGood) >= unreadableAfter {
		p.unreadable = &kafkaclient.Unreadable{Since: lastGood, Offset: max(position, -1),
			Reason: reason, Do: do}
	}
	now := p.unreadable
	p.mu.Unlock()
	if now == nil || before != nil && before.Do == do {
		return
	}
	p.logEvent(zerolog.ErrorLevel, now.Offset).Time("since", lastGood).Str("reason", reason).
		Str("do", do).Msg("partition can't be read; retrying")
}

// succeeded notes a good fetch, and logs if it ends a time without one.
func (p *partition) fetchSucceeded() {
	p.wait = kafkaclient.NewBackoff()
	p.mu.Lock()
	before := p.unreadable
	p.lastGood, p.unreadable = time.Now(), nil
	p.mu.Unlock()
	if before != nil {
		p.logEvent(zerolog.InfoLevel, p.position()).
			Int64("unreadable_ms", time.Since(before.Since).Milliseconds()).
			Msg("partition can be read again")
	}
}

// paused notes that no fetch was tried for so long, which says nothing about the partition. The
// time before the pause counts on: while capacity is scarce there is a pause before each fetch.
func (p *partition) paused(pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unreadable == nil {
		p.lastGood = p.lastGood.Add(pause)
	}
}
