package texts

import (
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"markread/imclient"
	"markread/worker/hold"
)

// labels are the labels of failures without an ErrorCode that a new worker exports, and "other".
var labels = []string{"http_429", "http_500", "http_502", "http_503", "http_504",
	imclient.LabelTimeout, imclient.LabelConnect, imclient.LabelReset, imclient.LabelTLS,
	imclient.LabelAnswer, imclient.LabelKey, imclient.LabelRequest, "other"}

// required returns the keys that the catalogue must have, whatever its files have.
func required() []string {
	var keys []string
	with := func(key string, parts ...string) {
		for _, part := range parts {
			keys = append(keys, key+part)
		}
	}
	for _, reason := range hold.Reasons() {
		with("hold."+string(reason), "", ".meaning", ".do")
	}
	for _, code := range imclient.Codes() {
		with("code."+strconv.Itoa(code.Code), ".meaning", ".do", ".fix")
	}
	for _, label := range labels {
		with("code."+label, ".meaning", ".do", ".fix")
	}
	with("class.", "rejected", "rejected.meaning", "exhausted", "exhausted.meaning", "invalid",
		"invalid.meaning")
	with("state.", "ready", "not-ready", "silent", "open", "parked", "replayed", "discarded")
	with("waits.", "quota", "call", "retry", "hold", "dead-letter")
	with("setting.", "default", "flag", "environment", "file")
	with("sentence.", "cut-off", "out", "none", "held", "losing", "fetching-paused", "blocked",
		"unreadable", "slowed", "behind", "backlog", "backfilling", "delayed",
		"silent", "catching-up", "keeping-up", "idle", "starting")
	with("happening.", "started", "hold-began", "hold-ended", "rebalanced", "slowed", "recovered",
		"silent", "responding", "lost", "command")
	with("ui.", "login", "login.wrong", "login.insecure", "token")
	return keys
}

// Every text exists in both languages, with the same parameters in the same formats.
func TestCatalogueIsComplete(t *testing.T) {
	c := New()
	keys := required()
	for _, lang := range []string{English, Chinese} {
		keys = slices.AppendSeq(keys, maps.Keys(c.Texts(lang)))
	}
	slices.Sort(keys)
	chinese := regexp.MustCompile(`\p{Han}`)
	for _, key := range slices.Compact(keys) {
		en, zh := c.Texts(English)[key], c.written[key]
		if strings.TrimSpace(en) == "" {
			t.Errorf("%s has no English text", key)
		}
		if strings.TrimSpace(zh) == "" {
			t.Errorf("%s has no Chinese text", key)
			continue
		}
		if strings.Contains(key, ".meaning") &&
			!chinese.MatchString(zh) {
			t.Errorf("%s is not Chinese: %s", key, zh)
		}
		a, b := placeholders(t, key, en), placeholders(t, key, zh)
		if !slices.Equal(a, b) {
			t.Errorf("%s: the English text has %v, the Chinese one %v", key, a, b)
		}
	}
}

var formats = []string{"text", "count", "rate", "seconds", "time", "key", "percent"}

