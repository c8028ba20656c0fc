package event

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	sampled = "00-" + traceID + "-00f067aa0ba902b7-01"
)

func TestParseTraceparent(t *testing.T) {
	for value, isSampled := range map[string]bool{
		sampled:                                  true,
		strings.TrimSuffix(sampled, "01") + "00": false,
		strings.TrimSuffix(sampled, "01") + "fe": false, // unknown flags
		strings.TrimSuffix(sampled, "01") + "03": true,
		"01" + sampled[2:]:                       true, // later versions
		"cc" + sampled[2:] + "-what-ever":        true,
		"fe" + sampled[2:] + "-":                 true,
	} {
		p, ok := ParseTraceparent([]byte(value))
		if !ok || p.TraceID() != traceID || p.Sampled() != isSampled {
			t.Errorf("%s: trace %q, sampled %v", value, p.TraceID(), p.Sampled())
		}
		if text := string(p.AppendText(nil)); text != value[:len(sampled)] {
			t.Errorf("%s: the text is %s", value, text)
		}
	}
	invalid := []string{
		"", "-", strings.Repeat("-", 55), strings.Repeat("0", 55), sampled + "-", sampled + "0",
		sampled + " ", " " + sampled, "01" + sampled[2:] + "0", "ff" + sampled[2:],
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01",
		"00-" + traceID + "-0000000000000000-01",
		strings.ToUpper(sampled),
	}
	for i := range sampled { // each byte counts
		invalid = append(invalid, sampled[:i], sampled[:i]+"g"+sampled[i+1:],
			sampled[:i]+"B"+sampled[i+1:], sampled[:i]+"\xff"+sampled[i+1:])
	}
	for _, value := range invalid {
		if p, ok := ParseTraceparent([]byte(value)); ok || p != (Traceparent{}) ||
			p.TraceID() != "" || p.Sampled() {
			t.Errorf("%q is valid: %x", value, p)
		}
	}
}

// As OpenTelemetry's Kafka clients do: the exact name, and the last header.
func TestTraceparentOfARecord(t *testing.T) {
	other := "00-" + strings.Repeat("1", 32) + "-00f067aa0ba902b7-01"
	for want, headers := range map[string][]string{
		traceID:     {"traceparent", other, "tracestate", "a=b", "traceparent", sampled, "x", "y"},
		other[3:35]: {"Traceparent", sampled, "traceparent", other, "TRACEPARENT", sampled},
		"":          {"traceparent", sampled, "traceparent", "x"},
	} {
		if got := from("", headers...).Traceparent().TraceID(); got != want {
			t.Errorf("%q: %s, want %s", headers, got, want)
		}
	}
	record := from("", "a", "b", "traceparent", sampled)
	if n := testing.AllocsPerRun(10, func() {
		if !record.Traceparent().Sampled() || (Record{}).Traceparent().Sampled() {
			t.Error("wrong")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzTraceparent compares ParseTraceparent with the grammar of Trace Context.
func FuzzTraceparent(f *testing.F) {
	grammar := regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})` +
		`(?s:-.*)?$`)
	for _, seed := range []string{sampled, "01" + sampled[2:] + "-x", "ff" + sampled[2:],
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", sampled + "-"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		p, ok := ParseTraceparent(value)
		m := grammar.FindSubmatch(value)
		valid := m != nil && string(m[1]) != "ff" && strings.Trim(string(m[2]), "0") != "" &&
			strings.Trim(string(m[3]), "0") != "" && (string(m[1]) != "00" || len(value) == 55)
		switch {
		case valid != ok, ok != (p != Traceparent{}):
			t.Errorf("%q: valid %v, parsed %x", value, valid, p)
		case valid && (p.TraceID() != string(m[2]) ||
			!bytes.Equal(p.AppendText(nil), value[:55])):
			t.Errorf("%q: parsed %x", value, p)
		}
	})
}
