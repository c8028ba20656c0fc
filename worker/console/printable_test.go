package console

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"markread/worker/console/overview"
)

// Text from outside can neither hide nor reorder what surrounds it on the page, and keeps its value
// in JSON.
func TestPageAndStateArePrintable(t *testing.T) {
	for _, text := range []string{"a\u202eb", "\x1b[31mx\x7f", "\u009b2J", "\ufeff\u200b\u2066",
		"\u2028", "\U000e0041"} {
		s := full()
		s.Group.Name, s.Group.Member = text, &text
		h := &s.Held[0]
		h.Detail, h.Do = text, text
		s.Partitions[0].Topic = text
		for _, path := range []string{"/", "/api/state", "/api/overview"} {
			o := options(&fake{state: s})
			o.Group, o.Version = text, text
			o.Monitor = overview.NewMonitor("worker", text)
			o.Monitor.Update(overview.Input{At: begin})
			body := get(t, o, path).Body.String()
			if i := strings.IndexFunc(body,
				func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }); i >= 0 {
				t.Errorf("%s with %q: %q", path, text, body[i:min(len(body), i+20)])
			}
			var got State
			if path != "/api/state" {
				continue
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil || got.Held[0].Detail != text {
				t.Errorf("%q became %q, %v", text, got.Held[0].Detail, err)
			}
		}
	}
}
