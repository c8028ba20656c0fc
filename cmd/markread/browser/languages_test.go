package browser_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/imclient"
	"markread/worker/console"
	"markread/worker/console/texts"
)

// english returns the English texts that are not Chinese ones, too, as names of the contract are,
// and an expression for those with placeholders.
func english() (found map[string]bool, filled *regexp.Regexp) {
	found = map[string]bool{}
	var patterns []string
	placeholder, catalogue := regexp.MustCompile(`\\\{.*?\\\}`), texts.New()
	for _, text := range catalogue.Texts("en") {
		if !strings.Contains(text, "{") {
			found[text] = true
		} else if len(placeholder.ReplaceAllString(regexp.QuoteMeta(text), "")) > 12 {
			patterns = append(patterns, placeholder.ReplaceAllString(regexp.QuoteMeta(text), ".*"))
		}
	}
	for _, text := range catalogue.Texts("zh") {
		delete(found, text)
	}
	return found, regexp.MustCompile(`^(` + strings.Join(patterns, "|") + `)$`)
}

// translated fails the test if the page shows an English text of the catalogue, in its text or in
// an attribute that people see or hear. data selects elements whose text comes from elsewhere.
func (b *tab) translated(where, data string) {
	b.Helper()
	if lang := eval[string](b, `() => document.documentElement.lang`); lang != "zh-Hans" {
		b.Errorf("%s: the language is %q", where, lang)
	}
	catalogue, filled := english()
	shown := eval[[]string](b, `(data) => {
		const all = [document.title.split(" · ")[0]];
		const walk = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
		while (walk.nextNode())
			if (!walk.currentNode.parentElement.closest(data + "script, noscript, [lang=en], code, pre"))
				all.push(walk.currentNode.data);
		for (const e of document.querySelectorAll("[aria-label], [title], [placeholder]"))
			for (const name of ["aria-label", "title", "placeholder"])
				if (e.hasAttribute(name)) all.push(e.getAttribute(name));
		return all;
	}`, data)
	for _, text := range shown {
		if text = strings.TrimSpace(text); catalogue[text] || filled.MatchString(text) {
			b.Errorf("%s shows %q in English", where, text)
		}
	}
	for _, text := range shown {
		if strings.ContainsAny(text, "{}") {
			b.Errorf("%s shows a placeholder: %q", where, text)
		}
	}
}

