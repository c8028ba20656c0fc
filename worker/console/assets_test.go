package console_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// uPlot is copied from its package in the npm registry, uplot@1.6.32, and never edited.
func TestPlotLibraryIsUnchanged(t *testing.T) {
	for name, want := range map[string]string{
		"uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
		"uPlot.min.css":     "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
	} {
		sum := sha256.Sum256([]byte(read(t, "assets/"+name)))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s has the SHA-256 %s, want %s", name, got, want)
		}
	}
	if !strings.Contains(read(t, "assets/LICENSE.uPlot"), "The MIT License") {
		t.Error("the license of uPlot is missing")
	}
}

// The page is served below any path, under a strict Content-Security-Policy, and shows what others
// have written. So its files name no other host and no absolute path, and make no markup.
func TestAssetsAreSafe(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|` +
		`\beval\(|new Function|setAttribute\("style"|https?://[^w1]|(src|href|action)="/|` +
		`\s(style|on[a-z]+)="|@import|url\(`)
	for _, name := range ours(t) {
		if found := forbidden.FindString(read(t, name)); found != "" {
			t.Errorf("%s contains %q", name, found)
		}
	}
}

// A text that the catalogue lacks would be shown as its key.
func TestPageHasItsTexts(t *testing.T) {
	catalogue := read(t, "texts/ui.json")
	uses := regexp.MustCompile(`["` + "`" + `](ui\.[a-z0-9_.]+)["` + "`" + `]`)
	found := 0
	for _, name := range ours(t) {
		for _, key := range uses.FindAllStringSubmatch(read(t, name), -1) {
			found++
			if key[1] != "ui.lane" && key[1] != "ui.obstacle" && // the beginnings of keys
				!strings.Contains(catalogue, `"`+key[1]+`":`) {
				t.Errorf("%s uses %s, which texts/ui.json lacks", name, key[1])
			}
		}
	}
	if found < 100 {
		t.Errorf("found only %d uses of texts", found)
	}
}

// ours returns the page's files without the plot library.
func ours(t *testing.T) []string {
	t.Helper()
	names := []string{"page.html", "login.html"}
	err := fs.WalkDir(os.DirFS("."), "assets", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(filepath.Base(name), "uPlot") {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
