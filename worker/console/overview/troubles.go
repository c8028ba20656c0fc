package overview

import (
	"fmt"
	"slices"
	"time"
)

// troubles are the sentences whose beginning and end are recorded among what happened. Holds, slow
// workers and lost events have happenings of their own.
var troubles = []string{"cut-off", "out", "none", "blocked", "unreadable", "behind",
	"fetching-paused", "delayed"}

// troubleFor is how long a trouble lasts before it is recorded, and is absent before it has ended.
const troubleFor = 10 * time.Second

// trouble is one of the troubles while it lasts.
type trouble struct {
	params map[string]any
	began  time.Time
	gone   time.Time // since when it is absent; zero: it is not
	shown  bool
}

// noteTroubles records which of the troubles began and ended; found are the sentences that apply
// now. While something more urgent hides the others, they stay as they are: nothing is known of
// them.
func (b *builder) noteTroubles(at time.Time, found []Sentence, hidden bool) {
	for _, key := range troubles {
		i := slices.IndexFunc(found, func(s Sentence) bool { return s.Key == key })
		t := b.troubles[key]
		switch {
		case i >= 0:
			params := troubleParams(found[i])
			if t != nil && key == "blocked" && t.params["where"] != params["where"] {
				b.endTrouble(at, t) // another partition
				t = nil
			}
			if t == nil || t.began.After(at) {
				t = &trouble{params: params, began: at}
				b.troubles[key] = t
			}
			t.gone = time.Time{}
			if !t.shown && at.Sub(t.began) >= troubleFor {
				t.shown = true
				b.happen(t.began, "trouble-began", "", t.params)
			}
		case t == nil, hidden && !slices.Contains(troubles[:3], key):
		case t.gone.IsZero() || t.gone.After(at):
			t.gone = at
		case at.Sub(t.gone) >= troubleFor:
			b.endTrouble(t.gone, t)
			delete(b.troubles, key)
		}
	}
}

func (b *builder) endTrouble(at time.Time, t *trouble) {
	if !t.shown {
		return
	}
	params := map[string]any{"seconds": max(0, at.Sub(t.began).Seconds())}
	for name, v := range t.params {
		params[name] = v
	}
	b.happen(at, "trouble-ended", "", params)
}

// troubleParams returns what names a trouble: where is its partition or "".
func troubleParams(s Sentence) map[string]any {
	params := map[string]any{"key": s.Key, "name_key": "happening.trouble." + s.Key, "where": ""}
	if topic, partition := s.Params["topic"], s.Params["partition"]; topic != nil {
		params["topic"], params["partition"] = topic, partition
		params["where"] = fmt.Sprintf("%v/%v", topic, partition)
	}
	return params
}
