package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/worker/format"
)

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	p := &process{env: config.NewEnvironment(nil), stderr: &out}
	l := p.newLogger(config.LogFlags{LogLevel: "warn"})
	l.Info().Msg("not shown")
	l.Warn().Err(errors.New("why")).Msg("shown")
	var line map[string]string
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["level"] != "warn" ||
		line["message"] != "shown" ||
		line["error"] != "why" || line["time"] == "" {
		t.Errorf("no terminal, JSON: %s", &out)
	}
	out.Reset()
	l = p.newLogger(config.LogFlags{LogLevel: "debug", LogFormat: "console"})
	l.Debug().Str("what", "x").Msg("shown")
	if got := out.String(); !strings.Contains(got, "DBG shown what=x") ||
		strings.Contains(got, "\x1b") {
		t.Errorf("console, no terminal: %q", got)
	}
}

// The output of libraries goes to our log, on one line, without secrets.
func TestStandardLog(t *testing.T) {
	var out clitest.Buffer
	p := &process{env: config.NewEnvironment(nil), stderr: &out}
	p.log = p.newLogger(config.LogFlags{LogLevel: "info"})
	defer func(to io.Writer, flags int) { log.SetOutput(to); log.SetFlags(flags) }(log.Writer(),
		log.Flags())
	p.takeStandardLog(func(s string) string { return strings.ReplaceAll(s, "canary", "[secret]") })
	log.Print("Unsolicited response: canary\x1b[31m\nmore")
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "canary") ||
		!strings.Contains(got, "[secret]") || strings.Contains(got, `\u001b`) {
		t.Errorf("%q", got)
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{"a": "a", " a\nb\r\nc\td ": "a b  c d",
		"\x1b[31mred\x7f": "?[31mred?",
		"é漢":              "é漢"} {
		if got := format.Line(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

// slowReader is a standard error that is read only as far as the test allows.
type slowReader struct {
	clitest.Buffer
	more chan struct{} // each value allows one write; closed: all writes
}

func (p *slowReader) Write(b []byte) (int, error) {
	<-p.more
	return p.Buffer.Write(b)
}

// queuedLine is the part of a JSON log line that a test checks.
type queuedLine struct {
	Level   string `json:"level"`
	Message string `json:"message"`
	Dropped int    `json:"dropped"`
	Number  int    `json:"number"`
	Do      string `json:"do"`
}

func parsedLines(t *testing.T, text string) (lines []queuedLine) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l queuedLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, l)
	}
	return lines
}

// If nobody reads standard error, logging does not block. When it is read again, one line says how
// many were dropped, and no other line is missing.
func TestLogLinesNeverWaitForTheirReader(t *testing.T) {
	for _, level := range []string{"debug", "error"} {
		synctest.Test(t, func(t *testing.T) {
			to := &slowReader{more: make(chan struct{})}
			p := &process{env: config.NewEnvironment(nil), stderr: to}
			p.beginService(config.LogFlags{LogLevel: level})
			began := time.Now()
			const lines = 3*terminal.QueuedLines + terminal.QueuedLines/2
			for i := range lines {
				p.log.Error().Int("number", i).Msg("line")
				if i == 0 {
					time.Sleep(2 * terminal.QueuePoll) // the first write hangs
				}
			}
			if took := time.Since(began); took != 2*terminal.QueuePoll {
				t.Errorf("logging took %v", took)
			}
			close(to.more)
			time.Sleep(2 * terminal.QueuePoll)
			p.flushLog()

			got := parsedLines(t, to.String())
			if len(got) < 3 || got[1].Dropped == 0 || got[1].Level != "warn" || got[1].Do == "" {
				t.Fatalf("--log-level %s: the second line does not say what was dropped: %.300s",
					level, to)
			}
			next := 1 + got[1].Dropped
			for _, l := range got[2:] {
				if l.Message != "line" || l.Number != next {
					t.Fatalf("--log-level %s: line %d is %+v", level, next, l)
				}
				next++
			}
			if next != lines {
				t.Errorf("--log-level %s: the last line is %d", level, next-1)
			}
		})
	}
}

// The last lines are written before the process ends, in both formats; the process waits at most a
// second for a reader that is gone.
func TestQueuedLogLinesAreWrittenAtTheEnd(t *testing.T) {
	for format, want := range map[string]string{"json": `"number":%d`, "console": "number=%d"} {
		synctest.Test(t, func(t *testing.T) {
			var to clitest.Buffer
			p := &process{env: config.NewEnvironment([]string{"MARKREAD_TYPO=1"}), stderr: &to}
			p.beginService(config.LogFlags{LogLevel: "info", LogFormat: format})
			for i := range terminal.QueuedLines / 2 {
				p.log.Info().Int("number", i).Msg("line")
			}
			began := time.Now()
			p.flushLog()
			if took := time.Since(began); took > 2*terminal.QueuePoll {
				t.Errorf("%s: flushing took %v", format, took)
			}
			text := to.String()
			if n := strings.Count(text, "\n"); n != terminal.QueuedLines/2+1 ||
				!strings.Contains(text, "MARKREAD_TYPO") ||
				!strings.Contains(text, fmt.Sprintf(want, terminal.QueuedLines/2-1)) {
				t.Errorf("%s: %d lines: %.200s", format, n, text)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		to := &slowReader{more: make(chan struct{})}
		p := &process{env: config.NewEnvironment(nil), stderr: to}
		p.beginService(config.LogFlags{LogLevel: "info"})
		p.log.Info().Msg("line")
		began := time.Now()
		p.flushLog()
		if took := time.Since(began); took != terminal.FlushLimit {
			t.Errorf("flushing without a reader took %v", took)
		}
		close(to.more)
		time.Sleep(time.Second) // let the abandoned goroutine end
	})
}

// A command that is not a service writes its lines directly: there is nothing to flush.
func TestOtherCommandsWriteTheirLinesThemselves(t *testing.T) {
	var to bytes.Buffer
	p := &process{env: config.NewEnvironment(nil), stderr: &to}
	p.begin(config.LogFlags{LogLevel: "info"})
	p.log.Info().Msg("line")
	if to.Len() == 0 {
		t.Error("the line is not there")
	}
	p.flushLog()
}

// Only commands that do nothing but print end with their reader.
func TestCommandsThatOnlyPrint(t *testing.T) {
	for line, want := range map[string]bool{
		"dead-letters ls --brokers k:1": true, "dead-letters show --brokers k:1 0:1": true,
		"status --brokers k:1": true, "version": true,
		"run --brokers k:1 --im-app-id 1": false, "dev": false, "sandbox": false,
		"emit --brokers k:1": false, "backfill --brokers k:1 x": false,
		"dead-letters replay --brokers k:1": false, "dead-letters discard --brokers k:1": false,
		"pause": false, "resume": false,
	} {
		p := &process{env: config.NewEnvironment(nil), stdout: &clitest.Buffer{},
			stderr: &clitest.Buffer{}}
		selected, err := p.parse(strings.Fields(line))
		if err != nil || onlyPrints(selected) != want {
			t.Errorf("%s: %v, want %v", line, err, want)
		}
	}
}
