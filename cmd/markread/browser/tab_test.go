package browser_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// maxComplaints bounds what is kept of a page that never stops complaining.
const maxComplaints = 20

// tab is one tab, in a window of its own, so that it is never hidden.
type tab struct {
	testing.TB
	ctx context.Context

	dialogs sync.WaitGroup // closes them

	mu         sync.Mutex
	origins    map[string]bool // of the pages that the test opened
	complaints []string        // what a sound page doesn't cause: console messages and the like
	allowed    []*regexp.Regexp
	sent       map[string]int // requests by "METHOD /path", without the query
	file       download       // the latest
}

// newTab opens a tab that shares no cookies with other tabs.
func newTab(t testing.TB) *tab {
	t.Helper()
	return openTab(t, useChromium(t), chromedp.WithNewBrowserContext())
}

// another opens one more tab, which shares b's cookies.
func (b *tab) another() *tab {
	b.Helper()
	return openTab(b.TB, b.ctx)
}

func openTab(t testing.TB, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{TB: t, origins: map[string]bool{}, sent: map[string]int{}}
	var cancel context.CancelFunc
	b.ctx, cancel = chromedp.NewContext(parent, append(options, chromedp.WithListener(b.watch))...)
	t.Cleanup(func() {
		if t.Failed() {
			b.explain()
		}
		if err := chromedp.Cancel(b.ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("closing the tab: %v", err)
		}
		cancel()
		b.dialogs.Wait()
		b.check()
	})
	if err := chromedp.Do(b.ctx); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	b.viewport(1300, 900)
	return b
}

// watch records what happens in the tab, in the order in which it happens.
func (b *tab) watch(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchDownload(event)
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		text := "console." + string(e.Type) + ":"
		for _, a := range e.Args {
			text += " " + strings.Trim(string(a.Value), `"`) + a.Description
		}
		b.complain(text)
	case *runtime.EventExceptionThrown:
		text := "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.complain(text)
	case *log.EventEntryAdded: // failed requests, violations of the policy, warnings
		if strings.HasPrefix(e.Entry.Text, "Autofocus processing was blocked") {
			return // the test was faster than the page's autofocus
		}
		if strings.HasSuffix(e.Entry.URL, "/favicon.ico") {
			return // Chromium asks for it where a response is not a page, such as JSON
		}
		b.complain(fmt.Sprintf("%s %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text,
			e.Entry.URL))
	case *page.EventJavascriptDialogOpening: // the page stands still until somebody closes it
		b.complain("dialog: " + e.Message)
		b.dialogs.Go(func() {
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog,
				page.HandleJavaScriptDialogParams{})
		})
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		switch {
		case err == nil && (u.Scheme == "data" || u.Scheme == "blob"): // part of the page
		case err != nil || !b.origins[u.Scheme+"://"+u.Host]:
			b.complain("request to another host: " + e.Request.URL)
		case len(b.sent) < 1000:
			b.sent[e.Request.Method+" "+u.Path]++
		}
	}
}

func (b *tab) complain(text string) {
	if len(b.complaints) < maxComplaints {
		b.complaints = append(b.complaints, text)
	}
}

// allow permits the complaints that match the expression, for example about a response's status
// that the test causes.
func (b *tab) allow(expression string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, regexp.MustCompile(expression))
}

// unexpected returns the complaints so far that the test did not allow.
func (b *tab) unexpected() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, text := range b.complaints {
		for _, allowed := range b.allowed {
			if allowed.MatchString(text) {
				continue next
			}
		}
		list = append(list, text)
	}
	return list
}

// waitComplaint waits for a complaint that contains a text.
func (b *tab) waitComplaint(text string) {
	b.Helper()
	b.wait("a complaint about "+text, func(context.Context) (string, error) {
		list := b.unexpected()
		if slices.ContainsFunc(list, func(c string) bool { return strings.Contains(c, text) }) {
			return "", nil
		}
		return fmt.Sprintf("complaints: %q", list), nil
	})
}

func (b *tab) check() {
	b.Helper()
	for _, text := range b.unexpected() {
		b.Errorf("the page must not cause this: %s", text)
	}
}

// requests returns how many requests the tab has sent, by "METHOD /path", without the query.
func (b *tab) requests() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.sent)
}

// explain logs what a failed test's page shows.
func (b *tab) explain() {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	text, err := evaluate[string](ctx, `() => location.href + "\n" + document.body.innerText`)
	b.Logf("the page: %.2000s (error: %v)", text, err)
	b.screenshot("failed")
}

// open opens a page and waits until it is loaded.
func (b *tab) open(address string) {
	b.Helper()
	u, err := url.Parse(address)
	if err != nil {
		b.Fatal(err)
	}
	b.mu.Lock()
	b.origins[u.Scheme+"://"+u.Host] = true
	b.mu.Unlock()
	b.do(chromedp.Navigate(address))
}

func (b *tab) reload() {
	b.Helper()
	b.do(chromedp.Reload())
}

// do runs the actions.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// call runs a command of the DevTools protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], parameters P) R {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Call(ctx, command, parameters)
	if err != nil {
		b.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// evaluate calls a JavaScript function in the page. It may return a promise.
func evaluate[R any](ctx context.Context, function string, arguments ...any) (R, error) {
	list := make([]string, len(arguments))
	for i, a := range arguments {
		text, err := json.Marshal(a)
		if err != nil {
			return *new(R), err
		}
		list[i] = string(text)
	}
	return chromedp.Run(ctx, chromedp.Evaluate[R](
		fmt.Sprintf("{%s;(%s)(%s)}", elements, function, strings.Join(list, ", ")),
		chromedp.EvalAwaitPromise))
}

// eval is evaluate, and fails the test on an error.
func eval[R any](b *tab, function string, arguments ...any) R {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := evaluate[R](ctx, function, arguments...)
	if err != nil {
		b.Fatal(err)
	}
	return result
}

// wait polls until the function, which may use the page, returns "". Otherwise it returns what is
// still missing. Errors count as missing too: the page may be navigating.
func (b *tab) wait(what string, missing func(ctx context.Context) (string, error)) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		text, err := missing(ctx)
		if err == nil && text == "" {
			return
		}
		if ctx.Err() == nil { // else the error is about the deadline
			last = text
			if err != nil {
				last = err.Error()
			}
		}
		select {
		case <-ctx.Done():
			b.Fatalf("waited in vain for %s: %s", what, last)
		case <-tick.C:
		}
	}
}
