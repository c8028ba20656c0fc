package console

import "time"

// Settings is the body of /api/settings: what a process is configured with, and where each value
// comes from. It contains no secret.
type Settings struct {
	// the workers in Values, by address; "this" is a worker's own page
	Workers  []string  `json:"workers"`
	Settings []Setting `json:"settings"`
}

// Setting is one setting.
type Setting struct {
	Name   string  `json:"name"`   // the flag with its dashes; of a secret its variable
	Value  string  `json:"value"`  // in effect; of a secret ""
	Source string  `json:"source"` // default, flag, environment or file
	From   string  `json:"from"`   // the environment variable; "": another source
	Secret *Secret `json:"secret"` // nil: it is no secret
	// of a group: the value of each worker that exports it, by address
	Values  map[string]string `json:"values,omitempty"`
	Differs bool              `json:"differs"` // Values are not all equal
}

// Secret says what may be known about a secret.
type Secret struct {
	Set       bool       `json:"set"`
	Source    string     `json:"source"`     // environment or file; "": it is not set
	ChangedAt *time.Time `json:"changed_at"` // of its file; nil: not known
}
