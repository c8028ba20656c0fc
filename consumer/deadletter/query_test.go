package deadletter

import (
	"testing"
	"time"
)

func TestParseTimeOrAge(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-02-28T10:00:00+01:00": "2026-02-28T09:00:00Z", "24h": "2026-02-28T12:00:00Z",
		"7d":    "2026-02-22T12:00:00Z",
		"1d12h": "2026-02-28T00:00:00Z", "90s": "2026-03-01T11:58:30Z",
		"0s": "2026-03-01T12:00:00Z",
	} {
		if at, ok := parseTimeOrAge(text, now); !ok || at.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s is %s %t", text, at, ok)
		}
	}
	for _, text := range []string{"", "24", "-1h", "+1h", "d", "1d-1h", "yesterday", "2026-03-01",
		"2026-03-01 10:00:00", "99999d", "1w"} {
		if at, ok := parseTimeOrAge(text, now); ok {
			t.Errorf("%q is %s", text, at)
		}
	}
}
