package browser_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"markread/cmd/markread/app"
	"markread/worker/console/texts"
)

// filtered fills in the filter's fields, by name, and waits until the page shows that many dead
// letters. It applies the filter until then: the server reads the topic at most every two seconds.
func (b *tab) filtered(want int, fields ...string) {
	b.Helper()
	for i := 0; i < len(fields); i += 2 {
		if name, value := fields[i], fields[i+1]; name == "state" || name == "class" {
			b.choose("select[name="+name+"]", value)
		} else {
			b.write("input[name="+name+"]", value)
		}
	}
	b.waitLetters(fmt.Sprint(want))
}

func (b *tab) waitLetters(want string) {
	b.Helper()
	b.waitTrue(`async (want) => {
		const form = find("form.filter"), status = form.parentElement.querySelector("[role=status]");
		form.requestSubmit();
		while (/Loading|正在加载/.test(status.textContent))
			await new Promise((r) => setTimeout(r, 20));
		return status.textContent.match(/\d[\d,]*\b/)?.[0] === want;
	}`, want)
}

// rows returns the texts of the cells of a column, 0 to n, in the card with a title.
func (b *tab) rows(title string, column int) []string {
	b.Helper()
	return eval[[]string](b, `(title, column) => findAll("section.card").filter((c) =>
		c.querySelector("h2").textContent === title).flatMap((c) =>
		[...c.querySelectorAll("tbody tr")].map((r) => r.cells[column].innerText.trim()))`,
		title, column)
}

