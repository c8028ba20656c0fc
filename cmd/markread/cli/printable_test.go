package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/printable"
)

// hostile returns texts that could affect a terminal or mislead a reader: each control character,
// each character that hides text or changes its direction, escape sequences, invalid UTF-8, long
// texts, and combinations of them.
func hostile() []string {
	var all []string
	add := func(texts ...string) { all = append(all, texts...) }
	var runes []rune
	for r := rune(0); r < 0xa0; r++ {
		if r < 0x20 || r >= 0x7f {
			runes = append(runes, r)
		}
	}
	for _, span := range [][2]rune{{0xad, 0xad}, {0x61c, 0x61c}, {0x180e, 0x180e}, {0x200b, 0x200f},
		{0x2028, 0x202e},
		{0x2060, 0x206f},
		{0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0001, 0xe0001}, {0xe0020, 0xe0021},
		{0xe007f, 0xe007f}} {
		for r := span[0]; r <= span[1]; r++ {
			runes = append(runes, r)
		}
	}
	for _, r := range runes {
		add("a" + string(r) + "b")
	}
	add("\x1b[2J\x1b[H", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x1b]52;c;cm0=\x07", "\x1bP$q\x1b\\",
		"\x9b2J", "\u009b2J", "\u009d0;t\u009c", "\x1b[?1049h", "\x1bc", terminal.ClearLine,
		terminal.ClearLine+"markread: all is well", "a\r\nINF forged", "a\nmarkread: forged",
		"\xff\xfe", "\xc0\xaf", "\xed\xa0\x80", "half \xe6\xbc", strings.Repeat("\x1b[1m", 500),
		strings.Repeat("\u202e", 500), strings.Repeat("x", 5000))
	random := rand.New(rand.NewPCG(1, 2))
	for len(all) < 200 {
		var b strings.Builder
		for range 1 + random.IntN(20) {
			b.WriteString(all[random.IntN(len(all))])
		}
		add(b.String()[:min(b.Len(), 2000)])
	}
	return all
}

// coverageStep is the share of pairs of a text and a command that are tested: each command gets
// every fourth text, and each text a fourth of the commands; with -short, a thirty-second of each.
func coverageStep() int {
	if testing.Short() {
		return 32
	}
	return 4
}

// controlsIn returns the first character of a text that must not be shown; "" if there is none.
func controlsIn(text string) string {
	if !utf8.ValidString(text) {
		return "bytes that are not UTF-8"
	}
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t':
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xad, r == 0x61c, r == 0x180e, r >= 0x200b &&
			r <= 0x200f,
			r >= 0x2028 && r <= 0x202e,
			r >= 0x2060 && r <= 0x206f, r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 &&
				r <= 0xe007f:
			return fmt.Sprintf("%U", r)
		}
	}
	return ""
}

