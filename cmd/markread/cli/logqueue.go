package cli

import (
	"io"
	"time"

	"github.com/rs/zerolog/diode"

	"markread/cmd/markread/cli/config"
)

const (
	// queuedLines is how many log lines wait for a standard error that is not read in time: some
	// 1.5 MB. When there are more, the oldest are dropped, all of them at once. It is more than
	// what is logged at one moment when each of 2,000 partitions has something to report.
	queuedLines = 4096
	// queuePoll is how often the queue is looked at while it is empty; that takes 0.2 % of a core.
	// (The other way that diode offers, a condition variable, can miss the last line before a
	// silence.)
	queuePoll = 50 * time.Millisecond
	// flushLimit is how long the end of the process waits for the queued lines to be written. What
	// reads them may not read any more.
	flushLimit = time.Second
)

// beginService is [process.begin] for a command that runs until it is stopped. Its log lines are
// queued, so that calls and heartbeats never wait for whoever reads standard error: a pager that
// was left open, a full disk behind a pipe. Other commands write their lines themselves: they are
// few, and the last one, why the command failed, must not be lost.
func (p *process) beginService(f config.LogFlags) {
	out := p.logOutput(f)
	own := loggerTo(out, "trace") // told at any --log-level
	dropped := func(lines int) {
		own.Warn().Int("dropped", lines).Str("do", "read standard error faster, or raise --log-level").
			Msg("log lines dropped: standard error was not read in time")
	}
	// Without its Close: standard error stays open.
	queue := diode.NewWriter(struct{ io.Writer }{out}, queuedLines, queuePoll, dropped)
	p.log = loggerTo(queue, f.LogLevel)
	p.endLog = queue.Close
	p.env.WarnOfVariables(p.log)
}

// flushLog writes the queued lines, if there is a queue, within [flushLimit]. What is logged after
// it is lost.
func (p *process) flushLog() {
	if p.endLog == nil {
		return
	}
	within(flushLimit, func() { _ = p.endLog() }) // it has no error
}

// within calls f and waits until it is done, but no longer than limit: f may hang in a write that
// nobody can end but who reads.
func within(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
