// Package cli is the command line. It translates flags and environment variables into the options
// of the packages below, their results into text or JSON, and errors into one line and an exit
// status. A command has its own file. The package makes no decisions about events, Kafka or the
// API, and it starts nothing that outlives a command.
//
// Non-obvious:
//   - Everything runs through [Run], which takes arguments, environment and streams as parameters,
//     so that tests run commands in their own process.
//   - Only configuration flags (the flags in a group) have a MARKREAD_ variable. A command's own
//     flags have none, so that a forgotten variable can't change which events a command affects.
//   - Secrets have no flag: every user of the machine can see a process's arguments.
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
	"markread/worker/console"
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

// reportForcedStop writes what the second signal left undone. It stops trying after
// [terminal.FlushLimit].
func reportForcedStop(stderr io.Writer) {
	terminal.Within(terminal.FlushLimit, func() {
		fmt.Fprintln(stderr, "markread: forced stop: calls in flight were abandoned and may or "+
			"may not have been applied")
	})
}

// Run executes one command line and returns its exit status. args does not include the program's
// name; env is like os.Environ. Run returns when the command is done, or when ctx has ended and the
// command has stopped.
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
	if wrong, ok := errors.AsType[*app.OptionsError](err); ok {
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

// onlyPrints reports whether a command does nothing but print. SIGPIPE ends such a command when
// nobody reads its output any more, as in `markread dead-letters ls | head`; that is Go's default.
// Other commands have work to do: their write to a closed pipe fails, and they continue. If
// standard error is closed from the start, Go opens /dev/null in its place, so that no connection
// gets its number and, with it, log lines.
func onlyPrints(c command) bool {
	switch c.(type) {
	case *lsCommand, *showCommand, *statusCommand, *versionCommand:
		return true
	}
	return false
}

// process is the part of the operating system's process that a command may use. Its stdout and
// stderr make text printable; for control sequences see [terminal.Unfiltered].
type process struct {
	env            config.Environment
	stdin          io.Reader
	stdout, stderr io.Writer
	log            zerolog.Logger
	endLog         func() error             // writes queued log lines; nil: the log has no queue
	settings       func() []console.Setting // of the parsed command, for its console
}

// command is a parsed command line.
type command interface {
	// run checks its configuration, then calls [process.begin], before it has any visible effect.
	// It returns nil (exit status 0), a *config.UsageError (2), a *rejectedError (3) or another
	// error (1).
	run(ctx context.Context, p *process) error
}

// rejectedError is returned if the command did its work, but some input was rejected.
type rejectedError struct{ text string }

func (e *rejectedError) Error() string { return e.text }

// UntilSignal returns a context that ends at the first SIGINT or SIGTERM, or SIGHUP unless that is
// ignored, as under nohup(1). A second signal ends the process. The returned function ends the
// context and stops handling signals.
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

// sameSignalWindow is the time after the first signal in which another one counts as the same: some
// supervisors, timeout(1) among them, signal a process and then its process group.
const sameSignalWindow = 100 * time.Millisecond

// contextUntilSignal returns a context that ends at the first signal. The second signal calls exit:
// a user who asks twice does not want to wait for calls in flight. The returned function ends the
// context and stops reading signals.
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

// begin sets up the log as configured and logs warnings about variables. Commands call it once
// their configuration is known to be valid, so that a usage error stays one line.
func (p *process) begin(f config.LogFlags) {
	p.log = p.newLogger(f)
	p.takeStandardLog(nil)
	p.env.WarnOfVariables(p.log)
}

// newLogger returns a logger that writes to standard error.
func (p *process) newLogger(f config.LogFlags) zerolog.Logger {
	return terminal.NewLog(zerolog.SyncWriter(p.logOutput(f)), f.LogLevel)
}

// logOutput returns standard error, for JSON lines, or a writer that turns them into text: on a
// terminal, or with --log-format console.
func (p *process) logOutput(f config.LogFlags) io.Writer {
	if f.LogFormat == "console" || (f.LogFormat == "" && terminal.Is(p.stderr)) {
		_, noColor := p.env.Values["NO_COLOR"]
		return terminal.LogAsText(p.stderr, noColor)
	}
	return p.stderr
}

// takeStandardLog redirects the standard logger, which libraries use, to the program's log. mask,
// if non-nil, removes secrets: net/http logs there what a server sends on an idle connection.
func (p *process) takeStandardLog(mask func(string) string) {
	log.SetFlags(0)
	log.SetOutput(app.StandardLog{Log: p.log, Mask: mask})
}

// beginService is [process.begin] for a command that runs until it is stopped. Its log lines are
// queued, so that calls and heartbeats never wait for a slow reader of standard error, such as a
// pager left open or a full disk. Other commands write few lines, and their last one, the failure,
// must not be lost.
func (p *process) beginService(f config.LogFlags) {
	p.log, p.endLog = terminal.QueuedLog(p.logOutput(f), f.LogLevel)
	p.takeStandardLog(nil)
	p.env.WarnOfVariables(p.log)
}

// flushLog writes the queued lines, within [terminal.FlushLimit]. Lines that are logged later are
// lost.
func (p *process) flushLog() {
	if p.endLog == nil {
		return
	}
	terminal.Within(terminal.FlushLimit, func() { _ = p.endLog() }) // it has no error
}

// printJSON prints v as one line of JSON.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// printDocument prints v as indented JSON.
func printDocument(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}
