package overview

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// texts returns the catalogue of sentences and happenings: texts by key and language.
var texts = sync.OnceValue(func() map[string]map[string]string {
	b, err := os.ReadFile("../texts/sentences.json")
	if err != nil {
		panic(err)
	}
	var all map[string]map[string]string
	if err := json.Unmarshal(b, &all); err != nil {
		panic(err)
	}
	return all
})

var placeholder = regexp.MustCompile(`\{([a-z_]+)(?::([a-z]+))?\}`)

// nullable are parameters that may be unknown for a moment; the page shows a dash.
var nullable = []string{"rate", "in", "out", "bound", "since", "seconds", "lag"}

// checkTexts reports each placeholder of a key's texts that has no parameter of its format.
func checkTexts(t *testing.T, key string, params map[string]any) {
	t.Helper()
	b, _ := json.Marshal(params)
	var values map[string]any
	_ = json.Unmarshal(b, &values)
	if texts()[key] == nil {
		t.Errorf("%s has no text", key)
	}
	for _, part := range []string{"", ".more", ".do"} {
		for language, text := range texts()[key+part] {
			for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
				v, ok := values[m[1]]
				if v == nil && ok && slices.Contains(nullable, m[1]) {
					continue
				}
				if !ok || !fits(m[2], v) {
					t.Errorf("%s%s, %s: %s is %v", key, part, language, m[0], v)
				}
			}
		}
	}
}

// fits reports whether a value has the format of a placeholder.
func fits(format string, v any) bool {
	text, isText := v.(string)
	switch format {
	case "":
		return v != nil
	case "time":
		_, err := time.Parse(time.RFC3339, text)
		return err == nil
	case "key": // others have the keys hold.* and ui.*
		return strings.HasPrefix(text, "hold.") || strings.HasPrefix(text, "ui.lane.") ||
			texts()[text] != nil
	}
	return v != nil && !isText
}

// Each key that the code uses has its texts, in both languages and with the same placeholders; and
// there are no others.
func TestTexts(t *testing.T) {
	var unused []string
	for _, key := range strings.Fields(`sentence.starting sentence.cut-off sentence.out
		sentence.none sentence.silent sentence.held sentence.held.kept sentence.held.rejected
		sentence.losing sentence.losing-soon sentence.keeping-up-unlimited
		sentence.behind-unlimited sentence.fetching-paused
		sentence.blocked
		sentence.unreadable sentence.slowed sentence.behind sentence.backlog
		sentence.backfilling sentence.delayed sentence.catching-up
		sentence.backlog.growing sentence.backlog.unknown
		sentence.keeping-up sentence.idle happening.started happening.hold-began happening.hold-ended
		happening.rebalanced happening.slowed happening.recovered happening.silent
		happening.trouble-began happening.trouble-ended happening.trouble.cut-off
		happening.trouble.out happening.trouble.none happening.trouble.blocked
		happening.trouble.unreadable happening.trouble.behind
		happening.trouble.fetching-paused happening.trouble.delayed
		happening.responding happening.lost happening.command happening.command.pause
		happening.command.resume happening.command.accept-rejections happening.command.replay
		happening.command.stop-replay`) {
		if texts()[key] == nil {
			t.Errorf("%s has no text", key)
		}
		unused = append(unused, key, key+".more", key+".do")
	}
	for key, languages := range texts() {
		if !slices.Contains(unused, key) {
			t.Errorf("%s is not used", key)
		}
		if got := slices.Sorted(maps.Keys(languages)); !slices.Equal(got, []string{"en", "zh"}) {
			t.Errorf("%s: languages %v", key, got)
		}
		var placeholders [2][]string
		for i, language := range []string{"en", "zh"} {
			text := languages[language]
			placeholders[i] = placeholder.FindAllString(text, -1)
			slices.Sort(placeholders[i])
			if text == "" || strings.Count(text, "{") != len(placeholders[i]) {
				t.Errorf("%s, %s: %q", key, language, text)
			}
		}
		if !slices.Equal(placeholders[0], placeholders[1]) {
			t.Errorf("%s: placeholders %v and %v", key, placeholders[0], placeholders[1])
		}
	}
}
