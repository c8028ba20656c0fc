package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// bootOf returns the page's bootstrap data.
func bootOf(t *testing.T, o Options, edits ...func(*http.Request)) (b boot, body string) {
	t.Helper()
	w := get(t, o, "/", edits...)
	if kind := w.Header().Get("Content-Type"); w.Code != http.StatusOK ||
		kind != "text/html; charset=utf-8" {
		t.Fatalf("%d %s", w.Code, kind)
	}
	body = w.Body.String()
	_, rest, found := strings.Cut(body, `<script type="application/json" id="boot">`)
	text, _, ended := strings.Cut(rest, "</script>")
	if !found || !ended {
		t.Fatalf("no bootstrap data: %s", body)
	}
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		t.Fatalf("%v: %.500s", err, text)
	}
	return b, body
}

func TestPage(t *testing.T) {
	worker, group, _ := everything("abc")
	bearer := header("Authorization", "Bearer abc")
	b, body := bootOf(t, worker, bearer, header("X-Forwarded-User", "alice"))
	if b.Lang != "en" || b.Scope != "worker" || b.Group != "markread" || b.Version != "v1.2.3" ||
		b.User != "alice" || !b.Login || b.ReadOnly || !b.AllowReplay || !b.Controls ||
		b.Texts["ui.login"] != "Log in" || len(b.Texts) < 100 ||
		!strings.Contains(body, `<html lang="en">`) {
		t.Errorf("%.300s", fmt.Sprint(b))
	}
	b, _ = bootOf(t, worker, loggedIn("abc"), header("X-Forwarded-User", "alice"),
		header("X-Forwarded-Proto", "https"))
	if b.User != "" {
		t.Errorf("a name without the token: %s", b.User)
	}
	group.Token, group.ReadOnly = "", true
	b, body = bootOf(t, group, header("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8"))
	if b.Lang != "zh" || b.Scope != "group" || b.User != "" || b.Login || !b.ReadOnly ||
		b.AllowReplay || b.Controls || b.Texts["ui.login"] != "登录" ||
		!strings.Contains(body, `<html lang="zh-Hans">`) {
		t.Errorf("%.300s", fmt.Sprint(b))
	}
	if b, _ := bootOf(t, group, header("Accept-Language", "zh"),
		func(r *http.Request) { r.URL.RawQuery = "lang=en" }); b.Lang != "en" {
		t.Errorf("lang=en: %s", b.Lang)
	}
}

// Whatever others choose is data, never markup.
func TestPageEscapes(t *testing.T) {
	for _, text := range []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`,
		`</title></script><script>`, `' onmouseover='x`, `<!--<script>`, `\u003cscript>`,
		"]]>", "{{.}}", "a\u2028b"} {
		o := options(&fake{})
		o.Group, o.Version, o.Token = text, text, "abc"
		b, body := bootOf(t, o, header("Authorization", "Bearer abc"),
			header("X-Forwarded-User", text))
		if strings.Contains(body, "<script>") || strings.Contains(body, "<img src=x") ||
			strings.Contains(body, "<!--") || strings.Count(body, "</title>") != 1 {
			t.Errorf("%s is markup: %.300s", text, body)
		}
		if b.Group != text || b.Version != text || b.User != text && text != "a\u2028b" {
			t.Errorf("%q became %q, %q, %q", text, b.Group, b.Version, b.User)
		}
	}
}

// The policy forbids inline scripts and styles and all other hosts: whatever violates it silently
// does not work. URLs are relative, so that the page works below any path.
func TestPagesObeyTheirPolicy(t *testing.T) {
	o, _ := secured("abc")
	for _, edit := range []func(*http.Request){loggedIn("abc"), header("DNT", "1")} {
		w := get(t, o, "/", edit)
		policy := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'",
			"style-src 'self'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("the policy lacks %s", want)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Error("the policy allows something unsafe")
		}
		body := regexp.MustCompile(`(?s)<script type="application/json".*?</script>`).
			ReplaceAllString(w.Body.String(), "")
		for _, bad := range []string{`<script>`, `<style`, ` style=`, ` onclick=`, ` onload=`,
			`javascript:`, `="//`, `="/`, `="http`} {
			if strings.Contains(body, bad) {
				t.Errorf("the page contains %q", bad)
			}
		}
		assets := regexp.MustCompile(`(?:src|href)="(assets/[^"]+)"`).
			FindAllStringSubmatch(body, -1)
		if len(assets) == 0 {
			t.Errorf("no assets: %s", body)
		}
		for _, asset := range assets {
			if got := get(t, o, "/"+asset[1]); got.Code != 200 || got.Body.Len() == 0 {
				t.Errorf("%s: %d", asset[1], got.Code)
			}
		}
		if strings.Contains(body, "%!") || strings.Contains(body, "&lt;no value") {
			t.Errorf("%s", body)
		}
	}
}
