// Package bench is the hidden command `markread bench`: it measures a worker next to the loops that
// one would write by hand, and prints the ratios.
//
// The embedded broker, the sandbox, the worker and each loop are processes of their own, which the
// program starts by executing itself with a hidden role. So each side's CPU and memory can be read
// from /proc, and events are produced at nobody's cost. The worker is the real `markread run` with
// its flags. Within one run all sides of a row follow each other, in an order that changes from run
// to run, so that a slow minute of the machine meets all of them.
//
// The loops share no code with the worker. The bench checks none of the worker's promises: that is
// what the tests are for. It promises only that no child outlives it, even if it is killed: every
// child ends when its standard input does. Where there is no /proc, CPU and memory are missing.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"markread/cmd/markread/cli/config"
)

// Command is the command's flags.
type Command struct {
	Runs     int      `default:"5" help:"Runs of each row; the table has their medians."`
	Only     []string `placeholder:"ROW" help:"Rows to run; default: all."`
	Scale    float64  `default:"1" help:"Fraction of the full number of events and of the duration."`
	JSON     bool     `name:"json" help:"Print one JSON document."`
	Brokers  []string `placeholder:"HOST:PORT" help:"Use this Kafka, not the embedded broker."`
	Baseline string   `placeholder:"FILE" help:"Another build of markread, as one more side."`
	Role     string   `hidden:"" help:"Run as one of the bench's own processes."`
}

// Help follows the summary in the help text.
func (*Command) Help() string {
	return "Rows: " + strings.Join(rowNames(), " ") + `. On two cores all of them take about 40
minutes; give them a machine that has nothing else to do.

    markread bench --only uncapped,intake --runs 3`
}

// Streams are the process's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs the bench, or the role. program runs another command line of this program.
func (c *Command) Run(ctx context.Context, s Streams, program func(ctx context.Context,
	args []string) error) error {
	if c.Role != "" {
		return playRole(ctx, c.Role, s, program)
	}
	switch {
	case c.Runs < 1:
		return config.Usagef("--runs must be at least 1")
	case !(c.Scale > 0 && c.Scale <= 1): // also refuses NaN
		return config.Usagef("--scale must be above 0 and at most 1")
	}
	for _, name := range c.Only {
		if !slices.Contains(rowNames(), name) {
			return config.Usagef("--only %q: the rows are %s", name,
				strings.Join(rowNames(), ", "))
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{Command: c, self: self, progress: s.Err}
	var lines []line
	for _, r := range rows {
		if len(c.Only) > 0 && !slices.Contains(c.Only, r.name) {
			continue
		}
		results, err := b.runRow(ctx, r)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		lines = append(lines, compare(r, b.sides(r), results)...)
	}
	return c.report(s.Out, lines)
}

// bench is one execution of the command.
type bench struct {
	*Command
	self     string // this program's file
	progress io.Writer
}

// result is what one side has in one run: by the figure's name. What could not be measured is
// missing.
type result map[string]float64

// runRow returns the results of a row by side, one for each run.
func (b *bench) runRow(ctx context.Context, r row) (map[string][]result, error) {
	k, err := b.startKafka(ctx, r.name)
	if err != nil {
		return nil, err
	}
	defer k.close()
	if r.prepare != nil {
		if err := r.prepare(ctx, b, k); err != nil {
			return nil, fmt.Errorf("producing: %w", err)
		}
	}
	results := map[string][]result{}
	for run := range b.Runs {
		sides := b.sides(r)
		first := run % len(sides)
		for _, side := range slices.Concat(sides[first:], sides[:first]) {
			m := &measurement{bench: b, kafka: k, side: side,
				name: fmt.Sprintf("%s-%d-%s", k.topic, run, strings.ReplaceAll(side, " ", "-"))}
			began := time.Now()
			got, err := r.measure(ctx, m)
			err = errors.Join(err, m.endScraping())
			m.stopAll()
			if err != nil {
				return nil, fmt.Errorf("%s, run %d: %w", side, run+1, err)
			}
			results[side] = append(results[side], got)
			fmt.Fprintf(b.progress, "%s %d/%d %s: %s (%.0f s)\n", r.name, run+1, b.Runs, side,
				got.text(r), time.Since(began).Seconds())
		}
	}
	return results, nil
}

// sides returns the sides of a row, markread first.
func (b *bench) sides(r row) []string {
	sides := []string{markread}
	if b.Baseline != "" {
		sides = append(sides, baseline)
	}
	return append(sides, r.against...)
}

// count returns n at the bench's scale, but at least least.
func (b *bench) count(n, least int) int { return max(int(float64(n)*b.Scale), least) }

// duration returns d at the bench's scale, but at least 200 ms.
func (b *bench) duration(d time.Duration) time.Duration {
	return max(time.Duration(float64(d)*b.Scale), 200*time.Millisecond)
}
