package browser_test

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"markread/cmd/markread/app"
)

// axe finds nothing serious, and a phone need not scroll sideways: every page with data, with an
// open dialog, and the login; in light and dark, English and Chinese, on a desktop and a phone. In
// Chinese there is an outage.
func TestAccessibility(t *testing.T) {
	t.Parallel()
	needAxe(t)
	s := startStack(t, func(o *app.DevOptions) {
		withSettings(o)
		o.Worker.MaxRejected = 100 // so that no hold begins
	})
	fill(s)
	for _, lang := range []string{"en", "zh"} {
		headline := `^Keeping up`
		if lang == "zh" {
			s.faults(`{"rules":[{"kind":"status","status":502}]}`)
			s.emit(20, "alice", "peer")
			headline = `^调用已暂停：IM 服务中断`
		}
		t.Run(lang, func(t *testing.T) {
			tabs := map[bool]*tab{}
			for group, address := range map[bool]string{false: s.page(), true: s.console()} {
				b := newTab(t)
				b.allow("status of 401")
				b.open(address + "?lang=" + lang)
				waitForm(b)
				inAllLooks(b, "login")
				typeToken(b, "wrong")
				b.waitText("[role=alert]", `\S`)
				inAllLooks(b, "login-wrong")
				logIn(b)
				b.waitText("h1", headline)
				tabs[group] = b
			}
			for _, p := range places() {
				b := tabs[p.group]
				p.show(b)
				inAllLooks(b, p.name)
				if p.name == "dialog" {
					b.press(kb.Escape)
					b.waitGone("dialog")
				}
			}
		})
	}
}

// inAllLooks checks what the tab shows in both color schemes and both widths.
func inAllLooks(b *tab, name string) {
	b.Helper()
	for _, width := range []int64{390, 1300} {
		b.viewport(width, 900)
		if n := b.tooWide(); n > 0 {
			b.Errorf("%s: %d pixels too wide at %d", name, n, width)
		}
		for _, scheme := range []string{"dark", "light"} {
			b.colors(scheme)
			for _, v := range b.axe() {
				b.Errorf("%s, %s, %d: %s", name, scheme, width, v)
			}
		}
	}
}
