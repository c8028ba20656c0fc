package consumer

import (
	"time"

	"markread/consumer/kafkaclient"

	"github.com/rs/zerolog"
)

// unreadableAfter is how long every fetch of a partition must fail before it counts as unreadable:
// longer than a change of leaders takes.
const unreadableAfter = 5 * time.Second

// fetchFailed records a failed read of the partition, and logs when the partition becomes
// unreadable or the remedy changes.
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

// fetchSucceeded records a successful fetch, and logs when the partition was unreadable before.
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

// paused records that no fetch was attempted for the duration of pause. That time doesn't count as
// unreadable; the time before it does: while capacity is scarce, there is a pause before each
// fetch.
func (p *partition) paused(pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unreadable == nil {
		p.lastGood = p.lastGood.Add(pause)
	}
}
