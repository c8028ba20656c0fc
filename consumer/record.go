package consumer

// Header returns the value of the last header of that name, as Kafka's own lastHeader does; false: there is none.
func (r Record) Header(name string) (value string, ok bool) {
	b, ok := lastHeader(r.Headers, name)
	return string(b), ok
}

// Replays returns how often a dead letter of the event was replayed.
func (r Record) Replays() int { return replays(r.Headers) }
