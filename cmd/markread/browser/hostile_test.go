package browser_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/consumer/event"
	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/console"
)

func phone(t *testing.T) *tab {
	b := newTab(t)
	b.viewport(390, 844)
	return b
}

// Accounts, keys, headers, codes, classes, messages and topics of dead letters are text.
func TestHostileDeadLetters(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	all := payloads(t)
	var letters []letter
	const together = 5 // payloads in one dead letter's headers and message
	for i, p := range all {
		code, class := "90048", "rejected"
		switch i % 3 {
		case 0:
			code = p
		case 1:
			class = p
		}
		l := letter{report: p, peer: all[(i+1)%len(all)], class: class, code: code, key: []byte(p),
			topic: p, headers: []event.Header{{Key: "raw\xff", Value: []byte(p + "\xff\xfe")}}}
		for _, p := range all[i:min(len(all), i+together)] {
			l.message += p
			l.headers = append(l.headers, event.Header{Key: p, Value: []byte(p)})
		}
		letters = append(letters, l)
	}
	s.writeLetters(letters...)
	b := phone(t)
	b.view(s.console(), "en", "dead-letters")
	b.waitLetters(fmt.Sprint(len(all)))
	b.click("button >> Reveal accounts")
	var accounts []string
	for page := 0; ; page++ {
		accounts = append(accounts, b.cells("main section:last-child tbody td:nth-child(5)")...)
		b.inert(fmt.Sprint("page ", page))
		if len(accounts) >= len(all) || page == 5 {
			break
		}
		b.click("button >> Older")
		b.waitText("footer >> of "+fmt.Sprint(len(all)), fmt.Sprintf(`%d to`, 100*(page+1)+1))
	}
	want := []string{}
	for _, p := range slices.Backward(all) {
		want = append(want, shown(printable.Truncate(p, 256)))
	}
	if !slices.Equal(accounts, want) {
		for i := range min(len(want), len(accounts)) {
			if accounts[i] != want[i] {
				t.Fatalf("account %d is shown as %q, want %q", i, accounts[i], want[i])
			}
		}
		t.Errorf("%d accounts, want %d", len(accounts), len(want))
	}
	for i := 0; i < len(all); i += together {
		id := fmt.Sprint("0:", i)
		type view struct{ Facts, Event, Headers string }
		got := eval[view](b, `async (id) => {
			location.hash = "#dead-letters/" + encodeURIComponent(id);
			const done = () => document.querySelector("main h1").textContent.endsWith(" " + id) &&
				document.querySelector("main [role=status]").textContent === "";
			while (!done()) await new Promise((r) => setTimeout(r, 5));
			const text = (s) => document.querySelector(s).textContent;
			return { Facts: text("main dl.facts"), Event: text("main pre"),
				Headers: text("main dl.rows") };
		}`, id)
		b.inert(id)
		if message := shown(printable.Truncate(letters[i].message, 1000)); !strings.Contains(got.Facts,
			message) || !strings.Contains(got.Event, shown(all[i])) {
			t.Errorf("%s does not show %q and %q: %q", id, message, all[i], got)
		}
		for _, h := range letters[i].headers[1:] {
			if text := shown(h.Key); !strings.Contains(got.Headers, text+text) {
				t.Errorf("%s has no header %q: %q", id, text, got.Headers)
			}
		}
	}
	b.inertWith(all, `async (id) => {
		await go("#dead-letters/" + encodeURIComponent("x" + id));
		const text = (s) => document.querySelector(s).textContent;
		if (!text("main h1").startsWith("Dead letter x")) return text("main h1");
		while (/Loading/.test(text("main [role=status]"))) await pause(2);
	}`)
	b.allow("status of 400")
}

