package console

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"markread/consumer/logthrottle"
	"markread/worker/console/overview"
	"markread/worker/console/respond"
	"markread/worker/console/texts"
)

// site is what the handlers of a server share.
type site struct {
	Options
	scope    string // worker or group
	workers  Workers
	login    login
	texts    *texts.Catalogue
	failures logthrottle.Log
}

func newSite(o Options) *site {
	s := &site{Options: o, scope: "group", workers: o.Workers, login: newLogin(o.Token),
		texts: texts.New()}
	if o.Source != nil {
		s.scope = "worker"
		s.workers = local{o.Source, o.Controls, o.Inspector}
	}
	if s.Monitor == nil {
		s.Monitor = overview.NewMonitor(s.scope, o.Group)
	}
	return s
}

// route is one route. An open one is served to everybody, others to whoever may see the state.
type route struct {
	pattern string
	open    bool
	handler http.HandlerFunc
}

// routes returns all routes that exist with the options.
func (s *site) routes() []route {
	list := []route{
		{"GET /healthz", true, s.healthz},
		{"GET /readyz", true, s.readyz},
		{"GET /metrics", true, promhttp.HandlerFor(s.Gatherer, promhttp.HandlerOpts{
			ErrorLog:           newErrorLog(s.Log),
			EnableOpenMetrics:  true, // exemplars exist in that format only
			DisableCompression: true, // it would cost a third of a scrape to save 26 KB
		}).ServeHTTP},
		// The login form needs them, and they contain nothing secret.
		{"GET /assets/{file}", true, http.FileServerFS(files).ServeHTTP},
		{"GET /{$}", false, s.page},
		{"GET /api/overview", false, s.overview},
	}
	add := func(exists bool, more ...route) {
		if exists {
			list = append(list, more...)
		}
	}
	add(s.Token != "", route{"POST /login", true, s.logIn}, route{"POST /logout", true, s.logOut})
	add(s.Source != nil, route{"GET /api/state", false, s.state})
	add(s.Settings != nil, route{"GET /api/settings", false, s.settings})
	add(s.canInspect(), route{"POST /api/conversation", false, s.conversation},
		route{"POST /api/rejected", false, s.rejected})
	add(s.canControl(), route{"POST /api/pause", false, s.pause},
		route{"POST /api/resume", false, s.resume})
	if s.Letters != nil {
		for _, path := range []string{"", "/show", "/export"} {
			add(true, route{"POST /api/dead-letters" + path, false, s.Letters.ServeHTTP})
		}
		for _, path := range []string{"plan", "start", "stop"} {
			add(s.canReplay(), route{"POST /api/replay/" + path, false, s.Letters.ServeHTTP})
		}
	}
	return list
}

func (s *site) canReplay() bool { return s.Letters != nil && s.AllowReplay && !s.ReadOnly }

// handler returns all routes with their access rules.
//
// A page of another site may make a browser of this machine send requests here. Without a token
// nothing else would distinguish them from an operator's; with a token, a proxy may add it to
// everything that a browser sends.
func (s *site) handler() http.Handler {
	open, guarded := http.NewServeMux(), http.NewServeMux()
	for _, r := range s.routes() {
		if r.open {
			open.Handle(r.pattern, r.handler)
		} else {
			guarded.Handle(r.pattern, r.handler)
		}
	}
	// Which other paths exist is not for everybody either.
	open.Handle("/", s.guard(guarded))
	var sameOrigin http.CrossOriginProtection
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond.Refuse(w, r, http.StatusForbidden,
			"a page of another site must not change anything here")
	}))
	return withHeaders(sameOrigin.Handler(open))
}

// healthz is the liveness probe: any status but 200 means that the process needs a restart.
func (s *site) healthz(w http.ResponseWriter, _ *http.Request) {
	if s.Source != nil {
		if err := s.Source.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// readyz is the readiness probe. Its body also has the holds, for people who check it first.
func (s *site) readyz(w http.ResponseWriter, _ *http.Request) {
	body, status := readiness(s.Source), http.StatusOK
	if !*body.Ready {
		status = http.StatusServiceUnavailable
	}
	respond.JSON(w, status, body)
}

// readiness returns the source's readiness; a group's server, which has no source, is ready.
func readiness(source Source) Readiness {
	now := Readiness{Ready: new(true), Held: []ActiveHold{}}
	if source == nil {
		return now
	}
	*now.Ready = source.Ready()
	for _, h := range normalized(source.Held()) {
		now.Held = append(now.Held, ActiveHold{h.Reason, h.Since})
	}
	return now
}
