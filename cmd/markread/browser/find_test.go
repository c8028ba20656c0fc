package browser_test

import (
	"context"
	"regexp"

	"github.com/chromedp/chromedp"
)

// elements are functions for all scripts of the tests. A selector is CSS, or "CSS >> TEXT": of the
// visible elements that match, the first one whose text contains TEXT.
const elements = `
const visible = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const findAll = (selector) => {
	const [css, text = ""] = selector.split(" >> ");
	return [...document.querySelectorAll(css)].filter((e) =>
		visible(e) && (e.innerText ?? e.textContent).includes(text));
};
const find = (selector) => findAll(selector)[0];
const describe = (e) => e.outerHTML.replace(/\s+/g, " ").slice(0, 120);
const controls = () => findAll("a[href], button, input, select, textarea, summary, [tabindex]")
	.filter((e) => e.tabIndex >= 0 && !e.disabled && !e.closest("[inert]") &&
		(!document.querySelector(":modal") || e.closest(":modal")));
`

// text returns the element's text as people see it; "" if it is not there or not visible.
func (b *tab) text(selector string) string {
	b.Helper()
	return eval[string](b, `(s) => find(s)?.innerText ?? ""`, selector)
}

// texts returns the texts of all visible elements.
func (b *tab) texts(selector string) []string {
	b.Helper()
	return eval[[]string](b, `(s) => findAll(s).map((e) => e.innerText)`, selector)
}

// count returns the number of visible elements.
func (b *tab) count(selector string) int {
	b.Helper()
	return eval[int](b, `(s) => findAll(s).length`, selector)
}

// value returns the value of an input, or "".
func (b *tab) value(selector string) string {
	b.Helper()
	return eval[string](b, `(s) => find(s)?.value ?? ""`, selector)
}

// waitText waits until the visible element's text matches the expression, and returns the text.
func (b *tab) waitText(selector, expression string) (text string) {
	b.Helper()
	want := regexp.MustCompile(expression)
	b.wait(selector+" with "+expression, func(ctx context.Context) (string, error) {
		var err error
		text, err = evaluate[string](ctx, `(s) => find(s)?.innerText ?? ""`, selector)
		if err != nil || want.MatchString(text) {
			return "", err
		}
		return "its text is " + text, nil
	})
	return text
}

// waitGone waits until no element is visible.
func (b *tab) waitGone(selector string) {
	b.Helper()
	b.wait("no "+selector, func(ctx context.Context) (string, error) {
		return evaluate[string](ctx, `(s) => { const e = find(s); return e ? describe(e) : ""; }`,
			selector)
	})
}

// waitTrue waits until a function in the page returns true.
func (b *tab) waitTrue(function string, arguments ...any) {
	b.Helper()
	b.wait(function, func(ctx context.Context) (string, error) {
		ok, err := evaluate[bool](ctx, function, arguments...)
		if err != nil || ok {
			return "", err
		}
		return "false", nil
	})
}

// waitRequests waits until the tab has sent n more requests, for example of the page's poll.
func (b *tab) waitRequests(methodAndPath string, n int) {
	b.Helper()
	n += b.requests()[methodAndPath]
	b.wait(methodAndPath, func(context.Context) (string, error) {
		if b.requests()[methodAndPath] >= n {
			return "", nil
		}
		return "too few requests", nil
	})
}

// click clicks the element with the mouse, once it is visible, enabled and not covered.
func (b *tab) click(selector string) {
	b.Helper()
	var at struct {
		Missing string
		X, Y    float64
	}
	b.wait("a click on "+selector, func(ctx context.Context) (missing string, err error) {
		at.Missing = ""
		at, err = evaluate[struct {
			Missing string
			X, Y    float64
		}](ctx, `(s) => {
			const e = find(s);
			if (!e) return { Missing: "not visible" };
			if (e.disabled) return { Missing: "disabled" };
			e.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
			const box = e.getClientRects()[0];
			const [X, Y] = [box.x + box.width / 2, box.y + box.height / 2];
			const top = document.elementFromPoint(X, Y);
			return e.contains(top) ? { X, Y } : { Missing: "covered by " + (top && describe(top)) };
		}`, selector)
		return at.Missing, err
	})
	b.do(chromedp.MouseClickXY(at.X, at.Y))
}

// choose chooses the option with a value.
func (b *tab) choose(selector, value string) {
	b.Helper()
	b.waitTrue(`(s, value) => {
		const e = find(s);
		if (!e || ![...e.options].some((o) => o.value === value)) return false;
		e.focus();
		e.value = value;
		e.dispatchEvent(new Event("input", { bubbles: true }));
		e.dispatchEvent(new Event("change", { bubbles: true }));
		return true;
	}`, selector, value)
}
