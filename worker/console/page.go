package console

import (
	"bytes"
	"cmp"
	"embed"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"time"

	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/format"
)

//go:embed assets
var files embed.FS

//go:embed page.html
var pageText string

// pageTemplate escapes all values according to their context.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"count":      count,
	"age":        func(seconds float64) string { return format.AgeOf(&seconds) },
	"waits":      waits,
	"partitions": func(n int) string { return format.CountOf(int64(n), "partition") },
}).Parse(pageText))

// waits explains what a partition's oldest unfinished event waits for.
func waits(what string) string {
	return cmp.Or(map[string]string{
		"quota":       "quota: a permit within the rate",
		"call":        "call: the response of the IM server",
		"retry":       "retry: the end of its backoff",
		"hold":        "hold: see above",
		"dead-letter": "dead-letter: the acknowledgement of the dead-letter topic",
	}[what], what)
}

// view is the data of the page's template: the state, and values that the template can't compute.
type view struct {
	State
	Now      time.Time
	AdminURL string // flag that names this worker on the reader's command line; "": not needed
}

// page shows the state. Its script fetches it every two seconds; without scripts the browser
// reloads it.
func page(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		if err := pageTemplate.Execute(&printable.Writer{Out: &b},
			view{source.State().normalized(), roundUTC(time.Now()), adminURL(r)}); err != nil {
			http.Error(w, "the page could not be rendered: "+err.Error(),
				http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	})
}

// At formats a time with its distance from now: "2026-01-02 03:04:05 UTC, 12s ago".
func (v view) At(t time.Time) string {
	text := format.Time(t)
	switch d := v.Now.Sub(t).Round(time.Second); {
	case d < 0:
		return text + ", in " + format.Age(-d)
	case d == 0:
		return text + ", now"
	default:
		return text + ", " + format.Age(d) + " ago"
	}
}

// ProbeAt formats when the next probe is due.
func (v view) ProbeAt(t time.Time) string {
	if t.Before(v.Now) {
		return "in flight, or waiting for a permit"
	}
	return v.At(t)
}

// Up returns how long the process has been running.
func (v view) Up() string { return format.Age(v.Now.Sub(v.StartedAt)) }

// row is a lane with its name.
type row struct {
	Name string
	Lane
}

// Rows returns the lanes in the order of their priority.
func (v view) Rows() []row { return []row{{"live", v.Lanes.Live}, {"backfill", v.Lanes.Backfill}} }

// Unreadable returns the partitions that can't be read.
func (v view) Unreadable() []Partition {
	return slices.DeleteFunc(slices.Clone(v.Partitions),
		func(p Partition) bool { return p.Unreadable == nil })
}

// Throttled reports whether throttled responses have reduced the limit below the share.
func (v view) Throttled() bool {
	return v.Quota.Share != nil && v.Quota.Limit != nil && *v.Quota.Limit < *v.Quota.Share
}

// Drain returns how long the lanes need at the current limit if no new events arrive: one call for
// each conversation, however many events it has.
func (v view) Drain() string {
	waiting := v.Lanes.Live.Conversations + v.Lanes.Backfill.Conversations
	heldBacklog := 0 // conversations in a lane that has a hold of its own
	for _, row := range v.Rows() {
		if slices.ContainsFunc(v.Held, func(h Hold) bool { return h.Lane == row.Name }) {
			heldBacklog += row.Conversations
		}
	}
	switch {
	case v.Group.Generation == nil:
		return "unknown: outside a generation the worker does not see the events in Kafka"
	case waiting == 0 && len(v.Unreadable()) > 0:
		return "unknown: the unreadable events are in Kafka"
	case waiting == 0:
		return "no events wait"
	case slices.ContainsFunc(v.Held, func(h Hold) bool { return h.Lane == "" }),
		heldBacklog == waiting:
		return "unknown: no calls during a hold"
	case v.Quota.Limit == nil || *v.Quota.Limit <= 0:
		return "unknown: no limit is set"
	}
	text := "about " +
		format.Age(time.Duration(waiting-heldBacklog)*time.Second/time.Duration(*v.Quota.Limit))
	if heldBacklog > 0 {
		text += ", without the held lane"
	}
	if len(v.Unreadable()) > 0 {
		text += ", without the unreadable partitions"
	}
	return text
}

// adminURL returns the flag with which `markread pause` reaches the server of this request. It is
// empty for another machine's name: where that leads from the reader's command line is unknown, and
// so is the protocol of a proxy before us.
func adminURL(r *http.Request) string {
	const defaultPort = ":8780"
	if !imclient.IsLoopback(r.Host) || r.Host == "127.0.0.1"+defaultPort ||
		r.Host == "localhost"+defaultPort {
		return ""
	}
	return " --admin-url http://" + r.Host
}

// count formats a whole number with separated thousands, and a nil pointer as "–".
func count(n any) string {
	v := reflect.Indirect(reflect.ValueOf(n))
	if !v.IsValid() {
		return "–"
	}
	return format.Thousands(v.Int())
}