// placeholders returns the parameters of a text with their formats, sorted.
func placeholders(t *testing.T, key, text string) []string {
	var found []string
	rest := regexp.MustCompile(`\{([a-z][a-z0-9_]*)(?::([a-z]+))?\}`).
		ReplaceAllStringFunc(text, func(p string) string {
			name, format, given := strings.Cut(strings.Trim(p, "{}"), ":")
			if !given {
				format = "text"
			} else if !slices.Contains(formats, format) {
				t.Errorf("%s: unknown format %q", key, format)
			}
			found = append(found, name+":"+format)
			return ""
		})
	if strings.ContainsAny(rest, "{}") {
		t.Errorf("%s has a brace that begins no placeholder: %s", key, text)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// The English texts of the tables are the ones that the logs use, unless a file has its own.
func TestTables(t *testing.T) {
	c, err := load(fstest.MapFS{"codes.json": {Data: []byte(
		`{"code.http_502.meaning":{"zh":"x"},"code.60022.meaning":{"en":"own","zh":"x"}}`)}})
	if err != nil || c.Texts(English)["code.60022.meaning"] != "own" {
		t.Fatalf("%v %v", c, err)
	}
	row, _ := imclient.LookUp(60021)
	failure := imclient.Error{Label: "http_502"}
	for key, want := range map[string]string{
		"hold.outage.meaning":   hold.Outage.Meaning(),
		"hold.outage.do":        hold.Outage.Do(),
		"code.60021.meaning":    row.Meaning,
		"code.60021.do":         row.Remedy,
		"code.http_502.meaning": failure.Meaning(),
		"code.http_502.do":      failure.Remedy(),
	} {
		if got := c.Texts(English)[key]; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

// The remedy of a dead letter does not promise a retry, and is otherwise that of the code.
func TestFixes(t *testing.T) {
	c := New()
	shorter := map[string]int{}
	for lang, promise := range map[string]string{English: "first 5 minutes", Chinese: "前 5 分钟"} {
		for key, fix := range c.Texts(lang) {
			code, isFix := strings.CutSuffix(key, ".fix")
			if !isFix {
				continue
			}
			do := c.Texts(lang)[code+".do"]
			if strings.Contains(fix, promise) || !strings.HasSuffix(do, fix) ||
				(fix == do) == strings.Contains(do, promise) {
				t.Errorf("%s, %s: %q of %q", key, lang, fix, do)
			}
			if fix != do {
				shorter[lang]++
			}
		}
	}
	failure := imclient.Error{ErrorCode: 60004}
	if got := c.Texts(English)["code.60004.fix"]; got != failure.RemedyWithoutRetry() ||
		shorter[English] == 0 || shorter[English] != shorter[Chinese] {
		t.Errorf("%q; shorter: %v", got, shorter)
	}
}

// Broken files are found; what is missing in Chinese is shown in English.
func TestLoad(t *testing.T) {
	for name, content := range map[string]map[string]string{
		"no JSON":       {"a.json": `{`},
		"a key twice":   {"a.json": `{"k":{"en":"x"}}`, "b.json": `{"k":{"zh":"y"}}`},
		"a language":    {"a.json": `{"k":{"fr":"x"}}`},
		"not an object": {"a.json": `{"k":"x"}`},
	} {
		folder := fstest.MapFS{}
		for file, text := range content {
			folder[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if _, err := load(folder); err == nil || !strings.Contains(err.Error(), "texts") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := load(fstest.MapFS{"a.json": {Data: []byte(
		`{"k":{"en":"x"},"l":{"en":"y","zh":"z"}}`)}})
	if err != nil || c.Texts(Chinese)["k"] != "x" || c.Texts(Chinese)["l"] != "z" ||
		c.Texts(English)["l"] != "y" {
		t.Errorf("%v %v", c, err)
	}
}

func TestLang(t *testing.T) {
	c := &Catalogue{}
	for _, r := range []struct{ query, header, want string }{
		{"", "", English}, {"", "zh", Chinese}, {"", "zh-CN,zh;q=0.9,en;q=0.8", Chinese},
		{"", "en-US,en;q=0.9,zh-CN;q=0.8", English}, {"", "zh;q=0.5, EN-gb;q=0.7", English},
		{"", "de,fr;q=0.9,ZH-hant;q=0.1", Chinese}, {"", "de", English}, {"", "*", English},
		{"", "zh;q=0", English}, {"", "zh;q=x", English}, {"", ";;,,=", English},
		{"lang=zh", "en", Chinese}, {"lang=en", "zh", English}, {"lang=fr", "zh", Chinese},
		{"lang=", "zh", Chinese}, {"", "zhx", English},
	} {
		request := httptest.NewRequest("GET", "/?"+r.query, nil)
		request.Header.Set("Accept-Language", r.header)
		if got := c.Lang(request); got != r.want {
			t.Errorf("%q, %q: %s", r.query, r.header, got)
		}
	}
}
