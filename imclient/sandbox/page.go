package sandbox

import (
	"encoding/json"
	"html/template"
	"net/http"
	"time"
)

// recentCalls is how many calls the page shows.
const recentCalls = 50

// page shows what the server has seen. It is plain on purpose: no script, nothing from elsewhere;
// it reloads itself.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	calls := s.journal.newest(recentCalls)
	for i, k := 0, len(calls)-1; i < k; i, k = i+1, k-1 {
		calls[i], calls[k] = calls[k], calls[i] // newest first
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
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

// faultView is a line about a fault.
type faultView struct {
	On   bool
	Text string
}

// views lists the faults: the general ones, then the rules, whether it is their time or not.
func (f *activeFaults) views() []faultView {
	var list []faultView
	if general := (Faults{Latency: f.Latency, Rate: f.Rate, Skew: f.Skew}); f.Latency != (Latency{}) || f.Rate != 0 || f.Skew != 0 {
		list = append(list, faultView{On: true, Text: asJSON(general)})
	}
	for i := range f.Rules {
		list = append(list, faultView{
			On:   f.Rules[i].on(time.Since(f.since)),
			Text: asJSON(Faults{Rules: f.Rules[i : i+1]}),
		})
	}
	return list
}

func asJSON(f Faults) string {
	text, _ := json.Marshal(f) // can't fail: a NaN was refused
	return string(text)
}

var pageTemplate = template.Must(template.New("sandbox").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="2">
<title>IM sandbox</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; }
table { border-collapse: collapse; }
th, td { padding: .1rem .8rem .1rem 0; text-align: left; vertical-align: top; }
td.n { text-align: right; }
code, .calls td { font-family: ui-monospace, monospace; }
.bad { color: #b00; }
.off { color: #999; }
</style>
</head>
<body>
<h1>IM sandbox</h1>
<p>A local server that plays Tencent IM for sdkappid {{.AppID}}, admin {{.Admin}}. Nothing here reaches the real one.</p>

<h2>Calls of admin_set_msg_read</h2>
<table>
<tr><th>arrived</th><td class="n">{{.Stats.Calls}}</td></tr>
<tr><th>carried out</th><td class="n">{{.Stats.Applied}}</td></tr>
<tr><th>in flight</th><td class="n">{{.Stats.InFlight}}</td></tr>
<tr><th>in the last second</th><td class="n">{{.Stats.LastSecond}}</td></tr>
<tr><th>most in any second</th><td class="n">{{.Stats.MaxPerSecond}}{{if gt .Rate 0}} of {{.Rate}}{{end}}</td></tr>
{{range $code, $n := .Stats.Codes}}<tr><th>{{if eq $code 0}}answered OK{{else}}answered {{$code}}{{end}}</th><td class="n">{{$n}}</td></tr>
{{end}}{{range $kind, $n := .Stats.Faults}}<tr><th>fault {{$kind}}</th><td class="n">{{$n}}</td></tr>
{{end}}<tr><th>conversations with a read pointer</th><td class="n">{{.Stats.Conversations}}</td></tr>
<tr><th>unread messages</th><td class="n">{{.Stats.Unread}}</td></tr>
</table>

<h2>Faults</h2>
{{if .Faults}}<ul>
{{range .Faults}}<li{{if not .On}} class="off"{{end}}><code>{{.Text}}</code>{{if not .On}} (not now){{end}}</li>
{{end}}</ul>{{else}}<p>None.</p>{{end}}

<h2>Newest calls</h2>
<table class="calls">
<tr><th>arrival</th><th>report</th><th>peer</th><th>read time</th><th>sent as</th><th>HTTP</th><th>code</th><th>fault</th></tr>
{{range .Calls}}<tr{{if not .Applied}} class="bad"{{end}}><td>{{.At.Format "15:04:05.000"}}</td><td>{{.Report}}</td><td>{{.Peer}}</td><td>{{.ReadTime}}</td><td>{{.Encoding}}</td><td>{{if .Status}}{{.Status}}{{end}}</td><td>{{if ge .Code 0}}{{.Code}}{{end}}</td><td>{{.Fault}}</td></tr>
{{end}}</table>
</body>
</html>
`))
