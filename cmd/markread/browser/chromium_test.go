package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

// patience is how long a test waits for anything, and half of what it waits for Chromium to start.
// Only what hangs takes so long, however slow the machine is.
const patience = 30 * time.Second

// chromium is the one Chromium of this test binary. The first test that needs it starts it.
var chromium struct {
	start sync.Once
	ctx   context.Context // in which tabs open
	err   error
	stop  func() // stops the browser and waits until it has ended; nil: it was not started
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// findChromium returns the browser's path; "" if there is none.
func findChromium() string {
	if path := os.Getenv("MARKREAD_TEST_CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// useChromium returns the context in which tabs open. It skips the test if there is no Chromium.
func useChromium(t testing.TB) context.Context {
	t.Helper()
	if findChromium() == "" {
		t.Skip("skipped: browser tests: no Chromium")
	}
	chromium.start.Do(startChromium)
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
	return chromium.ctx
}

// startChromium starts Chromium with a new, empty profile. chromedp removes the profile's folder
// and, for root, adds --no-sandbox, without which Chromium refuses to run as root.
func startChromium() {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(findChromium()),
		// No request leaves the machine, neither a page's nor the browser's own. Names below .test
		// are this machine under a name that is not a loopback name.
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1, MAP * ~NOTFOUND, "+
			"EXCLUDE 127.0.0.1, EXCLUDE localhost"),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter,"+
			"CertificateTransparencyComponentUpdater"),
	)
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	chromium.ctx = ctx
	chromium.stop = func() {
		// first politely: then Chromium removes its temporary files
		polite, done := context.WithTimeout(ctx, patience)
		defer done()
		_ = chromedp.Cancel(polite)
		cancel()
		stopAllocator()
		chromedp.FromContext(ctx).Allocator.Wait()
	}
	tooLate := time.AfterFunc(2*patience, cancel)
	defer tooLate.Stop()
	if err := chromedp.Do(ctx); err != nil {
		chromium.err = fmt.Errorf("%s does not start: %w", findChromium(), err)
	}
}
