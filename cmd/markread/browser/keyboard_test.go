package browser_test

import (
	"regexp"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"markread/cmd/markread/app"
	"markread/worker/console"
)

var quoted = regexp.QuoteMeta

// tabTo presses Tab until the element has the focus.
func tabTo(b *tab, selector string) {
	b.Helper()
	b.waitText(selector, `\S`)
	for range 100 {
		if eval[bool](b, `(s) => document.activeElement === find(s)`, selector) {
			return
		}
		b.press(kb.Tab)
	}
	b.Fatalf("Tab does not reach %s", selector)
}

// place is a page, or a state of one.
type place struct {
	name  string
	group bool // of the group's server
	show  func(b *tab)
}

// places returns all pages of a stack for which fill was called. A place is opened after those
// before it.
func places() []place {
	view := func(name, loaded string) func(*tab) {
		return func(b *tab) {
			b.Helper()
			b.click(`nav a[href="#` + name + `"]`)
			b.waitTrue(`(name) => document.querySelector("main h1, main h2") &&
				find("nav [aria-current=page]").hash === "#" + name`, name)
			b.waitTrue(loaded)
		}
	}
	overview := view("overview", `() => findAll("figure canvas").length === 5 &&
		findAll("tbody tr").length > 20 && findAll(".happened li").length > 0`)
	conversation := func(b *tab) {
		b.Helper()
		view("conversation", `() => true`)(b)
		b.write("#c-report", "alice")
		b.write("#c-peer", "bob")
		b.press(kb.Enter)
		b.waitTrue(`() => findAll(".facts dd").length > 3 && findAll("main code").length > 0`)
	}
	settings := view("settings", `() => findAll("main tbody tr").length > 0`)
	letters := view("dead-letters", `() => findAll("th a").length === 3`)
	letter := func(b *tab) {
		b.Helper()
		b.click("th a")
		b.waitTrue(`() => findAll("main pre").length === 1 && findAll(".facts dd").length > 5`)
	}
	dialog := func(b *tab) {
		b.Helper()
		overview(b)
		b.click(`td button[data-action="pause"]`)
		b.waitTrue(`() => findAll("dialog input").length === 1`)
	}
	return []place{
		{"overview", false, overview}, {"conversation", false, conversation},
		{"settings", false, settings}, {"dialog", false, dialog},
		{"overview", true, overview}, {"conversation", true, conversation},
		{"settings", true, settings}, {"dead-letters", true, letters}, {"letter", true, letter},
		{"dialog", true, dialog},
	}
}

// fill gives all pages something to show, and waits until the overviews do.
func fill(s *stack) {
	s.t.Helper()
	for range 3 {
		s.emitInvalid("alice", "bob")
	}
	s.emit(20, "alice", "peer")
}

// withSettings gives the pages of settings something to show.
func withSettings(o *app.DevOptions) {
	withToken(o)
	o.Settings = func() []console.Setting {
		return []console.Setting{{Name: "--rate", Value: "200", Source: "default"},
			{Name: "--brokers", Value: "kafka-1:9092", Source: "environment", From: "MARKREAD_BROKERS"}}
	}
}

// Tab reaches every control of every page in the order in which people read them, the focus is
// always visible, and fields have labels.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := startStack(t, withSettings)
	fill(s)
	tabs := map[bool]*tab{}
	for group, address := range map[bool]string{false: s.page(), true: s.console()} {
		b := newTab(t)
		b.allow("status of 401")
		b.open(address)
		waitForm(b)
		checkTabOrder(b, "login")
		b.click("#token")
		logIn(b)
		tabs[group] = b
	}
	for _, p := range places() {
		b := tabs[p.group]
		p.show(b)
		checkTabOrder(b, p.name)
		if p.name == "dialog" {
			b.press(kb.Escape)
			b.waitGone("dialog")
		}
	}
	b := tabs[true]
	eval[bool](b, `() => { document.activeElement.blur(); return true; }`)
	tabTo(b, "#skip")
	b.press(kb.Enter)
	b.press(kb.Tab)
	if !eval[bool](b, `() => document.activeElement.closest("main") !== null`) {
		t.Errorf("the skip link leads to %s", b.focused())
	}
}

func checkTabOrder(b *tab, name string) {
	b.Helper()
	order, unreachable := b.tabOrder()
	for range 2 { // a control may have appeared meanwhile
		if len(unreachable) > 0 {
			order, unreachable = b.tabOrder()
		}
	}
	if len(unreachable) > 0 {
		b.Errorf("%s: Tab does not reach %q", name, unreachable)
	}
	if len(order) < 2 {
		b.Errorf("%s: Tab reaches only %q", name, order)
	}
	wrong := eval[[]string](b, `() => {
		const list = [...window[Symbol.for("seen")]].filter((e) => e.isConnected &&
			e !== document.body);
		const wrong = [];
		for (const e of list) {
			e.focus({ focusVisible: true });
			const { outlineStyle, outlineWidth } = getComputedStyle(e);
			if (outlineStyle === "none" || parseFloat(outlineWidth) < 1) {
				wrong.push("no visible focus: " + describe(e));
			}
			if (e.matches("input, select") && e.labels.length === 0) {
				wrong.push("no label: " + describe(e)); // a placeholder disappears
			}
			const box = e.getBoundingClientRect();
			if (box.width < 1 || box.bottom <= 0 || box.top >= innerHeight) {
				wrong.push("outside of the window: " + describe(e));
			}
		}
		const back = list.filter((e, i) => i > 0 &&
			e.compareDocumentPosition(list[i - 1]) & Node.DOCUMENT_POSITION_FOLLOWING);
		// once, because the focus did not begin at the first control
		if (back.length > 1) wrong.push("order: " + back.map(describe).join());
		return wrong;
	}`)
	for _, w := range wrong {
		b.Errorf("%s: %s", name, w)
	}
}
