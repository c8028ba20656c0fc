// Package texts is the catalogue of the page's texts in English and Chinese, so that the page and
// the login form are in their reader's language, hold reasons and error codes included.
//
// The texts are in the folder's JSON files, {"key":{"en":"…","zh":"…"}}. The English meanings and
// remedies of hold reasons and of codes come from the tables of packages hold and imclient, which
// the logs use too; a file has only the Chinese. The remedies of codes exist twice: code.X.do for a
// worker, and code.X.fix for a dead letter, which nothing retries. The codes that have no text are
// explained by code.other. In a text, {name:format} stands for a parameter,
// which the page formats. A text that is missing in Chinese is shown in English; a test checks that
// none is.
package texts

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"markread/imclient"
	"markread/worker/hold"
)

//go:embed *.json
var files embed.FS

// The languages.
const (
	English = "en"
	Chinese = "zh"
)

// Catalogue has the texts by language and key. It never changes.
type Catalogue struct {
	texts map[string]map[string]string
	// written has the Chinese texts of the files, without the English ones in their place
	written map[string]string
}

// New returns the catalogue. It panics if an embedded file is invalid.
func New() *Catalogue {
	c, err := load(files)
	if err != nil {
		panic(err)
	}
	return c
}

// load reads all files of the folder. A key that two files have is an error.
func load(folder fs.FS) (*Catalogue, error) {
	c := &Catalogue{texts: map[string]map[string]string{English: {}, Chinese: {}}}
	names, err := fs.Glob(folder, "*.json")
	if err != nil {
		return nil, err
	}
	seen := map[string]string{}
	for _, name := range names {
		content, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, err
		}
		var entries map[string]map[string]string
		if err := json.Unmarshal(content, &entries); err != nil {
			return nil, fmt.Errorf("texts/%s: %w", name, err)
		}
		for key, entry := range entries {
			if seen[key] != "" {
				return nil, fmt.Errorf("texts: %s is in %s and in %s", key, seen[key], name)
			}
			seen[key] = name
			for lang, text := range entry {
				if c.texts[lang] == nil {
					return nil, fmt.Errorf("texts/%s: %s has the language %q", name, key, lang)
				}
				c.texts[lang][key] = text
			}
		}
	}
	addFixes(c.texts[Chinese], withoutRetry)
	c.written = maps.Clone(c.texts[Chinese])
	c.addTables(seen)
	addFixes(c.texts[English], imclient.WithoutRetry)
	for key, text := range c.texts[English] {
		if c.texts[Chinese][key] == "" {
			c.texts[Chinese][key] = text
		}
	}
	return c, nil
}

// addTables adds the English texts of hold reasons and codes. Labels without an ErrorCode form no
// list, so those in the files are used.
func (c *Catalogue) addTables(seen map[string]string) {
	add := func(key, text string) {
		if c.texts[English][key] == "" {
			c.texts[English][key] = text
		}
	}
	for _, reason := range hold.Reasons() {
		key := "hold." + string(reason)
		add(key, string(reason))
		add(key+".meaning", reason.Meaning())
		add(key+".do", reason.Do())
	}
	for _, code := range imclient.Codes() {
		key := "code." + strconv.Itoa(code.Code)
		add(key+".meaning", code.Meaning)
		add(key+".do", code.Remedy)
	}
	for key := range seen {
		label, isCode := strings.CutPrefix(key, "code.")
		label, isMeaning := strings.CutSuffix(label, ".meaning")
		if isCode && isMeaning {
			failure := imclient.Error{Label: label}
			add(key, failure.Meaning())
			add("code."+label+".do", failure.Remedy())
		}
	}
}

// addFixes adds code.X.fix, which is code.X.do for a dead letter: nothing retries that by itself.
func addFixes(texts map[string]string, withoutRetry func(string) string) {
	for _, key := range slices.Collect(maps.Keys(texts)) {
		code, isRemedy := strings.CutSuffix(key, ".do")
		if isRemedy && strings.HasPrefix(code, "code.") {
			texts[code+".fix"] = withoutRetry(texts[key])
		}
	}
}

// withoutRetry is imclient.WithoutRetry for Chinese texts.
func withoutRetry(remedy string) string {
	for _, first := range []string{
		"前 5 分钟不用处理，会自动重试。如果一直失败，",
		"前 5 分钟不用处理，会自动降低调用速率。如果一直被限流，",
		"前 5 分钟不用处理，会换新的 UserSig 重试。如果一直失败，",
	} {
		remedy = strings.TrimPrefix(remedy, first)
	}
	return remedy
}

// Texts returns all texts of a language by key. The caller must not change them.
func (c *Catalogue) Texts(lang string) map[string]string { return c.texts[lang] }

// Lang returns the language of a request: that of its option lang, else the one that its browser
// prefers, else English.
func (*Catalogue) Lang(r *http.Request) string {
	switch lang := r.URL.Query().Get("lang"); lang {
	case English, Chinese:
		return lang
	}
	best, quality := English, 0.0
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, weight, weighted := strings.Cut(part, ";")
		lang, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		q := 1.0
		if weighted {
			text := strings.TrimPrefix(strings.TrimSpace(weight), "q=")
			q, _ = strconv.ParseFloat(text, 64) // 0: it is not wanted
		}
		if (lang == English || lang == Chinese) && q > quality {
			best, quality = lang, q
		}
	}
	return best
}
