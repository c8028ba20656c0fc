package offsets

// Finished returns how many offsets between c's own and end the metadata says have finished, for who looks at a group from outside. What can't
// be read says nothing. It is at most what there is: holes in the log count as what is around them.
func (c Commit) Finished(end int64) int64 {
	if c.Metadata == "" || c.Offset < 0 {
		return 0
	}
	_, spans, _ := decode(c.Metadata, c.Offset)
	finished := int64(0)
	for _, s := range spans {
		if s.attempts == 0 && s.from < end {
			finished += min(s.to, end) - s.from
		}
	}
	return finished
}
