package browser_test

import (
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// write clicks into a field and replaces its text, key by key.
func (b *tab) write(selector, text string) {
	b.Helper()
	b.click(selector)
	eval[bool](b, `(s) => { find(s).select(); return true; }`, selector)
	if text == "" {
		text = kb.Delete
	}
	b.press(text)
}

// press presses keys: characters, or keys of package kb such as kb.Enter.
func (b *tab) press(keys string, modifiers ...chromedp.Modifier) {
	b.Helper()
	b.do(chromedp.KeyEvent(keys, chromedp.KeyModifiers(modifiers...)))
}

// focused describes the element that has the focus: the beginning of its HTML; "" if none has.
func (b *tab) focused() string {
	b.Helper()
	return eval[string](b, `() => document.activeElement === document.body ? "" :
		describe(document.activeElement)`)
}

// tabOrder presses Tab until the focus has gone round, and returns what had it, in order: the
// beginning of each element's HTML. unreachable has the visible controls that never had it.
func (b *tab) tabOrder() (order, unreachable []string) {
	b.Helper()
	const maxControls = 1000
	eval[bool](b, `() => {
		document.activeElement.blur();
		window[Symbol.for("seen")] = new Set();
		return true;
	}`)
	for range maxControls {
		b.press(kb.Tab)
		// at the end of the page the focus leaves it, which looks as if the body had it
		again := eval[bool](b, `() => {
			const seen = window[Symbol.for("seen")], e = document.activeElement;
			if (seen.has(e)) return true;
			seen.add(e);
			return false;
		}`)
		if again {
			order = eval[[]string](b, `() => [...window[Symbol.for("seen")]].
				filter((e) => e !== document.body).map(describe)`)
			// of radio buttons with one name only one has the focus; arrow keys reach the others
			unreachable = eval[[]string](b, `() => {
				const seen = [...window[Symbol.for("seen")]];
				return controls().filter((e) => !seen.some((s) => s === e ||
					e.type === "radio" && s.type === "radio" && s.name === e.name)).map(describe);
			}`)
			return order, unreachable
		}
	}
	b.Fatalf("the focus does not come back after %d times Tab", maxControls)
	return nil, nil
}