// The output of commands is safe whatever their arguments, variables, file names, cells and lines
// contain.
func TestHostileTextInCommands(t *testing.T) {
	folder := t.TempDir()
	key := "MARKREAD_IM_KEY=" + clitest.TestKey
	for i, text := range hostile() {
		quoted, _ := json.Marshal(text) // can't fail for a string
		cell := `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
		name := strings.NewReplacer("\x00", "0", "/", "_").Replace(text)
		name = filepath.Join(folder, name[:min(len(name), 100)]+".csv")
		table := "Report_Account,Peer_Account,MsgReadTime\n" + cell + ",b,7\na," + cell +
			",7\na,b," + cell + "\n"
		if err := os.WriteFile(name, []byte(table), 0o600); err != nil {
			t.Fatal(err)
		}
		wrongHeader := clitest.File(t, cell+",Report_Account,Peer_Accounts\n")
		badTime := clitest.File(t,
			"Report_Account,Peer_Account,read time"+strings.NewReplacer("\n", "", "\r", "", ",",
				"", `"`, "").Replace(text)+"\na,b,7\n")
		rejects := filepath.Join(folder, fmt.Sprint("rejects", i))
		for j, run := range []struct {
			env   []string
			stdin string
			args  []string
		}{
			{nil, "", []string{text}},
			{nil, "", []string{"run", "--" + text}},
			{[]string{key}, "", []string{"run", "--brokers", text, "--im-app-id", "1"}},
			{[]string{key}, "",
				[]string{"run", "--brokers", "a:1", "--im-app-id", "1", "--topic", text}},
			{[]string{key, "MARKREAD_BACKFILL_TOPIC=" + text}, "",
				[]string{"run", "--brokers", "a:1", "--im-app-id", "1"}},
			{[]string{key}, "",
				[]string{"run", "--brokers", "a:1", "--im-app-id", "1", "--im-url", text}},
			{[]string{"MARKREAD_IM_KEY_FILE=" + text}, "",
				[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b"}},
			{[]string{key}, "",
				[]string{"call", "--im-app-id", "1", "--report", text, "--peer", "b"}},
			{nil, "", []string{"emit", "--brokers", "127.0.0.1:1", "--report", text, "--peer",
				"b"}},
			{nil, "", []string{"dead-letters", "show", text, "--brokers", "127.0.0.1:1"}},
			{nil, "", []string{"dead-letters", "ls", "--since", text, "--brokers", "127.0.0.1:1"}},
			{nil, "", []string{"dead-letters", "ls", "--code", text, "--brokers", "127.0.0.1:1"}},
			{nil, "", []string{"pause", "--admin-url", text}},
			{[]string{"MARKREAD_" + text + "=1"}, "",
				[]string{"backfill", "--dry-run", "--log-format", "console", name}},
			{nil, "", []string{"backfill", "--dry-run", "--rejects", rejects, name}},
			{nil, "", []string{"backfill", "--dry-run", "--rejects", filepath.Join(folder, text),
				name}},
			{nil, "", []string{"backfill", "--dry-run", filepath.Join(folder, "none", text)}},
			{nil, "", []string{"backfill", "--dry-run", wrongHeader}},
			{nil, "", []string{"backfill", "--dry-run", badTime}},
			{nil, string(quoted) + "\n{" + string(quoted) + ":7}\n" + text,
				[]string{"backfill", "--dry-run", "-"}},
			{nil, "{\"Report_Account\":" + string(quoted) + "}\n" + text,
				[]string{"emit", "--brokers", "127.0.0.1:1", "--log-format", "console"}},
		} {
			if (i+j)%coverageStep() != 0 {
				continue
			}
			got := try(t, run.env, run.stdin, run.args...)
			if c := controlsIn(got.Stdout + got.Stderr); c != "" {
				t.Fatalf("%q: %q shows %s:\n%q\n%q", text, run.args, c, got.Stdout, got.Stderr)
			}
			if lines := strings.Count(got.Stderr, "\n"); got.Status == ExitUsage && lines != 1 {
				t.Fatalf("%q: %q ends with %d lines:\n%s", text, run.args, lines, got.Stderr)
			}
		}
		if kept, err := os.ReadFile(rejects); err == nil && controlsIn(string(kept)) != "" {
			t.Fatalf("%q: the rejects have %s:\n%q", text, controlsIn(string(kept)), kept)
		}
		_ = os.Remove(name) // the folder is removed with the test's
	}
}

// Dead letters may contain anything that somebody wrote to an event topic, or to the dead-letter
// topic.
func TestHostileTextInDeadLetters(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", "mark-read-dead-letters")
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()),
		kgo.DefaultProduceTopic("mark-read-dead-letters"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for i, text := range hostile() {
		// can't fail for strings
		value, _ := json.Marshal(map[string]any{"Report_Account": text, "Peer_Account": "p",
			"MsgReadTime": 1700000000,
			text:          text})
		if i%2 == 1 {
			value = []byte(text)
		}
		r := &kgo.Record{Key: []byte(text), Value: value}
		for _, name := range []string{"markread.class", "markread.code", "markread.lane",
			"__dlq.errors.topic",
			"__dlq.errors.group",
			"__dlq.errors.message", "h" + text} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(text)})
		}
		records = append(records, r)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	show := func(args ...string) clitest.Result {
		t.Helper()
		r := try(t, nil, "", append(args, "--brokers", b.Addr())...)
		if c := controlsIn(r.Stdout + r.Stderr); c != "" {
			t.Fatalf("%q shows %s:\n%q\n%q", args, c, r.Stdout, r.Stderr)
		}
		return r
	}
	if r := show("dead-letters", "ls"); !strings.Contains(r.Stdout, ": 200 open") {
		t.Errorf("%+v", r)
	}
	values := map[string]bool{}
	for line := range strings.Lines(show("dead-letters", "ls", "--json").Stdout) {
		var l struct{ Message, Value string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		values[l.Message] = true
	}
	for _, text := range hostile() {
		if !values[strings.ToValidUTF8(text, "\ufffd")] && utf8.ValidString(text) {
			t.Errorf("%q is not in the list as it was written", text)
		}
	}
	show("status")
	show("status", "--json")
	show("dead-letters", "replay", "--dry-run")
	for offset := range 40 { // every fifth text
		id := fmt.Sprint("0:", 5*offset)
		show("dead-letters", "show", id)
		show("dead-letters", "show", id, "--json")
		show("dead-letters", "show", id, "--event", "--log-format", "console")
	}
}

// So may responses of servers: the API, a gateway before it, and a worker's admin server.
func TestHostileTextOfServers(t *testing.T) {
	var answer string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, answer) // to a test
	}))
	defer s.Close()
	at := strings.TrimPrefix(s.URL, "http://")
	for i, text := range hostile() {
		quoted, _ := json.Marshal(text)
		if i%coverageStep() != 0 {
			continue
		}
		for _, answer = range []string{
			text, `{"ActionStatus":"FAIL","ErrorCode":90001,"ErrorInfo":` + string(quoted) + `}`,
			`{"ready":true,"held":[{"reason":` + string(quoted) +
				`,"since":"2026-03-01T00:00:00Z"},{"reason":"paused",` +
				`"since":"2026-03-01T00:00:00Z"}]}`,
		} {
			for _, args := range [][]string{
				{"call", "--im-url", s.URL, "--im-app-id", "1", "--report", "a", "--peer", "b"},
				{"pause", "--admin-url", s.URL},
			} {
				r := try(t, []string{"MARKREAD_IM_KEY=" + clitest.TestKey}, "", args...)
				if c := controlsIn(r.Stdout + r.Stderr); c != "" {
					t.Fatalf("%q, answered with %q, shows %s:\n%q\n%q", args, answer, c, r.Stdout,
						r.Stderr)
				}
			}
		}
	}
	answer = "\x1b[31mno broker\u202e"
	if r := try(t, nil, "", "dead-letters", "ls", "--brokers",
		at); controlsIn(r.Stdout+r.Stderr) != "" {
		t.Errorf("%q", r.Stderr)
	}
}

