package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The JSON form of Faults: the fields' names in snake case, durations as text ("250ms"); an absent
// field is zero. {} removes all faults.
//
//	{"latency":{"p50":"25ms","p99":"300ms","max":"2s"}, "rate":150, "seed":7, "skew":"-1h",
//	 "rules":[{"kind":"status","status":502,"share":0.3,"for":"5s","every":"10s"},
//	          {"kind":"code","code":90048,"conversations":0.01},
//	          {"kind":"reset","apply":true,"report":"alice","peer":"bob"}]}
type faultsForm struct {
	Latency *latencyForm `json:"latency,omitempty"`
	Rules   []ruleForm   `json:"rules,omitempty"`
	Seed    uint64       `json:"seed,omitempty"`
	Rate    int          `json:"rate,omitempty"`
	Skew    duration     `json:"skew,omitempty"`
}

type latencyForm struct {
	Min duration `json:"min,omitempty"`
	Max duration `json:"max,omitempty"`
	P50 duration `json:"p50,omitempty"`
	P99 duration `json:"p99,omitempty"`
}

// ruleForm replaces the fields of a Rule whose JSON differs from their type's.
type ruleForm struct {
	rule
	Interval      duration `json:"interval,omitempty"`
	Share         *float64 `json:"share,omitempty"` // a pointer: 0 would mean none, not all
	Conversations *float64 `json:"conversations,omitempty"`
	For           duration `json:"for,omitempty"`
	Every         duration `json:"every,omitempty"`
}

type rule Rule

// duration is a time.Duration as text.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"250ms\"", truncate(string(text)))
	}
	*d = duration(parsed)
	return nil
}

// MarshalJSON returns the form that PUT /sandbox/faults accepts.
func (f Faults) MarshalJSON() ([]byte, error) {
	form := faultsForm{Seed: f.Seed, Rate: f.Rate, Skew: duration(f.Skew)}
	if l := f.Latency; l != (Latency{}) {
		form.Latency = &latencyForm{
			duration(l.Min), duration(l.Max), duration(l.P50), duration(l.P99),
		}
	}
	for _, r := range f.Rules {
		form.Rules = append(form.Rules, ruleForm{
			rule: rule(r), Share: share(r.Share), Conversations: share(r.Conversations),
			Interval: duration(r.Interval), For: duration(r.For), Every: duration(r.Every),
		})
	}
	return json.Marshal(form)
}

func share(x float64) *float64 {
	if x == 0 {
		return nil
	}
	return &x
}

// UnmarshalJSON parses the form and refuses unknown fields. SetFaults, not UnmarshalJSON, checks
// whether the faults are valid.
func (f *Faults) UnmarshalJSON(text []byte) error {
	var form faultsForm
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&form); err != nil {
		return plainJSONError(err)
	}
	*f = Faults{Seed: form.Seed, Rate: form.Rate, Skew: time.Duration(form.Skew)}
	if l := form.Latency; l != nil {
		f.Latency = Latency{
			time.Duration(l.Min), time.Duration(l.Max), time.Duration(l.P50), time.Duration(l.P99),
		}
	}
	for i, form := range form.Rules {
		r := Rule(form.rule)
		r.Interval, r.For = time.Duration(form.Interval), time.Duration(form.For)
		r.Every = time.Duration(form.Every)
		for _, part := range []struct {
			name     string
			from, to *float64
		}{
			{"share", form.Share, &r.Share},
			{"conversations", form.Conversations, &r.Conversations},
		} {
			if part.from == nil {
				continue
			}
			if *part.from == 0 {
				return fmt.Errorf("rules[%d]: %s must be above 0 and at most 1", i, part.name)
			}
			*part.to = *part.from
		}
		f.Rules = append(f.Rules, r)
	}
	return nil
}

// plainJSONError returns a JSON error without the names of Go types.
func plainJSONError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		field := strings.ReplaceAll(wrong.Field, ".rule.", ".") // the embedded struct
		return fmt.Errorf("%s: unexpected %s", field, wrong.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