// What other processes name is text: members, groups, versions, settings, holds, responses of the
// IM server, users and the reasons they type.
func TestHostileWorkers(t *testing.T) {
	t.Parallel()
	all := payloads(t)
	s := startStack(t, nil)
	const name, token = `"><img src=x onerror=window.hacked=1>{{7*7}}`, "a token"
	var calls atomic.Int64
	im := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"ActionStatus": "FAIL", "ErrorCode": 90048,
			"ErrorInfo": all[int(calls.Add(1))%len(all)]})
	}))
	t.Cleanup(im.Close)
	topics := event.Topics{Live: strings.Repeat("WW.", 80) + "live",
		Backfill: strings.Repeat("i-", 100), DeadLetter: "constructor"}
	worker := s.beginWorker(im.URL, name, func(o *app.Options) {
		o.Worker.Group, o.Worker.Topics, o.CreateTopics = name, topics, true
		o.Worker.Version, o.AdminToken = name, imclient.NewSecret(token)
		o.Worker.MaxRejected = 50
		o.Settings = func() (some []console.Setting) {
			for _, p := range all {
				some = append(some, console.Setting{Name: "--" + p, Value: p, Source: p, From: p})
			}
			return some
		}
	})

	// A worker that exports the payloads, some of them at a time.
	var round atomic.Int64
	const atATime = 85
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		label := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
		r := int(round.Load())
		fmt.Fprintf(w, "markread_build_info{version=\"%s\",commit=\"x\"} 1\n"+
			"process_start_time_seconds 1\n", label.Replace(all[r]))
		for i := range atATime {
			p := label.Replace(all[(r*atATime+i)%len(all)])
			fmt.Fprintf(w, "markread_setting_info{name=\"%d %s\",value=\"%s\"} 1\n", i, p, p)
			fmt.Fprintf(w, "markread_events_lost_total{topic=\"%s\"} %d\n", p, r+1)
			if i%5 == 0 {
				fmt.Fprintf(w, "markread_held{reason=\"%s\"} 1\n", p)
			}
		}
	}))
	t.Cleanup(peer.Close)
	serve := func(peers ...string) string {
		return s.beginConsole(s.kafka(""), func(o *app.ConsoleOptions) {
			o.Group.Name, o.Group.Topics, o.Group.Peers = name, topics, peers
			o.Token, o.Version = imclient.NewSecret(token), name
		})
	}
	board := serve(worker, peer.Listener.Addr().String())
	header := http.Header{"Authorization": {"Bearer " + token}, "X-Forwarded-Proto": {"https"},
		"X-Forwarded-User": {name}}
	behindProxy := func(address string) string {
		return proxied(t, strings.Trim(strings.TrimPrefix(address, "http:"), "/"), "/", header)
	}
	group := behindProxy(board)
	own := proxied(t, worker, "/", header)

	live := s.kafka("").Publisher(topics.Live)
	var events []event.Message
	for i := range 1000 {
		m := app.NewEvent(all[i%len(all)], fmt.Sprint("p", i), nil, time.Now())
		events = append(events, m)
	}
	if err := live.Publish(t.Context(), events...); err != nil {
		t.Fatal(err)
	}

	a, b := phone(t), phone(t)
	a.view(group, "en", "overview")
	a.waitText("main table >> "+worker, `\S`)
	for r := range 3 {
		round.Store(int64(r))
		// it appears within two scrapes
		first := all[r*atATime]
		a.waitTrue(`async (text) => {
			location.hash = "#overview";
			await new Promise((r) => setTimeout(r));
			location.hash = "#settings";
			for (let i = 0; i < 20; i++) {
				await new Promise((r) => setTimeout(r, 20));
				if (document.querySelector("main").textContent.includes(text)) return true;
			}
			return false;
		}`, "--0 "+printable.Line(first))
		text := eval[string](a, `() => document.querySelector("main").textContent`)
		for _, p := range all[r*atATime : min(len(all), (r+1)*atATime)] {
			if len(p) < 80 && strings.ContainsFunc(p, func(r rune) bool { return r > ' ' && r < 0x7f }) &&
				printable.Line(p) == p && !strings.Contains(text, p) {
				t.Errorf("the settings don't show %q", p)
			}
		}
		a.inert("settings")
		a.click("nav a >> Overview")
		a.waitText("main h1", `.`)
		a.inert("overview")
	}

	// Commands with reasons, by users.
	var sent []string
	for _, p := range all {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, board+
			"api/pause?"+url.Values{"reason": {p}, "worker": {worker}}.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		if !strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			request.Header.Set("X-Forwarded-User", p)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		switch printableReason := len(p) <= 200 && printable.Line(p) == p; {
		case response.StatusCode == http.StatusOK && printableReason:
			sent = append(sent, p)
		case response.StatusCode != http.StatusBadRequest || printableReason:
			t.Errorf("the reason %q: %s", p, response.Status)
		}
	}
	a.click("nav a >> Overview")
	b.view(own, "en", "overview")
	for _, b := range []*tab{a, b} {
		b.waitText(".happened", `paused the worker`)
		want := sent[len(sent)-1]
		b.waitTrue(`(text) => document.querySelector(".happened").textContent.includes(text)`,
			"paused the worker: "+want)
		happened := strings.Join(b.cells(".happened li"), "\n")
		for _, p := range sent[max(0, len(sent)-150):] {
			if p = strings.TrimSpace(p); !strings.Contains(happened, p) {
				t.Errorf("what happened does not have %q", p)
			}
		}
		b.inert("overview with commands")
		b.click("nav a >> Settings")
		b.waitText("main h1", `Settings`)
		b.inert("settings")
	}

	// The events that the server rejects.
	b.click("nav a >> Overview")
	b.click("button[data-action=resume]")
	b.click("dialog button >> Resume")
	b.waitText(".banner", `too many rejections(.|\n)*the server says`)
	b.click("button[data-action=accept]")
	b.waitText("dialog table", `90048`)
	if rows := b.count("dialog tbody tr"); rows != 10 {
		t.Errorf("%d rejected events", rows)
	}
	b.inert("rejected events")
	b.screenshot("rejected")
	b.click("dialog button >> Cancel")
	// A member without a known address has the name that it chose itself.
	a.view(behindProxy(serve("127.0.0.2:9")), "en", "overview")
	a.waitText("main table >> "+name+"-", `no admin server is known of its host`)
	a.inert("overview with a member's ID")
	if got := b.text("#user"); got != name {
		t.Errorf("the user is %q", got)
	}
}

