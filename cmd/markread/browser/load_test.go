package browser_test

import (
	"runtime"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
)

// The page and the worker keep nothing of a refresh. This test is not parallel, so that nothing else
// uses the process's heap.
func TestHeapStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: 5,000 refreshes take a while")
	}
	s := startStack(t, nil) // no traffic: the broker in this process would keep its events
	s.emit(20, "alice", "peer")
	b := newTab(t)
	b.hurry(1000)
	altered(b, `
		o.now.calls = o.now.events = n;
		o.happened.forEach((h) => { h.params.n = n; });
		o.partitions.push(...o.partitions.splice(0, n % 24));`)
	b.open(s.page())
	// Chromium keeps a little of each request for who watches them.
	call(b, network.Disable, cdp.Empty{})
	after := func(n int) (page, process int) {
		for seen := 0; seen < n; { // one more is far faster than the deadline, on any machine
			b.waitTrue(`(seen) => window.overviews > seen`, seen)
			seen = eval[int](b, `() => window.overviews`)
		}
		return b.heap(), allocated()
	}
	page1, process1 := after(1000)
	page5, process5 := after(5000)
	t.Logf("the page: %d to %d bytes, the process: %d to %d", page1, page5, process1, process5)
	const most = 1 << 20 // bytes
	if page5-page1 > most {
		t.Errorf("the page's heap grows by %d bytes", page5-page1)
	}
	if process5-process1 > most {
		t.Errorf("the process's heap grows by %d bytes", process5-process1)
	}
}

// allocated returns the bytes that this process's objects occupy after a garbage collection.
func allocated() int {
	var m runtime.MemStats
	for range 2 { // the first one empties the pools' second half
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
