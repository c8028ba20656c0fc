package browser_test

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"markread/cmd/markread/app"
)

// axe finds nothing serious, and a phone need not scroll sideways: every page with data, with an
// open dialog, during an outage, and the login; in light and dark, English and Chinese, on a desktop
// and a phone.
func TestAccessibility(t *testing.T) {
	t.Parallel()
	needAxe(t)
	s := startStack(t, func(o *app.DevOptions) {
		withSettings(o)
		o.Worker.MaxRejected = 100 // so that no hold begins
	})
	fill(s)
	for lang, home := range map[string]string{"en": "?lang=en", "zh": "?lang=zh"} {
		t.Run(lang, func(t *testing.T) {
			tabs := map[bool]*tab{}
			for group, address := range map[bool]string{false: s.page(), true: s.console()} {
				b := newTab(t)
				b.allow("status of 401")
				b.open(address + home)
				inAllLooks(b, "login")
				typeToken(b, "wrong")
				b.waitText("[role=alert]", `\S`)
				inAllLooks(b, "login-wrong")
				logIn(b)
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
