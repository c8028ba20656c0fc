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
func (p *partition) failed(err error) {
	if kafkaclient.StaleMetadata(err) {
		p.g.client.RefreshMetadata()
	}
	reason, do := kafkaclient.WhyUnreadable(err)
	p.mu.Lock()
	before, good, position := p.unreadable, p.good, p.tracker.Position()
	if time.Since(good) >= unreadableAfter {
		p.unreadable = &kafkaclient.Unreadable{Since: good, Offset: max(position, -1),
			Reason: reason, Do: do}
	}
	now := p.unreadable
	p.mu.Unlock()
	if now == nil || before != nil && before.Do == do {
		return
	}
	p.event(zerolog.ErrorLevel, now.Offset).Time("since", good).Str("reason", reason).
		Str("do", do).Msg("partition can't be read; retrying")
}

// succeeded notes a good fetch, and logs if it ends a time without one.
func (p *partition) succeeded() {
	p.wait = kafkaclient.NewBackoff()
	p.mu.Lock()
	before := p.unreadable
	p.good, p.unreadable = time.Now(), nil
	p.mu.Unlock()
	if before != nil {
		p.event(zerolog.InfoLevel, p.position()).
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
		p.good = p.good.Add(pause)
	}
}
