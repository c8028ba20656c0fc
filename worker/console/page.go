package console

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"

	"markread/consumer/printable"
)

//go:embed assets
var files embed.FS

//go:embed page.html login.html
var pages embed.FS

// templates escape all values according to their context.
var templates = template.Must(template.ParseFS(pages, "*.html"))

// view is the data of the templates.
type view struct {
	Lang      string // en or zh
	OtherLang string
	HTMLLang  string // Lang as the attribute lang
	// of page.html
	Title, Scope, Group string
	Login               bool // as in Boot
	Boot                boot
	// of login.html: the key of the error of the last attempt ("": none), and the key of the reason
	// why there is no form ("": there is one)
	Error, Why string
	texts      map[string]string
}

// T returns a text in the view's language.
func (v view) T(key string) string { return v.texts[key] }

// boot is what the page's script needs to know before its first request.
type boot struct {
	Lang        string            `json:"lang"`
	Scope       string            `json:"scope"`
	Group       string            `json:"group"`
	Version     string            `json:"version"`
	User        string            `json:"user"`  // "": unknown
	Login       bool              `json:"login"` // there is a token, so there is a log out
	ReadOnly    bool              `json:"read_only"`
	AllowReplay bool              `json:"allow_replay"`
	Controls    bool              `json:"controls"` // pause and resume exist
	Texts       map[string]string `json:"texts"`
}

func (s *site) view(r *http.Request) view {
	v := view{Lang: s.texts.Lang(r), OtherLang: "zh", HTMLLang: "en"}
	if v.Lang == "zh" {
		v.OtherLang, v.HTMLLang = "en", "zh-Hans"
	}
	v.texts = s.texts.Texts(v.Lang)
	return v
}

// page responds with the page. It has no state: its script fetches that.
func (s *site) page(w http.ResponseWriter, r *http.Request) {
	v := s.view(r)
	v.Title, v.Scope, v.Group, v.Login = "markread · "+s.Group, s.scope, s.Group, s.Token != ""
	v.Boot = boot{Lang: v.Lang, Scope: s.scope, Group: s.Group, Version: s.Version,
		User: user(s.Token, r), Login: v.Login, ReadOnly: s.ReadOnly,
		AllowReplay: s.canReplay(), Controls: s.canControl(), Texts: v.texts}
	render(w, http.StatusOK, "page.html", v)
}

// showLogin responds with the login form or, where a token would be readable on the network, with
// why there is none. It does not show the group's name.
func (s *site) showLogin(w http.ResponseWriter, r *http.Request, status int, wrong string) {
	v := s.view(r)
	v.Error = wrong
	if !isPrivate(r) {
		v.Why = "ui.login.insecure"
	}
	render(w, status, "login.html", v)
}

func render(w http.ResponseWriter, status int, name string, v view) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&printable.Writer{Out: &b}, name, v); err != nil {
		http.Error(w, "the page could not be rendered: "+err.Error(),
			http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
