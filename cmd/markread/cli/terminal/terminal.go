// Package terminal writes to the streams of a process: the log, as JSON or as text, queued where
// nobody may wait for its reader; tables; and on a terminal a line of progress, which the next log
// line replaces. It does not decide what is written, reads no flag, and owns no stream.
//
// It promises that a cell of a table stays in its place whatever it holds, and that nothing but its
// own control sequences reaches the terminal.
package terminal

import (
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"

	"markread/consumer/printable"
	"markread/worker/format"
)

// Times in logs have milliseconds: calls take some.
func init() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" }

// NewLog writes lines with a time, from the level on.
func NewLog(out io.Writer, level string) zerolog.Logger {
	from, err := zerolog.ParseLevel(level)
	if err != nil {
		from = zerolog.InfoLevel
	}
	return zerolog.New(out).Level(from).With().Timestamp().Logger()
}

// LogAsText writes the log as text for people.
func LogAsText(stderr io.Writer, noColor bool) io.Writer {
	terminal, to := Is(stderr), Unfiltered(stderr) // for the colors
	if terminal {
		to = lineClearer{to}
	}
	return zerolog.ConsoleWriter{Out: to, TimeFormat: "15:04:05.000", NoColor: noColor || !terminal,
		FormatPrepare: printableMessage, FormatFieldValue: printableValue}
}

// QueuedLog writes lines to a queue, which a goroutine writes to out until end is called.
func QueuedLog(out io.Writer, level string) (log zerolog.Logger, end func() error) {
	own := NewLog(out, "trace") // told at any --log-level
	dropped := func(lines int) {
		own.Warn().Int("dropped", lines).
			Str("do", "read standard error faster, or raise --log-level").
			Msg("log lines dropped: standard error was not read in time")
	}
	// Without its Close: standard error stays open.
	queue := diode.NewWriter(struct{ io.Writer }{out}, QueuedLines, QueuePoll, dropped)
	return NewLog(queue, level), queue.Close
}

// lineClearer writes each line in place of what a progress bar has left on the terminal's last one.
type lineClearer struct{ out io.Writer }

func (w lineClearer) Write(line []byte) (int, error) {
	n, err := w.out.Write(append([]byte(ClearLine), line...))
	return max(0, n-len(ClearLine)), err
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

// Unfiltered is a stream of a process without the filter that makes text printable. Only control
// sequences of our own, and text that has been made printable, may be written to it.
func Unfiltered(stream io.Writer) io.Writer {
	if w, ok := stream.(*printable.Writer); ok {
		return w.Out
	}
	return stream
}

// Is reports whether a stream of a process is a terminal.
func Is(stream any) bool {
	if w, ok := stream.(*printable.Writer); ok {
		stream = w.Out
	}
	f, ok := stream.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// ClearLine begins a terminal's line anew.
const ClearLine = "\r\x1b[K"

// Table is aligned text.
type Table struct {
	*tabwriter.Writer
	err error
}

func NewTable(w io.Writer) *Table { return &Table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0), nil} }

// End writes what is left and returns what went wrong.
func (t *Table) End() error {
	if err := t.Flush(); t.err == nil {
		t.err = err
	}
	return t.err
}

// Row writes one line of cells. Lines of one number of cells that follow each other are aligned.
// Whatever a cell holds, it stays in its place.
func (t *Table) Row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable.Line(cell)
	}
	if _, err := fmt.Fprintln(t, strings.Join(cells, "\t")); t.err == nil {
		t.err = err
	}
}

// Textf writes a line that is not aligned with others.
func (t *Table) Textf(format string, args ...any) { t.Row(fmt.Sprintf(format, args...)) }

// First yields the first elements. If there are more, it writes a line that says how many.
func First[T any](t *Table, all []T, most int, more string) iter.Seq2[int, T] {
	return func(yield func(int, T) bool) {
		for i, one := range all[:min(most, len(all))] {
			if !yield(i, one) {
				return
			}
		}
		if len(all) > most {
			t.Textf(more, len(all)-most)
		}
	}
}

const (
	// QueuedLines is how many log lines wait for a standard error that is not read in time: some
	// 1.5 MB. When there are more, the oldest are dropped, all of them at once. It is more than
	// what is logged at one moment when each of 2,000 partitions has something to report.
	QueuedLines = 4096
	// QueuePoll is how often an empty queue is looked at; that takes 0.2 % of a core. (Diode's
	// other way, a condition variable, can miss the last line before a silence.)
	QueuePoll = 50 * time.Millisecond
	// FlushLimit is how long the end of the process waits for queued lines, which nobody may read.
	FlushLimit = time.Second
)

// Within calls f and waits until it is done, but no longer than limit: f may hang in a write that
// nobody can end but who reads.
func Within(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