// A log entry is one line without control characters, in both formats; in JSON its value is
// unchanged.
func TestHostileTextInTheLog(t *testing.T) {
	for _, text := range hostile() {
		for _, format := range []string{"console", "json"} {
			var out bytes.Buffer
			p := &process{env: config.NewEnvironment(nil), stderr: &printable.Writer{Out: &out}}
			log := p.newLogger(config.LogFlags{LogLevel: "debug", LogFormat: format})
			log.Warn().Str("text", text).Strs("list", []string{text}).Err(errors.New(text)).
				Any("object", map[string]string{text: text}).
				Bytes("bytes", []byte(text)).Msg(text)
			if c := controlsIn(out.String()); c != "" || strings.Count(out.String(), "\n") != 1 {
				t.Fatalf("%s of %q has %s, or %d lines:\n%q", format, text, c,
					strings.Count(out.String(), "\n"), out.String())
			}
			var entry struct {
				Text, Message string
				List          []string
			}
			if format == "console" {
				continue
			}
			if err := json.Unmarshal(out.Bytes(), &entry); err != nil || utf8.ValidString(text) &&
				(entry.Text != text || entry.Message != text || entry.List[0] != text) {
				t.Fatalf("%q became %+q, %v", text, entry, err)
			}
		}
	}
}

// The program's own control sequences, for colors and for clearing a progress line, are written.
func TestOwnControlSequences(t *testing.T) {
	var out bytes.Buffer
	stream := &printable.Writer{Out: &out}
	if terminal.Unfiltered(stream) != &out || terminal.Unfiltered(&out) != &out {
		t.Error("not the stream itself")
	}
	tty, err := os.Open("/dev/ptmx")
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	if !terminal.Is(tty) || !terminal.Is(&printable.Writer{Out: tty}) || terminal.Is(stream) {
		t.Error("a terminal is one, filtered or not")
	}
}

// A question shows its subject on one line.
func TestHostileTextInAQuestion(t *testing.T) {
	for _, text := range hostile() {
		var out bytes.Buffer
		p := &process{stdin: strings.NewReader("n\n"), stderr: &printable.Writer{Out: &out}}
		if yes, err := new(confirmFlags).confirmed(t.Context(), p, text+"?"); yes || err != nil ||
			controlsIn(out.String()) != "" || strings.Contains(out.String(), "\n") {
			t.Errorf("%q: %q, %v", text, out.String(), err)
		}
	}
}

// Tables keep their lines, whatever a cell contains.
func TestHostileTextInATable(t *testing.T) {
	for _, text := range hostile() {
		var out bytes.Buffer
		table := terminal.NewTable(&printable.Writer{Out: &out})
		table.Row("a", text, "z")
		table.Textf("%s", text)
		if err := table.End(); err != nil || controlsIn(out.String()) != "" ||
			strings.Count(out.String(), "\n") != 2 {
			t.Errorf("%q: %q, %v", text, out.String(), err)
		}
	}
}
