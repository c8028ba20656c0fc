// Package browser tests the console's pages in a real Chromium, as people use them: with the mouse
// or the keyboard only, in light and dark, in both languages, behind a proxy. It consists of tests
// only, and they are skipped where there is no Chromium. Handlers, JSON and access have faster
// tests in package console.
//
// A test opens a tab, which has cookies of its own, and uses the page through it:
//
//	func TestPause(t *testing.T) {
//		t.Parallel()
//		s := startStack(t, nil)
//		b := newTab(t)
//		b.open(s.page())
//		b.click("button >> Pause")
//		b.waitText("h1", `^Paused`)
//	}
//
// Every tab fails its test if the page writes to the console, throws, violates its
// Content-Security-Policy or sends a request to another host. Waiting has a deadline that only a
// hanging page reaches.
//
// Files: chromium_test.go starts and stops the browser; tab_test.go opens tabs and watches them;
// find_test.go finds elements, reads and clicks; keys_test.go is the keyboard; screen_test.go
// emulates screens, languages and time zones and takes screenshots; measure_test.go has axe, the
// heap, many tabs; download_test.go receives files; proxy_test.go and stack_test.go start what
// serves the pages. harness_test.go tests all of this against small pages.
//
// MARKREAD_TEST_CHROMIUM is the browser's path (default: chromium or google-chrome in PATH),
// MARKREAD_TEST_AXE the path of axe.min.js, MARKREAD_TEST_SCREENSHOTS a folder for screenshots.
package browser
