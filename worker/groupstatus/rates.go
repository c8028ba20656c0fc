package groupstatus

// Rates are the changes from one report to a later one. A nil value is not known: a part of one of
// the reports is missing, or a counter went back, as after a restart.
type Rates struct {
	Topics map[string]TopicRates
	Calls  *float64 // of the worker, a second
	// Written is the number of dead letters that were written in between, resolved or not.
	Written *int64
}

// TopicRates are the changes of one topic, in events a second.
type TopicRates struct {
	In   *float64 // appended to the topic
	Done *float64 // finished, as far as the group has committed
}

// RatesOf returns the changes between two reports of one [Collector]. before may be nil.
func RatesOf(before, now *Report) Rates {
	r := Rates{Topics: map[string]TopicRates{}}
	if before == nil || !now.At.After(before.At) {
		return r
	}
	seconds := now.At.Sub(before.At).Seconds()
	if before.Lag != nil && now.Lag != nil {
		for _, b := range before.Lag.Topics {
			for _, n := range now.Lag.Topics {
				if n.Topic == b.Topic {
					r.Topics[n.Topic] = topicRates(b, n, seconds)
				}
			}
		}
	}
	if b, n := before.Worker, now.Worker; b != nil && n != nil && n.Calls >= b.Calls &&
		n.StartedAt.Equal(b.StartedAt) {
		r.Calls = new(float64(n.Calls-b.Calls) / seconds)
	}
	if b, n := before.Letters, now.Letters; b != nil && n != nil && n.Reading > 0 &&
		n.Reading == b.Reading {
		r.Written = new(n.total() - b.total())
	}
	return r
}

// total returns the number of dead letters in any state.
func (n StateCounts) total() int64 { return n.Open + n.Parked + n.Replayed + n.Discarded }

// topicRates adds up the changes of the partitions that both reports know.
func topicRates(before, now TopicLag, seconds float64) TopicRates {
	known := map[int]PartitionLag{}
	for _, p := range before.Partitions {
		if p.End != nil && p.Lag != nil {
			known[p.Partition] = p
		}
	}
	in, done, some := int64(0), int64(0), false
	for _, n := range now.Partitions {
		b, both := known[n.Partition]
		if !both || n.End == nil || n.Lag == nil {
			continue
		}
		if *n.End < *b.End { // recreated
			return TopicRates{}
		}
		some = true
		in += *n.End - *b.End
		if n.Committed != nil {
			done += n.position() - b.position() - max(0, n.Lost-b.Lost)
		}
	}
	r := TopicRates{}
	if some {
		r.In = new(float64(in) / seconds)
	}
	if some && done >= 0 { // a reset of the group's offsets goes back
		r.Done = new(float64(done) / seconds)
	}
	return r
}

// position returns the group's offset plus the number of finished events beyond it.
func (p PartitionLag) position() int64 { return *p.End - *p.Lag + p.Finished }

// Trend returns by how many events a second the lag grows; nil: not known.
func (r TopicRates) Trend() *float64 {
	if r.In == nil || r.Done == nil {
		return nil
	}
	return new(*r.In - *r.Done)
}
