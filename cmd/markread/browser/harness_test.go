package browser_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// serve serves a page with a Content-Security-Policy like the console's, its script, /api/hello,
// which returns "hello", Accept-Language and X-Forwarded-User, and the targets of two forms.
func serve(t *testing.T, body, script string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:")
		fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><meta charset="utf-8">`+
			`<meta name="viewport" content="width=device-width">`+
			`<link rel="icon" href="data:,"><title>Page</title>`+
			`<script src="s.js" defer></script><main>%s</main></html>`, body)
	})
	mux.HandleFunc("GET /s.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, script)
	})
	mux.HandleFunc("GET /api/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s by %s.", r.Header.Get("Accept-Language"),
			r.Header.Get("X-Forwarded-User"))
	})
	mux.HandleFunc("POST /export", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Disposition", `attachment; filename="letters.csv"`)
		fmt.Fprint(w, "a,b\n")
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "name", Value: r.FormValue("name")[:3]})
		http.Redirect(w, r, "./", http.StatusSeeOther)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Elements appear and change late; the helpers wait for them.
func TestUse(t *testing.T) {
	t.Parallel()
	s := serve(t, `<h1></h1><p hidden>hidden</p><button disabled>One</button><button>Two</button>
		<dialog></dialog>
		<form method="post" action="login"><input name="name" value="old"><select><option>a
		</option><option value="b">b</option></select></form>`, `
		const [one, two] = document.querySelectorAll("button");
		const h1 = document.querySelector("h1");
		const heard = (text) => { h1.textContent += text + " "; };
		const dialog = document.querySelector("dialog"); // covers the page
		dialog.showModal();
		setTimeout(() => { one.disabled = false; }, 300);
		setTimeout(() => { dialog.close(); }, 100);
		one.onclick = () => heard("one");
		two.onclick = () => heard("two");
		document.querySelector("select").onchange = (e) => heard(e.target.value);
		fetch("api/hello").then((r) => r.text()).then(heard);`)
	b := newTab(t)
	b.open(s.URL)
	b.waitText("h1", `^hello`)
	b.click("button >> One")
	b.click("button >> Two")
	b.choose("select", "b")
	b.waitText("h1", `one two b`)
	if got := b.text("p"); got != "" {
		t.Errorf("the text of a hidden element is %q", got)
	}
	if got := b.texts("button"); !slices.Equal(got, []string{"One", "Two"}) || b.count("p") != 0 {
		t.Errorf("buttons %q", got)
	}
	b.write("input", "new é读")
	if got := b.value("input"); got != "new é读" {
		t.Errorf("the input's value is %q", got)
	}
	b.press(kb.Enter)
	b.waitTrue(`() => document.cookie.startsWith("name=")`)
	b.waitGone("p")
	if got := b.requests(); got["POST /login"] != 1 || got["GET /"] != 2 {
		t.Errorf("requests: %v", got)
	}

	other := newTab(t)
	other.open(s.URL)
	if got := eval[string](other, `() => document.cookie`); got != "" {
		t.Errorf("the tab of another test has the cookie %q", got)
	}
	same := b.another()
	same.open(s.URL)
	if got := eval[string](same, `() => document.cookie`); got == "" {
		t.Error("another tab of the browser does not have the cookie")
	}
}

// recorder records the errors of a test that has to fail.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Errorf(format string, args ...any) { r.text += fmt.Sprintf(format, args...) }

// A tab fails its test over whatever a sound page doesn't do.
func TestComplaints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, script, want string }{
		"log":       {"", `console.log("text", 1)`, "console.log: text 1"},
		"warning":   {"", `console.warn("text")`, "console.warning: text"},
		"exception": {"", `throw new Error("text")`, "Error: text"},
		"rejection": {"", `Promise.reject(new Error("text"))`, "Error: text"},
		"missing":   {"", `fetch("missing")`, "404"},
		"handler":   {`<img src="data:," onerror="document.title = 1">`, "", "event handler"},
		"style":     {`<p style="color: red">`, "", "inline style"},
		"script":    {`<script>document.title = 1</script>`, "", "inline script"},
		"dialog":    {"", `alert("text")`, "dialog: text"},
		"host":      {"", `location = "http://example.com/x"`, "another host: http://example.com/x"},
		"test":      {"", `location = "http://m.test/x"`, "another host: http://m.test/x"},
	} {
		t.Run(name, func(t *testing.T) {
			errs := &recorder{TB: t}
			t.Cleanup(func() { // after the tab's own cleanup
				if !strings.Contains(errs.text, c.want) {
					t.Errorf("the test fails with %q", errs.text)
				}
			})
			b := newTab(errs)
			b.open(serve(t, c.body, c.script).URL)
			b.waitComplaint(c.want)
		})
	}
	t.Run("none", func(t *testing.T) {
		b := newTab(t)
		b.open(serve(t, "text", `fetch("api/hello")`).URL)
		b.waitRequests("GET /api/hello", 0)
		if got := b.unexpected(); len(got) > 0 {
			t.Errorf("complaints about a sound page: %q", got)
		}
		b.mu.Lock()
		b.complaints = []string{"one", "two"}
		b.mu.Unlock()
		b.allow("^o")
		if got := b.unexpected(); !slices.Equal(got, []string{"two"}) {
			t.Errorf("complaints that are not allowed: %q", got)
		}
		b.allow("^two")
	})
}

// The focus reaches all controls that it can reach, and the others are reported.
func TestTabOrder(t *testing.T) {
	t.Parallel()
	b := newTab(t)
	b.open(serve(t, `<a href="#a">1</a><button>2</button><button disabled>no</button>
		<button hidden>no</button><details><summary>3</summary><button>no</button></details>
		<input type="radio" name="r"><input type="radio" name="r"><p tabindex="0">5</p>
		<p tabindex="-1">no</p><div inert><button>no</button></div>
		<button id="trap">trap</button>`,
		`document.getElementById("trap").onfocus = (e) => e.target.blur();`).URL)
	order, unreachable := b.tabOrder()
	want := []string{`<a href="#a">`, `<button>2`, `<summary>3`, `<input type="radio"`,
		`<p tabindex="0">`}
	if !slices.EqualFunc(order, want, strings.HasPrefix) {
		t.Errorf("order %q", order)
	}
	if len(unreachable) != 1 || !strings.Contains(unreachable[0], "trap") {
		t.Errorf("unreachable %q", unreachable)
	}
	b.click("button >> 2")
	if got := b.focused(); !strings.HasPrefix(got, "<button>2") {
		t.Errorf("focused: %q", got)
	}
}

// What the page sees of its screen, its language and its time zone.
func TestScreen(t *testing.T) {
	t.Parallel()
	s := serve(t, `<h1></h1>`, `fetch("api/hello").then((r) => r.text()).then((text) => {
		document.querySelector("h1").textContent = [text, window.innerWidth,
			matchMedia("(prefers-color-scheme: dark)").matches,
			new Date(Date.UTC(2026, 0, 1)).getHours(), (0.5).toLocaleString()].join(" ");
		});`)
	b := newTab(t)
	b.viewport(390, 844)
	b.colors("dark")
	b.language("de-DE,de", "de-DE")
	b.timeZone("Asia/Shanghai")
	b.open(s.URL)
	b.waitText("h1", `^hello de-DE,de;q=0.9 by \. 390 true 8 0,5$`)
	b.colors("light")
	b.reload()
	b.waitText("h1", ` 390 false `)
	if n := b.tooWide(); n != 0 {
		t.Errorf("too wide by %d", n)
	}
	eval[bool](b, `() => { document.querySelector("h1").textContent = "x".repeat(1000);
		return true; }`)
	if n := b.tooWide(); n <= 0 {
		t.Errorf("a long word is too wide by %d", n)
	}
}

// What axe calls serious is found, in dark too.
func TestAxe(t *testing.T) {
	t.Parallel()
	needAxe(t)
	const css = `const sheet = new CSSStyleSheet(); document.adoptedStyleSheets = [sheet];
		sheet.replaceSync("@media (prefers-color-scheme: dark) { p { color: #eee } }");`
	b := newTab(t)
	b.open(serve(t, `<h1>Title</h1><p>text</p>`, css).URL)
	if got := b.axe(); len(got) > 0 {
		t.Errorf("violations in light: %q", got)
	}
	b.colors("dark")
	if got := b.axe(); len(got) != 1 || !strings.HasPrefix(got[0], "color-contrast (serious)") {
		t.Errorf("violations in dark: %q", got)
	}
}

// The heap shows what a page keeps, and hurried pages do in a moment what takes an hour.
func TestHeap(t *testing.T) {
	t.Parallel()
	b := newTab(t)
	b.hurry(10_000)
	b.open(serve(t, "", `let kept = [], n = 0;
		(function refresh() {
			kept.push(new Array(1000).fill(n));
			if (++n < 200) setTimeout(refresh, 2000); else document.title = "done";
		})();`).URL)
	b.waitTrue(`() => document.title === "done"`)
	full := b.heap()
	eval[bool](b, `() => { kept = []; return true; }`)
	if empty := b.heap(); full-empty < 200*1000*4 {
		t.Errorf("200 arrays of 1000 numbers occupy %d bytes", full-empty)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	b := newTab(t)
	b.open(serve(t, `<form method="post" action="export"><button>Export</button></form>`, "").URL)
	for range 2 {
		name, content := b.download(func() { b.click("button") })
		if name != "letters.csv" || string(content) != "a,b\n" {
			t.Errorf("%s: %q", name, content)
		}
	}
}

// Pages behind a proxy and under another machine's name, several tabs of one browser, screenshots.
func TestProxyAndTabs(t *testing.T) {
	t.Setenv("MARKREAD_TEST_SCREENSHOTS", t.TempDir())
	s := serve(t, `<h1></h1>`, `fetch("api/hello").then((r) => r.text()).then((text) => {
		document.querySelector("h1").textContent = text; });`)
	address := proxied(t, s.Listener.Addr().String(), "/x/y",
		http.Header{"X-Forwarded-User": {"alice"}})
	for _, b := range openTabs(t, 3, address) {
		b.waitText("h1", `^hello .* by alice\.$`)
		if !eval[bool](b, `() => document.visibilityState === "visible" && document.hasFocus()`) {
			t.Error("a tab is hidden")
		}
		if got := b.requests(); got["GET /x/y/api/hello"] != 1 {
			t.Errorf("requests: %v", got)
		}
		b.screenshot("a page")
	}
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	remote := newTab(t)
	remote.open("http://markread.test:" + port)
	remote.waitText("h1", `^hello`)
	image, err := os.ReadFile(filepath.Join(os.Getenv("MARKREAD_TEST_SCREENSHOTS"),
		"TestProxyAndTabs-a-page.png"))
	if err != nil || !bytes.HasPrefix(image, []byte("\x89PNG")) {
		t.Errorf("the screenshot is no picture: %v", err)
	}
}
