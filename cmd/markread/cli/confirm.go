package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"markread/cmd/markread/cli/config"
	"markread/worker/format"
)

// confirmFlags is how a command that changes something asks for leave.
type confirmFlags struct {
	DryRun bool `help:"Say what would be done, and do nothing."`
	Yes    bool `help:"Do it without asking; needed where there is no terminal."`
}

func (f *confirmFlags) validate(p *process) error {
	if !f.Yes && !f.DryRun && !(isTerminal(p.stdin) && isTerminal(p.stderr)) {
		return config.Usagef("--yes is needed where there is no terminal to ask on (--dry-run says what would be done)")
	}
	return nil
}

// confirmed asks on the terminal, if it is to be asked. What is no yes is a no.
func (f *confirmFlags) confirmed(ctx context.Context, p *process, question string) (bool, error) {
	if f.Yes {
		return true, nil
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", format.Line(question))
	answers := make(chan string, 1)
	go func() { // it ends with the answer, or with the process: a read of a terminal can't be ended
		line, _ := bufio.NewReader(p.stdin).ReadString('\n') // at its end there is no answer
		answers <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.stderr)
		return false, errors.New("interrupted; nothing was done")
	case answer := <-answers:
		answer = strings.ToLower(strings.TrimSpace(answer))
		return answer == "y" || answer == "yes", nil
	}
}