// Dead letters of all classes, as a worker writes them: groups that say what to do, the filter, one
// in full, and its history after a replay.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := startStack(t, func(o *app.DevOptions) {
		o.Worker.MaxRejected, o.Worker.Attempts = 100, 1
	})
	s.faults(`{"rules":[{"kind":"code","code":90048,"report":"ghost"},
		{"kind":"code","code":91000,"report":"tired"}]}`)
	s.emit(12, "calm", "peer") // else all calls fail, which holds them
	s.emit(5, "ghost", "peer")
	s.emit(3, "alice", "nobody")
	s.emit(1, "tired", "bob")
	s.emitInvalid("alice", "bob")
	s.emitInvalid("carol", "bob")

	b := newTab(t)
	b.view(s.console(), "en", "dead-letters")
	b.waitLetters("11")
	group := func(class string, code ...string) string {
		return strings.TrimSpace(class + " " + strings.Join(code, ""))
	}
	kinds := []string{group("rejected", "90048"), group("rejected", "90003"), group("invalid"),
		group("exhausted", "91000")}
	if got := b.rows("Groups", 0); !slices.Equal(got, kinds) {
		t.Errorf("groups %q, want %q", got, kinds)
	}
	if got := b.rows("Groups", 1); !slices.Equal(got, []string{"5", "3", "2", "1"}) {
		t.Errorf("open, by group: %q", got)
	}
	en, zh := texts.New().Texts("en"), texts.New().Texts("zh")
	explained := func(catalogue map[string]string, title string) {
		t.Helper()
		for i, key := range []string{"code.90048", "code.90003", "class.invalid", "code.91000"} {
			meaning := b.rows(title, 6)[i]
			want := catalogue[key+".meaning"]
			if len(meaning) <= len(want)+10 || !strings.EqualFold(meaning[:len(want)], want) {
				t.Errorf("%s: %q does not begin with %q and go on with a remedy", key, meaning, want)
			}
		}
	}
	explained(en, "Groups")
	b.screenshot("groups")

	for _, c := range []struct {
		want   int
		fields []string
	}{
		{2, []string{"class", "invalid"}},
		{8, []string{"class", "rejected"}},
		{5, []string{"class", "", "code", "90048"}},
		{1, []string{"peer", "peer3"}},
		{0, []string{"report", "alice"}},
		{4, []string{"code", "", "peer", "", "report", "alice"}},
		{0, []string{"report", "", "state", "replayed"}},
		{11, []string{"state", "all"}},
		{0, []string{"until", "2020-01-01T00:00:00Z"}},
		{11, []string{"until", "", "since", "1h"}},
		{0, []string{"since", "2100-01-01T00:00:00Z"}},
	} {
		b.filtered(c.want, c.fields...)
	}
	b.write("input[name=since]", "yesterday")
	b.click("button >> Apply")
	b.allow("status of 400")
	b.waitText("form.filter + [role=status]", "since")
	b.click("button >> Clear")
	b.waitText("form.filter + [role=status]", `^Dead letters: 11\b`)

	// A group's button is a filter, and one dead letter leads back to it.
	b.click("td button, th button >> rejected 90048")
	b.waitText("form.filter + [role=status]", `^Dead letters: 5\b`)
	if got := b.value("input[name=code]"); got != "90048" {
		t.Errorf("code %q", got)
	}
	if text := b.text("main"); strings.Contains(text, "ghost") || !strings.Contains(text, "gh…") {
		t.Errorf("accounts are not masked: %s", text)
	}

	// The filter is in the address, but for the accounts: it survives a reload, and the way back.
	address := func() string { return eval[string](b, `() => location.hash`) }
	b.filtered(0, "report", "somebody")
	if got := address(); got != "#dead-letters?class=rejected&code=90048" {
		t.Errorf("the address is %q", got)
	}
	b.reload()
	b.waitText("form.filter + [role=status]", `^Dead letters: 5\b`)
	b.filtered(2, "class", "invalid", "code", "")
	eval[any](b, `() => history.back()`)
	b.waitText("form.filter + [role=status]", `^Dead letters: 5\b`)
	if class, code := b.value("select[name=class]"), b.value("input[name=code]"); class != "rejected" ||
		code != "90048" {
		t.Errorf("after going back: class %q, code %q", class, code)
	}
	b.click("tbody th a")
	b.waitText("main h1", `^Dead letter \d+:\d+$`)
	b.waitText("dl.facts", `(?s)rejected.*90048.*gh…`)
	if text := b.text("main"); strings.Contains(text, "ghost") {
		t.Errorf("accounts are not masked: %s", text)
	}
	b.click("button >> Reveal accounts")
	b.waitText("main pre", `"Report_Account":"ghost"`)
	b.waitText("dl.facts", "ghost")
	id := strings.TrimPrefix(b.text("main h1"), "Dead letter ")
	for _, header := range []string{"markread.class\nrejected", "markread.code\n90048",
		"__dlq.errors.topic\nmark-read"} {
		b.waitText("dl.rows", strings.ReplaceAll(header, ".", `\.`))
	}
	b.screenshot("one")
	b.click("a >> ← Dead letters")
	b.waitText("form.filter + [role=status]", `^Dead letters: 5\b`)
	if got := b.rows("Dead letters", 4); !slices.Contains(got, "ghost") {
		t.Errorf("revealed accounts are masked again: %q", got)
	}

	// It comes back: the history has the other one, which resolved it.
	s.cli("dead-letters", "replay", "--brokers", s.addr.Kafka, "--yes", id)
	b.filtered(1, "state", "replayed")
	if got := b.rows("Dead letters", 1); !slices.Equal(got, []string{"replayed"}) {
		t.Errorf("states %q", got)
	}
	b.filtered(5, "state", "open")
	b.filtered(6, "state", "all")
	b.click("tbody th a") // the newest
	b.waitText("main h1", `^Dead letter \d+:\d+$`)
	b.waitText("dl.facts >> Replays", `Replays\s+1`)
	if got := b.rows("Others of this conversation", 1); !slices.Equal(got, []string{"replayed"}) {
		t.Errorf("history: %q", got)
	}
	b.click("section.card tbody th a") // of the history
	b.waitText("main h1", `^Dead letter `+id+`$`)
	b.waitText("dl.facts >> Replays", `Resolution\s+\d+:\d+ · `)

	// A replay that ends between two refreshes changes the list, too.
	s.faults(`{}`)
	b.view(s.console(), "en", "dead-letters?code=91000&state=open")
	b.waitLetters("1")
	b.click("button >> Plan a replay")
	b.waitText("form >> Type", `Type 1 to replay`)
	b.write("#retype", "1")
	b.press(kb.Enter)
	b.waitText("form.filter + [role=status]", `^Dead letters: 0\b`)

	b.view(s.console(), "zh", "dead-letters?state=all")
	b.waitLetters("12")
	explained(zh, "分组")
}

