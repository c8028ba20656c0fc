package browser_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
	"markread/worker/console/group"
)

// A conversation waits, is in flight, is applied, has dead letters: on the pages of the worker and
// of the group. No URL has its accounts.
func TestConversation(t *testing.T) {
	t.Parallel()
	s := startStack(t, func(o *app.DevOptions) { o.Worker.Attempts = 100 })
	const report, peer = "reader-of-it", "sender-of-it"
	s.faults(`{"rules":[{"kind":"hang","report":"` + report + `"}]}`)
	s.writeLetters(letter{report: report, peer: peer, class: "exhausted", code: "timeout"},
		letter{report: report, peer: "another", class: "exhausted", code: "timeout"})
	s.emit(1, report, peer)
	own, group := newTab(t), newTab(t)
	for i, b := range []*tab{own, group} {
		b.view([]string{s.page(), s.console()}[i], "en", "conversation")
		b.write("input[name=report]", report)
		b.write("input[name=peer]", peer)
		b.press("\r")
		// the group's page finds the worker within some seconds
		found := func(expression string) {
			t.Helper()
			want := regexp.MustCompile(expression)
			b.wait("facts with "+expression, func(ctx context.Context) (string, error) {
				text, err := evaluate[string](ctx, `async () => {
					const form = find("form.filter");
					form.requestSubmit();
					while (/Loading/.test(form.parentElement.querySelector("[role=status]").textContent))
						await new Promise((r) => setTimeout(r, 20));
					return find("main").innerText;
				}`)
				if err != nil || want.MatchString(text) {
					return "", err
				}
				return text, nil
			})
		}
		if i == 0 {
			found(`(?s)mark-read · \d+.*this worker.*lane live, events: 1.*In flight\s+yes`)
			s.faults(`{"rules":[{"kind":"code","code":91000,"report":"` + report + `"}]}`)
			found(`(?s)lane live, events: 1.*In flight\s+no\s+Attempts\s+[1-9]\d?` +
				`\s+Last failure\s+91000: .*Next attempt\s+\d`)
			s.faults(`{}`)
		}
		found(`(?s)Waiting\s+nothing.*T applied last\s+\d{10} · \d.*Applied at\s+\d`)
		b.screenshot("applied")
		b.waitText("code", `^markread dead-letters ls .*`+report)
		if i == 1 {
			found(`(?s)Dead letters.*exhausted\s+timeout`)
			if got := b.rows("Dead letters", 4); !slices.Equal(got, []string{"re…"}) {
				t.Errorf("dead letters of %q", got)
			}
			b.click("button >> Reveal accounts")
			if got := b.rows("Dead letters", 5); !slices.Equal(got, []string{peer}) {
				t.Errorf("dead letters with %q", got)
			}
			b.click("tbody th a")
			b.waitText("main h1", `^Dead letter \d+:\d+$`)
		}
		urls := eval[string](b, `() => [location.href, document.title, ...performance.
			getEntriesByType("resource").map((e) => e.name)].join("\n")`)
		if !strings.Contains(urls, "api/conversation") || strings.Contains(urls, "-of-it") {
			t.Errorf("URLs: %s", urls)
		}
	}
}

// The settings of a real command: their sources, and of a secret only that it is set.
func TestSettings(t *testing.T) {
	t.Parallel()
	useChromium(t)
	const token = "kept in a file, 7f3a"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := time.Now().Add(-3 * 24 * time.Hour)
	if err := os.Chtimes(file, changed, changed); err != nil {
		t.Fatal(err)
	}
	r := clitest.Commands(cli.Run).Begin(t, []string{"MARKREAD_ADMIN_TOKEN_FILE=" + file,
		"MARKREAD_ATTEMPTS=5"}, "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0",
		"--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0", "--traffic", "0", "--rate", "150")
	addresses := regexp.MustCompile(`(?s)console +(http://\S+).*worker +(http://\S+)`)
	b := newTab(t)
	b.wait("the addresses", func(context.Context) (string, error) {
		if addresses.MatchString(r.Stdout.String()) {
			return "", nil
		}
		return r.Stdout.String(), nil
	})
	for _, page := range addresses.FindStringSubmatch(r.Stdout.String())[1:] {
		b.allow("status of 401")
		b.open(page + "#settings")
		if b.count("#token") > 0 { // a cookie is for all ports of a host
			b.write("#token", token)
			b.press("\r")
			b.waitGone("#token")
			b.open(page + "#settings")
		}
		b.waitText("main h1", "Settings")
		row := func(name, expression string) {
			t.Helper()
			b.waitText("main tr >> "+name, expression)
		}
		row("--rate\t", `^--rate\s+150\s+flag$`)
		row("--attempts", `^--attempts\s+5\s+MARKREAD_ATTEMPTS$`)
		row("--max-replays", `^--max-replays\s+3\s+default$`)
		row("MARKREAD_ADMIN_TOKEN", `set · from a file · changed 3 d ago`)
		b.screenshot("settings")
		if text := eval[string](b, `() => document.documentElement.outerHTML`); strings.Contains(text,
			token) || strings.Contains(text, "7f3a") {
			t.Error("the page has the token")
		}
		body := eval[string](b, `() => fetch("api/settings").then((r) => r.text())`)
		if !strings.Contains(body, "--rate") || strings.Contains(body, "7f3a") {
			t.Errorf("the token is in %s", body)
		}
	}
}

