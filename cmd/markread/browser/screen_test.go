package browser_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// viewport sets the size of the window's content in pixels.
func (b *tab) viewport(width, height int64) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// tooWide returns by how many pixels the page is wider than the window: a phone would scroll it
// sideways.
func (b *tab) tooWide() int {
	b.Helper()
	return eval[int](b, `() => document.documentElement.scrollWidth - window.innerWidth`)
}

// colors sets the preferred color scheme: "light" or "dark".
func (b *tab) colors(scheme string) {
	b.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// language sets Accept-Language, such as "zh-CN,zh", and the locale, such as "zh-CN".
func (b *tab) language(accepted, locale string) {
	b.Helper()
	call(b, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{
		UserAgent:      eval[string](b, `() => navigator.userAgent`),
		AcceptLanguage: accepted})
	call(b, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: locale})
}

// timeZone sets the time zone, such as "Asia/Shanghai".
func (b *tab) timeZone(name string) {
	b.Helper()
	call(b, emulation.SetTimezoneOverride,
		emulation.SetTimezoneOverrideParams{TimezoneID: name})
}

// screenshot saves the whole page as TEST-NAME.png if MARKREAD_TEST_SCREENSHOTS names a folder.
func (b *tab) screenshot(name string) {
	b.Helper()
	folder := os.Getenv("MARKREAD_TEST_SCREENSHOTS")
	if folder == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	const png = 100 // of FullScreenshot's quality
	image, err := chromedp.Run(ctx, chromedp.FullScreenshot(png))
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		name = regexp.MustCompile(`[^\w.-]+`).ReplaceAllString(b.Name()+"-"+name, "-")
		err = os.WriteFile(filepath.Join(folder, name+".png"), image, 0o644)
	}
	if err != nil {
		b.Errorf("screenshot: %v", err)
	}
}
