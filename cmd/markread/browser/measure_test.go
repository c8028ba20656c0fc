package browser_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// needAxe skips the test if there is no axe-core, and returns its source.
func needAxe(t testing.TB) string {
	t.Helper()
	path := os.Getenv("MARKREAD_TEST_AXE")
	if path == "" {
		t.Skip("skipped: browser tests: no axe-core")
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("MARKREAD_TEST_AXE: %v", err)
	}
	return string(source)
}

// axe returns the serious and critical violations of accessibility rules in the page as it is now,
// one line for each.
func (b *tab) axe() (lines []string) {
	b.Helper()
	source := needAxe(b.TB)
	type violation struct {
		ID, Impact, Help string
		Where            []string
	}
	for _, v := range eval[[]violation](b, `async (source) => {
		// not by a script element: the page's policy forbids that
		if (!window.axe) (0, eval)(source);
		// preload would fetch style sheets once more
		const { violations } = await axe.run(document,
			{ resultTypes: ["violations"], preload: false });
		return violations.map(({ id, impact, help, nodes }) =>
			({ ID: id, Impact: impact, Help: help, Where: nodes.map((n) => n.html) }));
	}`, source) {
		if slices.Contains([]string{"serious", "critical"}, v.Impact) {
			lines = append(lines, fmt.Sprintf("%s (%s): %s: %.500s", v.ID, v.Impact, v.Help,
				strings.Join(v.Where, " ")))
		}
	}
	return lines
}

// heap returns the bytes that the page's scripts and its document occupy after a garbage
// collection.
func (b *tab) heap() int {
	b.Helper()
	call(b, heapprofiler.CollectGarbage, cdp.Empty{})
	usage := call(b, runtime.GetHeapUsage, cdp.Empty{})
	return int(usage.UsedSize + usage.EmbedderHeapUsedSize)
}

// hurry makes the timers of pages that are opened from now on so many times as fast, so that a test
// sees thousands of refreshes. Of AbortSignal.timeout the speed stays the same.
func (b *tab) hurry(factor int) {
	b.Helper()
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: fmt.Sprintf(`for (const name of ["setTimeout", "setInterval"]) {
			const original = window[name];
			window[name] = (f, ms, ...rest) => original.call(window, f, (ms ?? 0) / %d, ...rest);
		}`, factor)})
}

// openTabs opens n tabs of one browser, which share their cookies, with the page at the address.
func openTabs(t testing.TB, n int, address string) []*tab {
	t.Helper()
	tabs := []*tab{newTab(t)}
	for len(tabs) < n {
		tabs = append(tabs, tabs[0].another())
	}
	for _, b := range tabs {
		b.open(address)
	}
	return tabs
}