// Workers with different values are highlighted, and come first.
func TestSettingsThatDiffer(t *testing.T) {
	t.Parallel()
	with := func(attempts string) func(*app.DevOptions) {
		return func(o *app.DevOptions) {
			o.Worker.Settings = map[string]string{"attempts": attempts, "rate": "200"}
		}
	}
	s := startStack(t, with("8"))
	second := s.beginWorker("http://"+s.addr.IM, "", func(o *app.Options) {
		o.Worker.Attempts = 5
		o.Worker.Settings = map[string]string{"attempts": "5", "rate": "200"}
	})
	console := s.beginConsole(s.kafka(""), func(o *app.ConsoleOptions) {
		o.Group = group.Options{Kafka: o.Group.Kafka, Name: o.Group.Name, Topics: o.Group.Topics,
			Peers: []string{s.addr.Admin, second}}
	})
	b := newTab(t)
	b.view(console, "en", "overview")
	b.waitText("main table >> "+second, `(?s)`+s.addr.Admin+`.*ready.*`+second+`.*ready`)
	b.click("nav a >> Settings")
	b.waitText("main tbody tr", `(?s)^--attempts\s+workers differ\s+(`+s.addr.Admin+`: 8\s+`+second+
		`: 5|`+second+`: 5\s+`+s.addr.Admin+`: 8)`)
	if got := b.texts("main tbody .badge.warn"); !slices.Equal(got, []string{"workers differ"}) {
		t.Errorf("highlighted: %q", got)
	}
	b.waitText("main tr >> --rate", `^--rate\s+200\s`)
}

// A blocked event's failure is in the banner, from which its conversation is one click away.
func TestBlockedEvent(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	b := newTab(t)
	altered(b, `
		const oldest = { offset: 12345, attempts: 15, attempts_of: 1000, waits_for: "retry", code: "60008",
			message: "no <b>time</b>", retry_at: new Date(Date.now() + 95000), report: "alice", peer: "bob" };
		o.sentence = { key: "blocked", severity: "warn", params: { ...oldest, topic: "mark-read",
			partition: 3, age: 95, waits_key: "waits.retry", worker: "" } };
		Object.assign(o.partitions[0], { oldest, oldest_seconds: 95 });`)
	b.open(s.page())
	b.waitText(".banner .facts", `60008: the request timed out.*\s+Last failure\s+no <b>time</b>`)
	b.waitText(".banner .facts", `(?s)Report account\s+al…\s+Peer account\s+bo….*`+
		`Attempts\s+15 of 1,000\s+Next attempt\s+\d\d:\d\d:\d\d`)
	b.waitText("td >> oldest:", `(?s)attempts: 15,.*60008`)
	if got := b.texts(".todo .line"); len(got) != 2 {
		t.Errorf("what to do: %q", got)
	}
	b.waitTrue(`() => document.title.startsWith("! One event blocks mark-read")`)
	b.click("button >> Reveal accounts")
	b.waitText(".banner .facts", `alice\s+Peer account\s+bob`)
	b.click("button >> Open the conversation")
	b.waitText("main .facts", `Report account\s+alice\s+Peer account\s+bob`)
	b.waitText("main", `Nothing is known about these two accounts`)
	if got := eval[string](b, `() => location.href + document.title`); strings.Contains(got, "alice") {
		t.Errorf("the account is in %q", got)
	}
}