// shellWords returns the words of a command line as a POSIX shell separates them, without the
// program's name.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c",
		"set -- "+line+`; shift; printf '%s\0' "$@"`).Output()
	if err != nil || !strings.HasPrefix(line, "markread ") {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// ids returns the IDs of dead letters, one JSON object in each line.
func ids(t *testing.T, lines string) (ids []string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var l struct{ ID string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ids = append(ids, l.ID)
	}
	return ids
}

// The list has pages, newest first. What is exported, and what the command lists, is what the page
// shows, even if more have failed meanwhile.
func TestExportAndCommand(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	const n = 130
	var all []letter
	for i := range n {
		all = append(all, letter{report: fmt.Sprintf("%03d it's =1", i), peer: "bob", class: "rejected",
			code: "90048", message: "say \"no\",\nor more", age: time.Duration(n-i) * time.Minute})
	}
	other := letter{report: "x", peer: "y", class: "exhausted", code: "timeout", age: time.Minute}
	s.writeLetters(append(all, other)...)
	b := newTab(t)
	b.view(s.console(), "en", "dead-letters")
	b.filtered(n, "class", "rejected", "code", "90048", "peer", "bob")
	b.click("button >> Reveal accounts")
	accounts := func(newest, oldest int) {
		t.Helper()
		var want []string
		for i := newest; i >= oldest; i-- {
			want = append(want, all[i].report)
		}
		if got := b.rows("Dead letters", 4); !slices.Equal(got, want) {
			t.Errorf("the list is %q, want %q", got, want)
		}
	}
	accounts(n-1, n-100)

	more := letter{report: "later", peer: "bob", class: "rejected", code: "90048"}
	s.writeLetters(more)
	other2 := newTab(t)
	other2.view(s.console(), "en", "dead-letters")
	other2.waitLetters(fmt.Sprint(n + 2)) // the server knows the later one
	b.click("button >> Older")
	b.waitText("footer >> of 130", `101 to 130 of 130`)
	accounts(n-101, 0)
	b.click("summary >> Commands")
	command := b.waitText("details code", `^markread dead-letters ls .*--until`)
	listed := s.cli(append(shellWords(t, command), "--json")...)
	if got := ids(t, listed); len(got) != n {
		t.Errorf("%s lists %d dead letters, want %d", command, len(got), n)
	}
	name, lines := b.download(func() { b.click("button >> Export NDJSON") })
	if !strings.HasSuffix(name, ".ndjson") || string(lines) != listed {
		t.Errorf("%s differs from %s --json:\n%.500s\n%.500s", name, command, lines, listed)
	}
	name, table := b.download(func() { b.click("button >> Export CSV") })
	table, marked := bytes.CutPrefix(table, []byte("\uFEFF"))
	rows, err := csv.NewReader(bytes.NewReader(table)).ReadAll()
	if err != nil || !strings.HasSuffix(name, ".csv") || !marked || len(rows) != n+1 {
		t.Fatalf("%s: %d rows, BOM: %t, %v", name, len(rows), marked, err)
	}
	var exported []string
	for i, row := range rows[1:] {
		exported = append(exported, row[slices.Index(rows[0], "id")])
		if got := row[slices.Index(rows[0], "report")]; got != all[i].report {
			t.Errorf("row %d is of %q, want %q", i, got, all[i].report)
		}
		if got := row[slices.Index(rows[0], "message")]; got != all[i].message {
			t.Errorf("row %d has the message %q", i, got)
		}
	}
	if !slices.Equal(exported, ids(t, listed)) {
		t.Errorf("CSV has %q", exported)
	}
	replay := shellWords(t, eval[string](b, `() => findAll("details code")[1].innerText`))
	planned := s.cli(append(replay, "--dry-run", "--json")...)
	if !strings.Contains(planned, fmt.Sprintf(`"letters":%d,`, n)) {
		t.Errorf("%q would replay %s", replay, planned)
	}

	// a shell passes an account unchanged to the command
	b.filtered(1, "report", all[7].report)
	command = b.waitText("details code", `it`)
	if got := ids(t, s.cli(append(shellWords(t, command), "--json")...)); len(got) != 1 {
		t.Errorf("%s lists %q", command, got)
	}
	b.filtered(n+1, "report", "")
	if got := b.rows("Dead letters", 4); got[0] != "later" {
		t.Errorf("the newest is %q", got[0])
	}
	b.click("button >> Older")
	b.waitText("footer >> of 131", `101 to 131 of 131`)
	b.click("button >> Newer")
	b.waitText("footer >> of 131", `1 to 100 of 131`)
}
