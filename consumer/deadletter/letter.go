package deadletter

import "markread/consumer/event"

// Letter is a letter of the topic, and what became of it.
type Letter struct {
	ID
	State State
	event.Letter
}

// Parse reads the record of a letter.
func Parse(r event.Record, state State) Letter {
	return Letter{ID: IDOf(r), State: state, Letter: event.ReadLetter(r)}
}
