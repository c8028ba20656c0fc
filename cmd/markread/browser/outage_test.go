package browser_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"markread/cmd/markread/app"
)

// The overview follows an outage and its end without being reloaded, on a worker's own page and on
// the group's: the sentence, what happened, its mark on the plots, and the calls.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := startStack(t, func(o *app.DevOptions) { o.Traffic = 20 })
	worker, group := newTab(t), newTab(t)
	worker.open(s.page())
	group.open(s.console())
	both := []*tab{worker, group}
	for _, b := range both {
		b.waitText("h1", `^Keeping up: `)
		waitCalls(b, "ok", true)
	}
	s.faults(`{"rules":[{"kind":"status","status":502}]}`)
	for _, b := range both {
		b.waitText("h1", `^Calls are held: outage`)
		b.waitText(".banner.bad", `none is lost|No event is lost`)
		b.waitText(".banner .facts", `Since\s+\d\d:\d\d:\d\d UTC`)
		b.waitText(".banner .facts", `Code\s+http_502: \w`)
		b.waitText(".banner .todo", `What to do\s+\w`)
		b.waitText(".happened li >> Hold began: outage", `\d\d:\d\d:\d\d`)
		b.waitText("tbody tr .badge >> outage", `held: outage`)
		b.waitText("#state", `Action needed`)
		b.waitTrue(`() => document.title.startsWith("✕")`)
	}
	worker.waitText(".banner .facts", `Observed\s+.*HTTP status 502`)
	for _, b := range both {
		waitCalls(b, "ok", false)
		waitMark(b, "bad")
		if !readsMark(b, "Hold began: outage") {
			t.Error("no moment of the plots names the hold")
		}
		b.screenshot("outage")
	}
	s.faults(`{}`)
	for _, b := range both {
		b.waitText("h1", `^(Keeping up|Catching up|A backlog)`)
		b.waitText(".happened li >> Hold ended", `outage`)
		b.waitGone("tbody tr .badge >> outage")
		b.waitGone(".banner.bad")
		waitCalls(b, "ok", true)
		waitMark(b, "good")
	}
}

// waitCalls waits until the latest point of the plot of calls has some calls with the result, or
// none.
func waitCalls(b *tab, result string, some bool) {
	b.Helper()
	b.waitTrue(`(result, some) => {
		const item = findAll("figure:first-child .legend li").
			find((li) => li.textContent.startsWith(result + " "));
		const n = parseFloat(item?.querySelector("b").textContent);
		return some ? n > 0 : n === 0;
	}`, result, some)
}

// waitMark waits until the plot of calls has a vertical line of a kind of mark's color. A dashed line
// has the color in half of its pixels.
func waitMark(b *tab, color string) {
	b.Helper()
	b.waitTrue(`(color) => {
		const plot = find("figure:first-child canvas");
		const { width, height } = plot;
		// a copy: reading the plot itself would change how it is drawn
		const copy = new OffscreenCanvas(width, height).
			getContext("2d", { willReadFrequently: true });
		copy.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--" + color);
		copy.fillRect(0, 0, 1, 1);
		const want = copy.getImageData(0, 0, 1, 1).data.join();
		copy.clearRect(0, 0, 1, 1);
		copy.drawImage(plot, 0, 0);
		const { data } = copy.getImageData(0, 0, width, height);
		for (let x = 0; x < width; x++) {
			let n = 0;
			for (let y = 0; y < height; y++) {
				const i = 4 * (y * width + x);
				if (data.subarray(i, i + 4).join() === want) n++;
			}
			if (n > height / 3) return true;
		}
		return false;
	}`, color)
}

// readsMark reports whether the plots name what happened when the arrow keys move through the
// latest points.
func readsMark(b *tab, what string) bool {
	b.Helper()
	eval[bool](b, `() => { find("[role=group]:has(> figure)").focus(); return true; }`)
	for range 20 {
		b.press(kb.ArrowLeft)
		if strings.Contains(b.text(".readout"), what) {
			return true
		}
	}
	return false
}
