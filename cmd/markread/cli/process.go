// Package cli is the command line: it translates flags and environment into the options of the
// packages below, what they find into text or JSON, and errors into one line and an exit status.
// One file is one command. It decides nothing about events, Kafka or the API, and starts nothing
// that outlives a command.
//
// Non-obvious:
//   - Everything goes through [Run], which takes its arguments, environment and streams as
//     parameters: tests run commands in their own process.
//   - Only configuration flags (those in a group) have a MARKREAD_ variable. A command's own flags
//     have none, so that no variable that was set once steers what a command does to which events.
//   - Secrets have no flag: arguments are visible to every user of the machine.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/printable"
	"markread/worker/format"

	"github.com/rs/zerolog"
)

// Exit statuses.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitRejected = 3
)

// reportForcedStop says what the second signal leaves behind, if that can be written within a moment.
func reportForcedStop(stderr io.Writer) {
	terminal.Within(terminal.FlushLimit, func() {
		fmt.Fprintln(stderr, "markread: stopped at once: what was under way may be done or not, "+
			"and was not waited for")
	})
}

// Run executes one command line and returns its exit status. args are without the program's name;
// env is like os.Environ. It returns when ctx has ended and the command has stopped cleanly, or
// when the command is done.
func Run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &process{env: config.NewEnvironment(env), stdin: stdin,
		stdout: &printable.Writer{Out: stdout}, stderr: &printable.Writer{Out: stderr}}
	p.log = p.newLogger(config.LogFlags{LogLevel: "info"})
	defer p.flushLog()
	selected, err := p.parse(args)
	if err == nil && selected != nil {
		if !onlyPrints(selected) {
			signal.Ignore(syscall.SIGPIPE)
		}
		err = selected.run(ctx, p)
	}
	if wrong := (*app.OptionsError)(nil); errors.As(err, &wrong) {
		err = &config.UsageError{Text: wrong.Error()}
	}
	var usage *config.UsageError
	var rejected *rejectedError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "markread: %s\n", format.Line(p.env.Explain(usage.Error())))
		return ExitUsage
	case errors.As(err, &rejected):
		p.log.Warn().Msg(format.Line(err.Error()))
		return ExitRejected
	default:
		p.log.Error().Msg(format.Line(err.Error()))
		return ExitFailed
	}
}

// onlyPrints reports whether a command only prints, as in `markread dead-letters ls | head`:
// SIGPIPE ends it when nobody reads any more, as Go has it. The others have work to do: a write to
// a closed pipe fails and they continue. For a standard error that is closed from the start Go
// opens /dev/null, so that no connection gets its number and log lines with it.
func onlyPrints(c command) bool {
	switch c.(type) {
	case *lsCommand, *showCommand, *statusCommand, *versionCommand:
		return true
	}
	return false
}

// process is what a command may use of the process that it runs in. What is written to its stdout
// and stderr is made printable; see [terminal.Screen] for control sequences.
type process struct {
	env            config.Environment
	stdin          io.Reader
	stdout, stderr io.Writer
	log            zerolog.Logger
	endLog         func() error // writes what is queued of the log; nil: nothing is
}

// command is a parsed command line.
type command interface {
	// run checks its configuration and calls [process.begin] before anything can be seen. It
	// returns nil (exit status 0), a *config.UsageError (2), a *rejectedError (3) or another error
	// (1).
	run(ctx context.Context, p *process) error
}

// rejectedError says that the command did its work, but part of its input was rejected.
type rejectedError struct{ text string }

func (e *rejectedError) Error() string { return e.text }

// UntilSignal returns a context that ends at the first SIGINT or SIGTERM, and at SIGHUP unless that
// is ignored, as nohup(1) has it. A second signal ends the process. The function that it returns
// ends the context and the watch.
func UntilSignal(parent context.Context) (context.Context, func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	return contextUntilSignal(parent, signals, func() {
		reportForcedStop(os.Stderr)
		os.Exit(ExitFailed)
	})
}

// sameSignalWindow is how long after the first signal another one counts as the same: some supervisors,
// timeout(1) among them, signal a process and then its group.
const sameSignalWindow = 100 * time.Millisecond

// contextUntilSignal returns a context that ends at the first signal. The second one calls exit: a person who
// asks twice does not want to wait for calls that are still out. The function that it returns ends
// the context and the watch.
func contextUntilSignal(parent context.Context, signals <-chan os.Signal,
	exit func()) (context.Context,
	func()) {
	ctx, cancel := context.WithCancel(parent)
	done := make(chan struct{})
	go func() {
		for first := (time.Time{}); ; {
			select {
			case <-signals:
			case <-done:
				return
			}
			if first.IsZero() {
				first = time.Now()
				cancel()
			} else if time.Since(first) >= sameSignalWindow {
				exit()
				return
			}
		}
	}()
	return ctx, func() { cancel(); close(done) }
}

// begin sets up the log as configured and warns of variables. Commands call it when their
// configuration is known to be right, so that wrong usage stays one line.
func (p *process) begin(f config.LogFlags) {
	p.log = p.newLogger(f)
	p.takeStandardLog(nil)
	p.env.WarnOfVariables(p.log)
}

// newLogger writes to standard error.
func (p *process) newLogger(f config.LogFlags) zerolog.Logger {
	return terminal.NewLog(zerolog.SyncWriter(p.logOutput(f)), f.LogLevel)
}

// logOutput is standard error: text on a terminal or when asked for, else JSON.
func (p *process) logOutput(f config.LogFlags) io.Writer {
	if f.LogFormat == "console" || (f.LogFormat == "" && terminal.Is(p.stderr)) {
		_, noColor := p.env.Values["NO_COLOR"]
		return terminal.LogAsText(p.stderr, noColor)
	}
	return p.stderr
}

// takeStandardLog sends what libraries write to the standard logger to the program's log, without
// secrets: net/http prints there what a server sends on an idle connection. mask may be nil.
func (p *process) takeStandardLog(mask func(string) string) {
	log.SetFlags(0)
	log.SetOutput(app.StandardLog{Log: p.log, Mask: mask})
}

// beginService is [process.begin] for a command that runs until it is stopped. Its log lines are
// queued, so that calls and heartbeats never wait for a reader of standard error: a pager left
// open, a full disk. Other commands write few lines, of which the last, the failure, must not be
// lost.
func (p *process) beginService(f config.LogFlags) {
	p.log, p.endLog = terminal.QueuedLog(p.logOutput(f), f.LogLevel)
	p.takeStandardLog(nil)
	p.env.WarnOfVariables(p.log)
}

// flushLog writes the queued lines within [terminal.FlushLimit]. What is logged after it is lost.
func (p *process) flushLog() {
	if p.endLog == nil {
		return
	}
	terminal.Within(terminal.FlushLimit, func() { _ = p.endLog() }) // it has no error
}

// printJSON prints one line.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// printDocument prints JSON that people can read, too.
func printDocument(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}
