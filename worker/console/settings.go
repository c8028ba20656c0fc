package console

import "time"

// Settings are the effective settings of the programs that a console shows.
type Settings struct {
	Workers  []string  `json:"workers"` // "this", or the workers' addresses
	Settings []Setting `json:"settings"`
}

// Setting is one setting.
type Setting struct {
	Name   string        `json:"name"`   // the flag, with its dashes
	Value  string        `json:"value"`  // "" for a secret
	Source string        `json:"source"` // default, flag, environment or file
	From   string        `json:"from"`   // the variable; "": none
	Secret *SecretStatus `json:"secret"` // nil: it is no secret
	// Values are the values of workers by address, of a setting that they export; Differs reports
	// whether they differ.
	Values  map[string]string `json:"values,omitempty"`
	Differs bool              `json:"differs"`
}

// SecretStatus says whether a secret is set, and from where, but never its value.
type SecretStatus struct {
	Set       bool       `json:"set"`
	Source    string     `json:"source"` // file or environment
	ChangedAt *time.Time `json:"changed_at"`
}
