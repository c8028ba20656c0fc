package browser_test

import (
	"context"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// download is a file that the browser received.
type download struct {
	id, name string
	complete bool
}

// watchDownload records a download's events. There is at most one at a time.
func (b *tab) watchDownload(event any) {
	switch e := event.(type) {
	case *browser.EventDownloadWillBegin:
		b.file = download{id: e.GUID, name: e.SuggestedFilename}
	case *browser.EventDownloadProgress:
		b.file.complete = e.State == browser.DownloadProgressStateCompleted
		if e.State == browser.DownloadProgressStateCanceled {
			b.complain("a download was canceled")
		}
	}
}

// download calls trigger, which must make the page download a file, and returns the file's name, as
// the server suggests it, and its content.
func (b *tab) download(trigger func()) (name string, content []byte) {
	b.Helper()
	folder, events := b.TempDir(), true
	b.mu.Lock()
	b.file = download{}
	b.mu.Unlock()
	call(b, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior:         browser.SetDownloadBehaviorBehaviorAllowAndName,
		BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
		DownloadPath:     folder, EventsEnabled: &events})
	trigger()
	var file download
	b.wait("a download", func(context.Context) (string, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if file = b.file; !file.complete {
			return "it is not complete: " + file.name, nil
		}
		return "", nil
	})
	content, err := os.ReadFile(filepath.Join(folder, file.id))
	if err != nil {
		b.Fatal(err)
	}
	return file.name, content
}
