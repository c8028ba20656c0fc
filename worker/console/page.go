package console

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"time"

	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/format"
)

//go:embed assets
var files embed.FS

//go:embed page.html
var pageText string

// pageTemplate escapes everything it is given for the place where it stands.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"count": count,
	"span": func(seconds float64) string {
		return span(time.Duration(seconds * float64(time.Second)))
	},
	"waits":      waits,
	"partitions": func(n int) string { return format.CountOf(int64(n), "partition") },
}).Parse(pageText))

// waits explains what the oldest unfinished event of a partition waits for.
func waits(what string) string {
	return cmp.Or(map[string]string{
		"quota":       "quota: its turn within the rate",
		"call":        "call: the answer of the IM server",
		"retry":       "retry: the end of its backoff",
		"hold":        "hold: see above",
		"dead-letter": "dead-letter: the acknowledgement of the dead-letter topic",
	}[what], what)
}

// view is what the page's template gets: the state, and what the template would have to compute.
type view struct {
	State
	Now      time.Time
	AdminURL string // the flag that names this worker on the reader's command line; "": none needed
}

// page shows the state. Its script fetches it anew every other second; without scripts the browser
// reloads it.
func page(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		if err := pageTemplate.Execute(&printable.Writer{Out: &b},
			view{source.State().normalized(), roundUTC(time.Now()), adminURL(r)}); err != nil {
			http.Error(w, "the page could not be made: "+err.Error(),
				http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	})
}

// At is a moment with its distance from now: "2026-01-02 03:04:05 UTC, 12 s ago".
func (v view) At(t time.Time) string {
	text := t.Format("2006-01-02 15:04:05 UTC")
	switch d := v.Now.Sub(t).Round(time.Second); {
	case d < 0:
		return text + ", in " + span(-d)
	case d == 0:
		return text + ", now"
	default:
		return text + ", " + span(d) + " ago"
	}
}

// Up is how long the process has run.
func (v view) Up() string { return span(v.Now.Sub(v.StartedAt)) }

// row is one lane with its name.
type row struct {
	Name string
	Lane
}

// Rows are the lanes in the order in which they are served.
func (v view) Rows() []row { return []row{{"live", v.Lanes.Live}, {"backfill", v.Lanes.Backfill}} }

// Unreadable returns the partitions that can't be read.
func (v view) Unreadable() []Partition {
	return slices.DeleteFunc(slices.Clone(v.Partitions),
		func(p Partition) bool { return p.Unreadable == nil })
}

// Throttled reports whether answers of the server have made the limit less than the share.
func (v view) Throttled() bool {
	return v.Quota.Share != nil && v.Quota.Limit != nil && *v.Quota.Limit < *v.Quota.Share
}

// Drain is how long the lanes need at the present limit if nothing new comes: one call a
// conversation, however many events wait.
func (v view) Drain() string {
	waiting := v.Lanes.Live.Conversations + v.Lanes.Backfill.Conversations
	heldBacklog := 0 // waiting in a lane that is held alone
	for _, row := range v.Rows() {
		if slices.ContainsFunc(v.Held, func(h Hold) bool { return h.Lane == row.Name }) {
			heldBacklog += row.Conversations
		}
	}
	switch {
	case v.Group.Generation == nil:
		return "unknown: outside a generation the worker does not see what waits in Kafka"
	case waiting == 0 && len(v.Unreadable()) > 0:
		return "unknown: what can't be read waits in Kafka"
	case waiting == 0:
		return "nothing waits"
	case slices.ContainsFunc(v.Held, func(h Hold) bool { return h.Lane == "" }),
		heldBacklog == waiting:
		return "no calls while something holds"
	case v.Quota.Limit == nil || *v.Quota.Limit <= 0:
		return "unknown: no limit is set"
	}
	text := "about " +
		span(time.Duration(waiting-heldBacklog)*time.Second/time.Duration(*v.Quota.Limit))
	if heldBacklog > 0 {
		text += ", without the lane that is held"
	}
	if len(v.Unreadable()) > 0 {
		text += ", without the partitions that can't be read"
	}
	return text
}

// adminURL names the server that a request reached as `markread pause` wants it. What the name of
// another machine leads to from the reader's command line is not known here, and neither is what a
// proxy before us speaks.
func adminURL(r *http.Request) string {
	const defaultPort = ":8780"
	if !imclient.IsLoopback(r.Host) || r.Host == "127.0.0.1"+defaultPort ||
		r.Host == "localhost"+defaultPort {
		return ""
	}
	return " --admin-url http://" + r.Host
}

// span prints a duration with two units at most: "3.2 s", "4 m 12 s", "2 h 5 m", "3 d 4 h".
func span(d time.Duration) string {
	const day = 24 * time.Hour
	d = d.Round(100 * time.Millisecond)
	big, small, names := day, time.Hour, "dh"
	switch {
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
	case d < time.Hour:
		big, small, names = time.Minute, time.Second, "ms"
	case d < day:
		big, small, names = time.Hour, time.Minute, "hm"
	}
	text := fmt.Sprintf("%d %c", d/big, names[0])
	if rest := d % big / small; rest > 0 {
		text += fmt.Sprintf(" %d %c", rest, names[1])
	}
	return text
}

// count prints a whole number with thousands separated, and "–" for a pointer to none.
func count(n any) string {
	v := reflect.Indirect(reflect.ValueOf(n))
	if !v.IsValid() {
		return "–"
	}
	return format.Thousands(v.Int())
}
