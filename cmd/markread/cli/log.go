package cli

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/consumer/printable"
	"markread/worker/format"
)

type logger = zerolog.Logger

// Times in logs have milliseconds: calls take some.
func init() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" }

// begin sets up the log as configured and warns of variables. Commands call it when their configuration is known to be
// right, so that wrong usage stays one line.
func (p *process) begin(f config.LogFlags) {
	p.log = p.newLogger(f)
	p.env.WarnOfVariables(p.log)
}

// newLogger writes to standard error.
func (p *process) newLogger(f config.LogFlags) logger {
	return loggerTo(zerolog.SyncWriter(p.logOutput(f)), f.LogLevel)
}

// loggerTo writes lines with a time, from the level on.
func loggerTo(out io.Writer, level string) logger {
	from, err := zerolog.ParseLevel(level)
	if err != nil {
		from = zerolog.InfoLevel
	}
	return zerolog.New(out).Level(from).With().Timestamp().Logger()
}

// logOutput is standard error: text on a terminal or when asked for, else JSON.
func (p *process) logOutput(f config.LogFlags) io.Writer {
	terminal := isTerminal(p.stderr)
	var out io.Writer = p.stderr
	if f.LogFormat == "console" || (f.LogFormat == "" && terminal) {
		_, noColor := p.env.Values["NO_COLOR"]
		to := screen(p.stderr) // for the colors
		if terminal {
			to = wiping{to}
		}
		out = zerolog.ConsoleWriter{
			Out: to, TimeFormat: "15:04:05.000", NoColor: noColor || !terminal,
			FormatPrepare: printableMessage, FormatFieldValue: printableValue,
		}
	}
	return out
}

// wiping writes each line in place of what a progress bar has left on the terminal's last one.
type wiping struct{ out io.Writer }

func (w wiping) Write(line []byte) (int, error) {
	if _, err := io.WriteString(w.out, wipe); err != nil {
		return 0, err
	}
	return w.out.Write(line)
}

// printableMessage makes the message of an entry safe to show, for the console format.
func printableMessage(entry map[string]any) error {
	if text, ok := entry[zerolog.MessageFieldName].(string); ok {
		entry[zerolog.MessageFieldName] = format.Line(text)
	}
	return nil
}

// printableValue makes a field's value safe to show, for the console format. zerolog has quoted
// strings that need it, but not what is in lists and objects.
func printableValue(value any) string { return printable.Line(fmt.Sprintf("%s", value)) }

// screen is a stream of a process without the filter that makes text printable. Only control
// sequences of our own, and text that has been made printable, may be written to it.
func screen(stream io.Writer) io.Writer {
	if w, ok := stream.(*printable.Writer); ok {
		return w.Out
	}
	return stream
}

// isTerminal reports whether a stream of a process is a terminal.
func isTerminal(stream any) bool {
	if w, ok := stream.(*printable.Writer); ok {
		stream = w.Out
	}
	f, ok := stream.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// takeStandardLog sends what libraries write to the standard logger to the program's log, without secrets: net/http prints there what a
// server sends on an idle connection. mask may be nil.
func (p *process) takeStandardLog(mask func(string) string) {
	log.SetFlags(0)
	log.SetOutput(app.StandardLog{Log: p.log, Mask: mask})
}
