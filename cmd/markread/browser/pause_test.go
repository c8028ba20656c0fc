package browser_test

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"markread/cmd/markread/app"
)

// as opens the page of the server at the address as a proxy's user sees it.
func as(t *testing.T, user, target string) *tab {
	t.Helper()
	page := proxied(t, target, "/", http.Header{"Authorization": {"Bearer " + token},
		"X-Forwarded-User": {user}})
	b := newTab(t) // it ends before the proxy
	b.open(page)
	return b
}

// A worker is paused and resumed with the keyboard only, from the group's page and from its own.
// Who did it and why is shown with the hold and among what happened.
func TestPause(t *testing.T) {
	t.Parallel()
	s := startStack(t, withToken)
	worker, group := as(t, "wu", s.addr.Admin), as(t, "grete", s.addr.Console)
	both := []*tab{worker, group}
	worker.waitText("#user", `^wu$`)
	for _, c := range []struct {
		by       string
		from, to *tab
	}{{"grete", group, worker}, {"wu", worker, group}} {
		why := "deploy of " + c.by + ` <b>"&' 部署`
		tabTo(c.from, "td button >> Pause")
		c.from.press(kb.Enter)
		c.from.waitText("dialog h2", `^Pause .*\?$`)
		c.from.press(kb.Escape) // nothing happens
		c.from.waitGone("dialog")
		c.from.waitTrue(`() => document.activeElement === find("td button >> Pause")`)
		c.from.press(kb.Enter)
		c.from.waitTrue(`() => document.activeElement === find("dialog input")`)
		c.from.press(kb.Enter) // a reason is required
		c.from.press("  " + why)
		c.from.press(kb.Enter)
		c.from.waitGone("dialog")
		for _, b := range both {
			b.waitText("h1", `^Calls are held: paused$`)
			b.waitText(".banner.warn", `No event is lost`)
			b.waitText("#state", `^Attention$`)
			b.waitGone("td button >> Pause")
		}
		informed := both
		if c.from == worker { // the group's page reads only metrics, which name nobody
			informed = both[:1]
		}
		for _, b := range informed {
			b.waitText(".happened", c.by+": paused the worker: "+quoted(why))
			b.waitText("tbody tr .badge >> paused",
				"held: paused.* · by "+c.by+" · "+quoted(why)+"$")
			b.waitText(".banner .facts", `By\s+`+c.by)
			b.waitText(".banner .facts", `Reason given\s+`+quoted(why))
		}
		resume := "td button >> Resume"
		if c.to == worker { // the banner offers it, too
			resume = ".banner button >> Resume"
		}
		tabTo(c.to, resume)
		c.to.press(kb.Enter)
		c.to.waitText("dialog h2", `^Resume `)
		tabTo(c.to, "dialog button >> Resume")
		c.to.press(" ")
		c.to.waitGone("dialog")
		for _, b := range both {
			b.waitGone("h1 >> Calls are held")
			b.waitText(".happened", `Hold ended.*paused`)
			b.waitText("td button >> Pause", `Pause`)
		}
		c.to.waitText(".happened", `: resumed the worker\b`)
	}
	if n := worker.requests()["POST /api/pause"] + group.requests()["POST /api/pause"]; n != 2 {
		t.Errorf("%d pauses were requested", n)
	}
}

// Rejections are accepted after the newest of them were shown.
func TestAcceptRejections(t *testing.T) {
	t.Parallel()
	s := startStack(t, func(o *app.DevOptions) {
		withToken(o)
		o.Worker.MaxRejected = 10
	})
	worker, group := as(t, "wu", s.addr.Admin), as(t, "grete", s.addr.Console)
	s.faults(`{"rules":[{"kind":"code","code":90048}]}`)
	s.emit(600, "alice", "peer")
	for _, b := range []*tab{worker, group} {
		b.waitText("h1", `^Calls are held: too many rejections`)
		b.waitText(".banner.bad .todo", `\w`)
		if b == worker {
			b.click("td button >> Accept rejections")
		} else {
			b.click(".banner button >> Accept rejections")
		}
		b.waitText("dialog h2", `^Accept rejections`)
		b.waitText("dialog tbody", `90048`)
		if rows := b.texts("dialog tbody tr"); len(rows) != 10 {
			t.Errorf("rejected events: %q", rows)
		}
		b.screenshot("rejected")
		if b == worker {
			b.click("dialog button >> Cancel")
			b.waitGone("dialog")
			continue
		}
		b.click("dialog button.danger >> Accept rejections")
		b.waitGone("dialog")
	}
	for _, b := range []*tab{worker, group} {
		b.waitGone("h1 >> Calls are held")
		b.waitGone("td button >> Accept rejections")
		b.waitText(".happened", `grete: resumed the worker and accepted rejections`)
	}
	group.waitTrue(`() => Number(find("#open")?.innerText) > 0`)
}
