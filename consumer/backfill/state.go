package backfill

import (
	"fmt"
	"time"
)

// State is how far a run got, as it is kept in a file beside the first input.
type State struct {
	Version   int        `json:"version"`
	Began     time.Time  `json:"began"`
	Topic     string     `json:"topic"`
	Brokers   []string   `json:"brokers"`
	ReadTime  int64      `json:"read_time"` // of rows that have none
	Rejects   string     `json:"rejects"`   // absolute path; "": none
	Inputs    []Identity `json:"inputs"`
	TopicEnd  int64      `json:"topic_end"` // how many records were ever written to the topic when the run began
	Published int64      `json:"published"` // records that are acknowledged since
	At        Mark       `json:"at"`        // every row before it was rejected, or its conversation is acknowledged with at least its T
}

const stateVersion = 1

// ReadUpTo is the read time of rows that have none.
func (s *State) ReadUpTo() string {
	return time.Unix(s.ReadTime, 0).UTC().Format("2006-01-02 15:04:05 MST")
}

// Same reports whether the inputs are those of the state; the error says which is not, and why.
func (s *State) Same(inputs []Input) error {
	if len(inputs) != len(s.Inputs) {
		return fmt.Errorf("there were %d files, and now there are %d: give the same, in the same order", len(s.Inputs), len(inputs))
	}
	for i, in := range inputs {
		was, is := s.Inputs[i], in.Identity
		what := ""
		switch {
		case was.Size != is.Size:
			what = fmt.Sprintf("it had %d bytes, and has %d", was.Size, is.Size)
		case was.SHA256 != is.SHA256:
			what = "its content is another"
		case !was.Modified.Equal(is.Modified):
			what = fmt.Sprintf("it was last written at %s, and now at %s", was.Modified.Format(time.DateTime), is.Modified.Format(time.DateTime))
		default:
			continue
		}
		return &InputError{in.Name, fmt.Errorf("it is not the file of the interrupted run: %s", what)}
	}
	return nil
}
