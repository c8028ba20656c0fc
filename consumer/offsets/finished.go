package offsets

// Finished returns how many offsets between c's own and end the metadata says have finished, for
// who looks at a group from outside. What can't be read says nothing. It is at most what there is:
// holes in the log count as what is around them.
func (c Commit) Finished(end int64) int64 {
	if c.Metadata == "" || c.Offset < 0 {
		return 0
	}
	_, spans, _ := decode(c.Metadata, c.Offset)
	return finished(spans, end)
}

// KnownFinished returns how many of the offsets from Position up to end, which were not read yet,
// are known to have finished.
func (t *Tracker) KnownFinished(end int64) int64 {
	return finished(t.inherited, end) - finished(t.inherited, t.position)
}

// finished returns how many offsets before end the spans say have finished.
func finished(spans []span, end int64) (n int64) {
	for _, s := range spans {
		if s.attempts == 0 && s.from < end {
			n += min(s.to, end) - s.from
		}
	}
	return n
}
