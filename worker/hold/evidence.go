package hold

import (
	"fmt"
	"time"

	"markread/imclient"
)

const (
	recentCalls         = 20 // an outage needs so many calls,
	recentFailed        = 16 // of which so many (80 %) failed transiently,
	recentConversations = 5  // of at least so many conversations;
	noCodeCalls         = 5  // or so many in a row that got no ErrorCode,
	// over so long: of many calls per second, five fail in a row by chance
	noCodeFor = time.Second
)

// callEvidence is what the last calls say about the service.
type callEvidence struct {
	recent      []recentCall // oldest first
	noCode      int          // how many of the last in a row got no ErrorCode
	noCodeSince time.Time    // when the first of these ended
}

type recentCall struct {
	id     string
	failed bool
}

func (e *callEvidence) note(now time.Time, id string, err *imclient.Error) {
	failed := err != nil && err.Class == imclient.Transient
	if len(e.recent) == recentCalls {
		e.recent = append(e.recent[:0], e.recent[1:]...)
	}
	e.recent = append(e.recent, recentCall{id, failed})
	if !failed || err.ErrorCode != 0 {
		e.noCode = 0
		return
	}
	if e.noCode == 0 {
		e.noCodeSince = now
	}
	e.noCode++
}

// outage returns why the last calls look like an outage, or "". last was noted last.
func (e *callEvidence) outage(now time.Time, last *imclient.Error) string {
	if e.noCode >= noCodeCalls && now.Sub(e.noCodeSince) >= noCodeFor {
		return fmt.Sprintf("%d calls in a row got no ErrorCode, the last: %s",
			e.noCode, last.WithoutRemedy())
	}
	if len(e.recent) < recentCalls {
		return ""
	}
	failed, conversations := 0, map[string]bool{}
	for _, c := range e.recent {
		if c.failed {
			failed++
			conversations[c.id] = true
		}
	}
	if failed < recentFailed || len(conversations) < recentConversations {
		return ""
	}
	return fmt.Sprintf("%d of the last %d calls failed, the last: %s",
		failed, recentCalls, last.WithoutRemedy())
}
