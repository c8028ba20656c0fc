package sandbox

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"time"
)

// recentCalls is how many calls the page shows.
const recentCalls = 50

// page shows the server's state. It is deliberately simple: no script, no external resource; it
// reloads itself.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	calls := s.journal.newest(recentCalls)
	slices.Reverse(calls) // newest first
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	const policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
	h.Set("Content-Security-Policy", policy)
	_ = pageTemplate.Execute(w, pageData{
		AppID:  s.options.AppID,
		Admin:  s.options.Admin,
		Rate:   s.options.Rate,
		Stats:  s.Stats(),
		Faults: s.faults.Load().views(),
		Calls:  calls,
	})
}

type pageData struct {
	AppID  int64
	Admin  string
	Rate   int
	Stats  Stats
	Faults []faultView
	Calls  []Arrival
}

// faultView is one line of the list of faults.
type faultView struct {
	On   bool
	Text string
}

// views lists the general faults, then all rules, whether or not they are active now.
func (f *activeFaults) views() []faultView {
	var list []faultView
	if f.Latency != (Latency{}) || f.Rate != 0 || f.Skew != 0 {
		general := Faults{Latency: f.Latency, Rate: f.Rate, Skew: f.Skew}
		list = append(list, faultView{On: true, Text: asJSON(general)})
	}
	for i := range f.Rules {
		list = append(list, faultView{
			On:   f.Rules[i].activeAt(time.Since(f.since)),
			Text: asJSON(Faults{Rules: f.Rules[i : i+1]}),
		})
	}
	return list
}

func asJSON(f Faults) string {
	text, _ := json.Marshal(f) // can't fail: NaN was refused
	return string(text)
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("sandbox").Parse(pageHTML))
