package worker

import (
	"context"
	"math"
	"time"

	"markread/consumer/kafkaclient"
)

// retentionInterval is how often the topics' retention is read: raising it is what an operator does
// about events that are about to be lost.
const retentionInterval = time.Minute

// watchRetention keeps the retention of the event topics up to date until ctx ends.
func (w *Worker) watchRetention(ctx context.Context) {
	read := func() {
		retention, err := w.options.Kafka.Retention(ctx, w.options.Topics.Consumed()...)
		if ctx.Err() != nil {
			return // the result may lack a topic
		}
		if err != nil {
			w.throttled.Pass("retention", w.options.Log.Warn()).Err(err).
				Msg("the topics' retention can't be read; it may be outdated in the metrics")
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.retention = retention
	}
	read()
	every(ctx, retentionInterval, read)
}

// retentionLeft returns for how many more seconds Kafka keeps the partition's oldest unfinished
// record; false if that is not known.
func (p partition) retentionLeft(now time.Time, retention map[string]time.Duration) (float64, bool) {
	kept, known := retention[p.Topic]
	switch {
	case kept == kafkaclient.Forever:
		return math.Inf(1), true
	case !known, p.Written.IsZero() && (p.Oldest != nil || !p.AllRead):
		return 0, false
	case p.Oldest == nil && p.AllRead:
		return kept.Seconds(), true
	}
	return max(0, kept-max(0, now.Sub(p.Written))).Seconds(), true
}