// The pages in Chinese have no English text, and dates as Chinese readers write them.
func TestChinese(t *testing.T) {
	t.Parallel()
	s := startStack(t, func(o *app.DevOptions) {
		o.Settings = func() []console.Setting {
			return []console.Setting{{Name: "--rate", Value: "200", Source: "default"},
				{Name: "--attempts", Value: "8", Source: "flag"},
				{Name: "TOKEN", Secret: &console.Secret{Set: true, Source: "file",
					ChangedAt: new(time.Now().Add(-time.Hour))}},
				{Name: "KEY", Source: "default", Secret: &console.Secret{}}}
		}
	})
	s.writeLetters(letter{report: "甲", peer: "乙", class: "rejected", code: "90048",
		age: 40 * 24 * time.Hour}, letter{report: "丙", peer: "乙", class: "invalid", message: "nein"})
	s.faults(`{"rules":[{"kind":"status","status":502}]}`)
	s.emit(30, "reader", "peer")
	for scope, address := range map[string]string{"worker": s.page(), "group": s.console()} {
		b := newTab(t)
		b.language("zh-CN,zh", "zh-CN") // without ?lang=
		b.open(address)
		b.waitText(".banner", `调用已暂停`)
		b.waitText(".happened", `\d`)
		b.screenshot(scope)
		b.translated(scope+" overview", "")
		b.click("button[data-action=pause]")
		b.waitText("dialog", `取消`)
		b.translated(scope+" pause", "")
		b.click("dialog button >> 取消")
		b.click("nav a >> 会话")
		b.write("input[name=report]", "reader")
		b.write("input[name=peer]", "peer3")
		b.press("\r")
		b.waitText("main dl.facts", `mark-read`)
		b.translated(scope+" conversation", "")
		b.click("nav a >> 设置")
		b.waitText("main h1", `设置`)
		b.waitText("main tbody", `--`)
		b.translated(scope+" settings", "")
		if scope == "worker" {
			continue
		}
		b.click("nav a >> 死信")
		b.waitLetters("2")
		b.translated("dead letters", "")
		if at := b.rows("死信", 0); !regexp.MustCompile(`^\d+/\d+ \d\d:\d\d:\d\d$`).MatchString(at[1]) {
			t.Errorf("dates: %q", at)
		}
		b.click("button >> 计算重放计划")
		b.waitText("form >> 没有可重放的", `没有`)
		b.translated("a replay's plan", "")
		b.click("tbody th a")
		b.waitText("main h1", `死信 0:`)
		b.waitText("main dl.facts", `格式无效`)
		b.translated("a dead letter", "dl.rows, ") // headers
		// the other language, on the same view
		b.click("#language")
		b.waitText("main h1", `^Dead letter 0:`)
		if got := eval[string](b, `() => document.documentElement.lang`); got != "en" {
			t.Errorf("the language is %q", got)
		}
	}
	login := startStack(t, func(o *app.DevOptions) { o.AdminToken = imclient.NewSecret("x") })
	b := newTab(t)
	b.allow("status of 401")
	b.open(login.page() + "?lang=zh")
	b.waitText("main", `登录`)
	b.translated("login", "")
	b.write("#token", "wrong")
	b.press("\r")
	b.waitText("#error", `.`)
	b.translated("login, wrong", "")
}

// Times are in the browser's zone, with its offset; UTC is a click away, and stays.
func TestTimeZone(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	s.writeLetters(letter{report: "a", peer: "b", class: "rejected", code: "90048"})
	for zone, offset := range map[string]string{"Asia/Shanghai": "UTC+08:00",
		"America/St_Johns": "UTC−03:30"} {
		b := newTab(t)
		b.timeZone(zone)
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		b.view(s.console(), "en", "overview")
		b.waitText(".readout", `^Times are `+regexp.QuoteMeta(offset)+`\.`)
		near := func(clock string, in *time.Location) {
			t.Helper()
			now := time.Now().In(in)
			at, err := time.ParseInLocation("15:04:05", clock, in)
			if err != nil {
				t.Fatalf("clock %q: %v", clock, err)
			}
			day := 24 * time.Hour
			seconds := func(t time.Time) time.Duration {
				return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute +
					time.Duration(t.Second())*time.Second
			}
			if late := (seconds(now) - seconds(at) + day) % day; late > time.Minute &&
				late < day-time.Minute {
				t.Errorf("%s: the clock shows %s at %s", in, clock, now)
			}
		}
		near(b.waitText("#now", `:`), location)
		if got := b.text("#zone"); got != offset {
			t.Errorf("%s: zone %q", zone, got)
		}
		b.click("#zone")
		b.waitText("#zone", `^UTC$`)
		b.waitText(".readout", `^Times are UTC\.`)
		near(b.text("#now"), time.UTC)
		b.reload()
		b.waitText("#now", `:`)
		b.waitText("#zone", `^UTC$`)
		near(b.text("#now"), time.UTC)
		b.click("nav a >> Dead letters")
		b.click("tbody th a")
		b.waitText("main dl.facts", `Failed at\s+\d\d:\d\d:\d\d UTC\n`)
		b.click("#zone")
		b.waitText("main dl.facts", `Failed at\s+\S+( \S+)* `+regexp.QuoteMeta(offset)+`\n`)
		b.click("nav a >> Overview")
		b.waitText(".readout", `^Times are `+regexp.QuoteMeta(offset)+`\.`)
		near(b.waitText("#now", `:`), location)
	}
}
