//go:build linux

package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"markread/cmd/markread/cli/clitest"
)

// newTerminal returns a terminal and the end that a user types at.
func newTerminal(t *testing.T) (terminal, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return terminal, person
}

// While the question waits for an answer, other commands may resolve dead letters: those are
// neither replayed nor discarded, and the report counts them.
func TestResolvedDuringConfirmation(t *testing.T) {
	for command, want := range map[string]string{
		"replay": `{"topic":"mark-read-backfill","dry_run":false,"letters":2,"conversations":2,` +
			`"still_open":{"invalid":0,"value_omitted":0,"too_large":0,"refused":0,` +
			`"unresolved":0},"parked":0,"gone":1}`,
		"discard": `{"dry_run":false,"letters":2,"parked":0,"gone":1}`,
	} {
		t.Run(command, func(t *testing.T) {
			b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", "mark-read-dead-letters")
			clitest.AddDeadLetters(t, b.Addr(), 3)
			terminal, person := newTerminal(t)
			var stdout clitest.Buffer
			ended := make(chan int)
			go func() { // ends with the answer; awaited below
				ended <- Run(t.Context(),
					[]string{"dead-letters", command, "--brokers", b.Addr(), "--class",
						"rejected", "--json"}, nil, terminal, &stdout, terminal)
			}()
			shown, some := "", make([]byte, 1<<10)
			for !strings.Contains(shown, "[y/N]") {
				n, err := person.Read(some)
				if err != nil {
					t.Fatalf("%v after %q", err, shown)
				}
				shown += string(some[:n])
			}
			if r := try(t, nil, "", "dead-letters", "discard", "--brokers", b.Addr(), "--yes",
				"--report",
				"r1"); r.Stdout != "discarded 1 dead letter\n" {
				t.Fatalf("%+v", r)
			}
			if _, err := person.WriteString("y\n"); err != nil {
				t.Fatal(err)
			}
			if status := <-ended; status != ExitOK || stdout.String() != want+"\n" {
				t.Errorf("%d: %s", status, stdout.String())
			}
		})
	}
}
