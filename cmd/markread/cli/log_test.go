package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"strings"
	"testing"

	"markread/cmd/markread/cli/config"
	"markread/worker/format"
)

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	p := &process{env: config.NewEnvironment(nil), stderr: &out}
	l := p.newLogger(config.LogFlags{LogLevel: "warn"})
	l.Info().Msg("not shown")
	l.Warn().Err(errors.New("why")).Msg("shown")
	var line map[string]string
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["level"] != "warn" || line["message"] != "shown" || line["error"] != "why" || line["time"] == "" {
		t.Errorf("no terminal, JSON: %s", &out)
	}
	out.Reset()
	l = p.newLogger(config.LogFlags{LogLevel: "debug", LogFormat: "console"})
	l.Debug().Str("what", "x").Msg("shown")
	if got := out.String(); !strings.Contains(got, "DBG shown what=x") || strings.Contains(got, "\x1b") {
		t.Errorf("console, no terminal: %q", got)
	}
}

// What libraries print goes to our log, on one line, without secrets.
func TestStandardLog(t *testing.T) {
	var out buffer
	p := &process{env: config.NewEnvironment(nil), stderr: &out}
	p.log = p.newLogger(config.LogFlags{LogLevel: "info"})
	defer func(to io.Writer, flags int) { log.SetOutput(to); log.SetFlags(flags) }(log.Writer(), log.Flags())
	p.takeStandardLog(func(s string) string { return strings.ReplaceAll(s, "canary", "[secret]") })
	log.Print("Unsolicited response: canary\x1b[31m\nmore")
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "canary") || !strings.Contains(got, "[secret]") || strings.Contains(got, `\u001b`) {
		t.Errorf("%q", got)
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{"a": "a", " a\nb\r\nc\td ": "a b  c d", "\x1b[31mred\x7f": "?[31mred?", "é漢": "é漢"} {
		if got := format.Line(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}
