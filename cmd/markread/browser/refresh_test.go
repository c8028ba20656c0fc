package browser_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/page"

	"markread/cmd/markread/app"
)

// altered makes the page see other overviews than the server's: each one passes through the body of
// a JavaScript function, which changes the overview o; n counts them.
func altered(b *tab, function string) {
	b.Helper()
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: fmt.Sprintf(`window.overviews = 0;
			const original = window.fetch;
			window.fetch = async (path, ...rest) => {
				const response = await original(path, ...rest);
				if (!path.startsWith("api/overview") || !response.ok) return response;
				const o = await response.json(), n = ++window.overviews;
				%s
				return new Response(JSON.stringify(o));
			};`, function)})
}

// waitOverviews waits until the page has received n more overviews, and shows all but the last.
func waitOverviews(b *tab, n int) {
	b.Helper()
	seen := eval[int](b, `() => window.overviews`)
	b.waitTrue(`(n) => window.overviews > n`, seen+n)
}

// A row's button keeps the focus, and a selected text stays selected, while all numbers change and
// the rows around them change their order.
func TestRefreshDisturbsNothing(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	b := newTab(t)
	b.hurry(20)
	altered(b, `
		const rows = [0, 1, 2, 3, 4].map((i) => ({ ...o.workers[0], name: "worker-" + i,
			address: "10.0.0." + i, state: "ready", held: [], calls: n + i, events: n * i }));
		o.workers = [...rows.slice(n % 5), ...rows.slice(0, n % 5)];
		o.partitions = o.partitions.slice(0, 8).map((p, i) => ({ ...p, lag: n + i }));
		o.partitions.push(...o.partitions.splice(0, n % 8));
		o.now.calls = n;`)
	b.open(s.console())
	b.waitText("tbody tr >> worker-2", `Pause`)
	eval[bool](b, `() => {
		window.focusLost = 0;
		const row = find("tbody tr >> worker-2");
		window.button = [...row.querySelectorAll("button")].find(visible);
		window.button.focus();
		window.button.addEventListener("blur", () => window.focusLost++);
		return true;
	}`)
	waitOverviews(b, 20)
	if !eval[bool](b, `() => document.activeElement === window.button && window.focusLost === 0 &&
		window.button.closest("tr").innerText.includes("worker-2")`) {
		t.Errorf("the focus is on %s", b.focused())
	}
	if got := b.count("tbody tr >> worker-"); got != 5 {
		t.Errorf("%d workers", got)
	}
	selected := `() => {
		document.activeElement.blur();
		const cell = find("tbody tr >> mark-read · 3").cells[0];
		document.getSelection().selectAllChildren(cell);
		return document.getSelection().toString();
	}`
	want := eval[string](b, selected)
	waitOverviews(b, 20)
	if got := eval[string](b, `() => document.getSelection().toString()`); got != want {
		t.Errorf("the selected text is %q, was %q", got, want)
	}
	b.press("x") // the page has no keys of its own: nothing happens
	if got := b.text(".tiles dd"); got == "" {
		t.Error("the tiles are empty")
	}
}

// A screen reader hears the sentence when it becomes another one, not when its numbers change.
func TestSentenceIsAnnouncedOnce(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	b := newTab(t)
	b.hurry(20)
	altered(b, `
		o.sentence = !window.down ? { key: "keeping-up", severity: "good",
			params: { calls: n, rate: 200, oldest: n / 10 } } : { key: "behind", severity: "bad",
			params: { in: n, out: 2 * n, waiting: n, oldest: n } };`)
	b.open(s.page())
	b.waitText("h1", `^Keeping up`)
	eval[bool](b, `() => {
		window.heard = [];
		const live = document.querySelectorAll("[aria-live], [role=status], [role=alert]");
		for (const e of live) {
			new MutationObserver(() => window.heard.push(e.textContent)).
				observe(e, { childList: true, characterData: true, subtree: true });
		}
		return true;
	}`)
	first := b.text("h1")
	waitOverviews(b, 20)
	if b.text("h1") == first {
		t.Error("the headline's numbers don't change")
	}
	heard := `() => window.heard`
	if got := eval[[]string](b, heard); len(got) > 0 {
		t.Errorf("a screen reader hears %q", got)
	}
	eval[bool](b, `() => window.down = true`)
	b.waitText("h1", `^Behind`)
	waitOverviews(b, 20)
	if got := eval[[]string](b, heard); len(got) != 1 {
		t.Errorf("a screen reader hears %q", got)
	}
	if got := b.text(".banner [aria-live]"); got == "" {
		t.Error("the announcement is empty")
	}
}

// Ten tabs of one browser all show the state.
func TestTenTabs(t *testing.T) {
	t.Parallel()
	s := startStack(t, func(o *app.DevOptions) { o.Traffic = 20 })
	tabs := openTabs(t, 10, s.console())
	for _, b := range tabs {
		b.waitText("h1", `^Keeping up: `)
		b.waitText(".tiles dd", `\d`)
		b.waitTrue(`() => findAll("figure canvas").length === 5`)
		b.waitRequests("GET /api/overview", 2)
	}
}
