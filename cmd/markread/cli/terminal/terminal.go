// Package terminal writes to the streams of a process: the log, as JSON or as text, with a queue
// for processes that must not wait for its reader; tables; and, on a terminal, a progress line,
// which the next log line replaces, and a text that is redrawn in place. It does not decide what is
// written, reads no flags, and owns no stream.
//
// It promises that a cell of a table stays in its column whatever it contains, and that no control
// sequences but its own reach the terminal.
package terminal

import (
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"

	"markread/consumer/printable"
	"markread/worker/format"
)

// Times in logs have milliseconds, because calls take milliseconds.
func init() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" }

// NewLog returns a logger that writes lines with a time, of this level or a higher one.
func NewLog(out io.Writer, level string) zerolog.Logger {
	from, err := zerolog.ParseLevel(level)
	if err != nil {
		from = zerolog.InfoLevel
	}
	return zerolog.New(out).Level(from).With().Timestamp().Logger()
}

// LogAsText returns a writer that turns JSON log lines into text, with colors on a terminal unless
// noColor.
func LogAsText(stderr io.Writer, noColor bool) io.Writer {
	terminal, to := Is(stderr), Unfiltered(stderr) // colors are control sequences
	if terminal {
		to = lineClearer{to}
	}
	return zerolog.ConsoleWriter{Out: to, TimeFormat: "15:04:05.000", NoColor: noColor || !terminal,
		FormatPrepare: printableMessage, FormatFieldValue: printableValue}
}

// QueuedLog returns a logger that writes lines to a queue, which a goroutine writes to out until
// end is called.
func QueuedLog(out io.Writer, level string) (log zerolog.Logger, end func() error) {
	own := NewLog(out, "trace") // drops are logged at any --log-level
	dropped := func(lines int) {
		own.Warn().Int("dropped", lines).
			Str("do", "read standard error faster, or raise --log-level").
			Msg("log lines dropped: standard error was not read in time")
	}
	// The wrapper hides out's Close method: standard error stays open.
	queue := diode.NewWriter(struct{ io.Writer }{out}, QueuedLines, QueuePoll, dropped)
	return NewLog(queue, level), queue.Close
}

// lineClearer clears the terminal's current line, which may show progress, before each line that it
// writes.
type lineClearer struct{ out io.Writer }

func (w lineClearer) Write(line []byte) (int, error) {
	n, err := w.out.Write(append([]byte(ClearLine), line...))
	return max(0, n-len(ClearLine)), err
}

// printableMessage makes the message of a log entry printable, for the console format.
func printableMessage(entry map[string]any) error {
	if text, ok := entry[zerolog.MessageFieldName].(string); ok {
		entry[zerolog.MessageFieldName] = format.Line(text)
	}
	return nil
}

// printableValue makes a field's value printable, for the console format. zerolog quotes strings if
// necessary, but not strings in lists and objects.
func printableValue(value any) string { return printable.Line(fmt.Sprintf("%s", value)) }

// Unfiltered returns the stream without the filter that makes text printable. Write only our own
// control sequences, and printable text, to it.
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

// ClearLine moves to the beginning of a terminal's line and clears the line.
const ClearLine = "\r\x1b[K"

// Table writes aligned text.
type Table struct {
	*tabwriter.Writer
	// Width, if positive, is the number of characters at which Textf breaks lines.
	Width int
	err   error
}

// NewTable returns a table that is written to w; see End.
func NewTable(w io.Writer) *Table {
	return &Table{Writer: tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
}

// End writes buffered lines and returns the first error.
func (t *Table) End() error {
	if err := t.Flush(); t.err == nil {
		t.err = err
	}
	return t.err
}

// Row writes one line of cells. Consecutive rows with the same number of cells are aligned. A cell
// stays in its column whatever it contains.
func (t *Table) Row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable.Line(cell)
	}
	if _, err := fmt.Fprintln(t, strings.Join(cells, "\t")); t.err == nil {
		t.err = err
	}
}

// Textf writes a line that is not aligned with others. If it is longer than Width, it is broken at
// spaces, and the next lines are indented by two more.
func (t *Table) Textf(format string, args ...any) {
	line := []rune(printable.Line(fmt.Sprintf(format, args...)))
	indent := 2
	for indent-2 < len(line) && line[indent-2] == ' ' {
		indent++
	}
	for t.Width > 2*indent && len(line) > t.Width {
		end := t.Width
		for end > indent && line[end] != ' ' {
			end--
		}
		if end == indent { // one long word
			end = t.Width
		}
		t.Row(string(line[:end]))
		rest := strings.TrimLeft(string(line[end:]), " ")
		line = []rune(strings.Repeat(" ", indent) + rest)
	}
	t.Row(string(line))
}

// First yields at most so many elements. If there are more, it then writes a line with their
// number; more is its format.
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
	// QueuedLines is the number of log lines that wait if standard error is not read in time: some
	// 1.5 MB. When the queue overflows, all its lines, the oldest, are dropped together. It is
	// larger than the number of lines that are logged at one moment if each of 2,000 partitions has
	// something to report.
	QueuedLines = 4096
	// QueuePoll is how often an empty queue is polled; that takes 0.2 % of a core. (Diode's
	// alternative, a condition variable, can miss the last line before a silence.)
	QueuePoll = 50 * time.Millisecond
	// FlushLimit is how long the process waits at its end for queued lines to be read.
	FlushLimit = time.Second
)

// Every calls f at this interval, in a goroutine, until stop is called. stop then calls last, and
// waits for it.
func Every(interval time.Duration, f, last func()) (stop func()) {
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer last()
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				f()
			}
		}
	})
	return func() { close(end); running.Wait() }
}

// Within calls f and waits until it returns, but no longer than limit: f may hang in a write until
// somebody reads.
func Within(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
