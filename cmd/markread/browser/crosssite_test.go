package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"markread/cmd/markread/app"
	"markread/imclient"
)

// posts are all routes that change something or show accounts, with a body that they accept.
var posts = []struct{ path, body string }{
	{"api/pause?reason=hostile", ""},
	{"api/resume", ""},
	{"api/resume?accept-rejections=true", ""},
	{"api/conversation", `{"report":"a","peer":"b","worker":""}`},
	{"api/rejected", `{"worker":""}`},
	{"api/dead-letters", `{}`},
	{"api/dead-letters/show", `{"id":"0:0"}`},
	{"api/dead-letters/export", "format=csv"},
	{"api/replay/plan", `{}`},
	{"api/replay/start", `{"plan":"x","count":1}`},
	{"api/replay/stop", ""},
	{"login", "token=x"},
	{"logout", ""},
}

// A page of another site, or of another port of this machine, can't change or read anything: not
// with forms, not with scripts, not in a frame; and without a token no more than with a login.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	for k, token := range []string{"", "a token that is known"} {
		t.Run(fmt.Sprint("token=", token != ""), func(t *testing.T) {
			s := startStack(t, func(o *app.DevOptions) { o.AdminToken = imclient.NewSecret(token) })
			s.writeLetters(letter{report: "secretive", peer: "b", class: "rejected", code: "90048"})
			// it does what its fragment says
			evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, `<!DOCTYPE html><title>evil</title><link rel="icon" href="data:,"><h1>evil</h1>`)
			}))
			t.Cleanup(evil.Close)
			_, port, _ := strings.Cut(evil.Listener.Addr().String(), ":")
			user := newTab(t)
			targets := []string{s.page(), s.console()}
			if token != "" {
				user.allow("status of 401")
				for _, target := range targets {
					user.open(target)
					if user.count("#token") > 0 {
						user.write("#token", token)
						user.press("\r")
					}
					user.waitText(".headline", `.`)
				}
			}
			// Another port is another origin, but the same site: it gets the cookie.
			for i, origin := range []string{"http://127.0.0.1:" + port, "http://localhost:" + port} {
				b := user.another()
				b.allow(`another host: http://127\.0\.0\.1:`) // it is what the page is for
				b.allow(`CORS|net::ERR_FAILED|status of 40|frame-ancestors|X-Frame-Options|Refused to|` +
					`violates|blocked|Unsafe attempt|NotSameOrigin`)
				b.open(origin)
				attack(t, b, targets[(i+k)%2], i)
			}
			// nothing has happened
			for _, target := range targets {
				user.open(target)
				ready := eval[string](user, `() => fetch("readyz").then((r) => r.text())`)
				if !strings.Contains(ready, `"held":[]`) {
					t.Errorf("%s: %s", target, ready)
				}
				user.waitText(".happened", `\S`)
				if got := user.text(".happened"); strings.Contains(got, "paused") ||
					strings.Contains(got, "resumed") || strings.Contains(got, "replay") {
					t.Errorf("what happened: %s", got)
				}
				if user.count("#token") > 0 {
					t.Errorf("%s: logged out", target)
				}
			}
		})
	}
}

// attack sends from the page of another origin whatever a page can send; of the forms, half.
func attack(t *testing.T, b *tab, target string, half int) {
	t.Helper()
	for _, p := range posts {
		read := eval[string](b, `async (url, body) => {
			let all = "";
			for (const kind of ["", "text/plain", "application/json", "application/x-www-form-urlencoded"]) {
				for (const mode of ["cors", "no-cors"]) {
					try { // an opaque response has no text
						all += await (await fetch(url, { method: "POST", mode, credentials: "include",
							body: body || undefined, headers: kind ? { "Content-Type": kind } : {} })).text();
					} catch { /* refused */ }
				}
			}
			return all;
		}`, target+p.path, p.body)
		if read != "" {
			t.Errorf("a page of another site reads from POST %s: %s", p.path, read)
		}
	}
	for _, path := range []string{"", "api/overview", "api/settings", "api/state", "metrics",
		"assets/app.js"} {
		got := eval[string](b, `(url) => fetch(url, { credentials: "include" }).then(
			(r) => r.text(), () => "")`, target+path)
		if got != "" {
			t.Errorf("a page of another site reads GET %s: %.200s", path, got)
		}
	}
	if loaded := eval[bool](b, `(url) => new Promise((done) => {
		const script = document.createElement("script");
		script.onload = () => done(true);
		script.onerror = () => done(false);
		script.src = url;
		document.head.append(script);
	})`, target+"assets/app.js"); loaded {
		t.Error("a page of another site executes the console's script")
	}
	// Forms navigate, and their response is the page then.
	home := eval[string](b, `() => location.href`)
	kinds := []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data"}
	for i, p := range posts {
		if i%2 != half { // the page of the other origin sends these
			continue
		}
		b.open(home)
		eval[bool](b, `(action, body, enctype) => {
			const form = document.createElement("form");
			Object.assign(form, { method: "post", action, enctype });
			if (body) {
				const [name, value = ""] = body.split("=");
				const input = document.createElement("input");
				Object.assign(input, { name, value });
				form.append(input);
			}
			document.body.append(form);
			form.submit();
			return true;
		}`, target+p.path, p.body, kinds[i%len(kinds)])
		b.waitText("body", `403: a page of another site must not change anything here`)
	}
	// In a frame it shows nothing: the browser refuses.
	b.open(home)
	forget := func() { // they have a bound
		b.mu.Lock()
		defer b.mu.Unlock()
		b.complaints = nil
	}
	forget()
	eval[bool](b, `(src) => new Promise((done) => {
		const frame = document.createElement("iframe");
		frame.onload = () => done(true);
		frame.src = src;
		document.body.append(frame);
	})`, target)
	b.wait("the browser's refusal", func(context.Context) (string, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, text := range b.complaints {
			if strings.Contains(text, "frame-ancestors") {
				return "", nil
			}
		}
		return fmt.Sprintf("%q", b.complaints), nil
	})
	forget()
}

// A GET changes nothing, wherever it comes from.
func TestNoChangeByGET(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	b := newTab(t)
	b.allow("status of 40")
	for _, target := range []string{s.page(), s.console()} {
		b.open(target)
		b.waitText("main h1", `.`)
		for _, p := range posts {
			got := eval[[]int](b, `async (path) => {
				const all = [];
				for (const method of ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
					all.push((await fetch(path, { method })).status);
				return all;
			}`, p.path)
			for _, status := range got {
				if status != http.StatusMethodNotAllowed && status != http.StatusNotFound {
					t.Errorf("%s: statuses %v", p.path, got)
				}
			}
		}
		for _, p := range posts {
			b.open(target + p.path) // as a link does
			b.waitText("body", `Method Not Allowed|404`)
		}
		b.open(target)
		b.waitText(".happened", `.`)
		if got := b.text(".happened"); strings.Contains(got, "paused") {
			t.Errorf("what happened: %s", got)
		}
		b.open(target + "readyz")
		if body := b.text("body"); !strings.Contains(body, `"held":[]`) {
			t.Errorf("%s: %s", target, body)
		}
	}
}