// Options, fragments and inputs of the page itself are text, too.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	all := payloads(t)
	s := startStack(t, nil)
	b := phone(t)
	b.view(s.page(), "en", "conversation")
	b.inertWith(all, `async (p) => {
		const form = document.querySelector("main form");
		for (const input of [form.elements.report, form.elements.peer]) input.value = p;
		const typed = form.elements.peer.value;
		if (!form.reportValidity()) return;
		form.requestSubmit();
		const status = form.parentElement.querySelector("[role=status]");
		while (/Loading/.test(status.textContent)) await pause(2);
		const line = document.querySelector("main code").textContent;
		const escaped = /[^\u0020-\u007e]/.test(typed); // as JSON escapes, or without a command
		if (!escaped && !line.includes(typed.replaceAll("'", "'\\''")) && !status.textContent)
			return "the command is " + line;
	}`)
	b.view(s.console(), "en", "conversation")
	b.inertWith(all, `async (p) => {
		await go("#" + p);
		if (!document.querySelector("main h1")?.textContent) return "no heading";
	}`)
	languages := eval[[]string](b, `async (all) => {
		const found = new Set();
		for (const p of all) {
			const html = await fetch("./?lang=" + encodeURIComponent(p)).then((r) => r.text());
			found.add(html.replace(/<time.*/s, ""));
		}
		return [...found].map((html) => html.slice(0, 60));
	}`, all)
	if len(languages) != 1 || !strings.Contains(languages[0], `<html lang="en">`) {
		t.Errorf("pages by ?lang=: %q", languages)
	}
	for _, p := range all[:5] {
		b.open(s.console() + "?lang=" + url.QueryEscape(p) + "#" + url.PathEscape(p))
		b.waitText("main h1", `.`)
		b.inert("?lang=" + p)
	}
}
