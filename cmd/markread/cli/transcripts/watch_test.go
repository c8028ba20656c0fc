//go:build linux

package transcripts

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
)

// On a terminal, `status --watch` draws its table in place, and shows no log lines.
func TestWatchOnATerminal(t *testing.T) {
	window, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	defer window.Close()
	if err := unix.IoctlSetPointerInt(int(window.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(window.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	b := clitest.StartBroker(t, "mark-read", "mark-read-dead-letters")
	clitest.AddDeadLetters(t, b.Addr(), 1)
	b.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, // it is logged
		Topic: "mark-read-dead-letters", Err: kerr.NotLeaderForPartition, Count: 1})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan int)
	go func() { // awaited below
		ended <- cli.Run(ctx, []string{"status", "--brokers", b.Addr(), "--backfill-topic=",
			"--watch", "1s"}, nil, strings.NewReader(""), terminal, terminal)
	}()
	const begin, end = "\x1b[?7l\x1b[H", "\x1b[J\x1b[?7h"
	shown, some := "", make([]byte, 4<<10)
	for strings.Count(shown, end) < 2 { // the first line, then the table
		n, err := window.Read(some)
		if err != nil {
			t.Fatalf("%v after %q", err, shown)
		}
		shown += string(some[:n])
	}
	drawn := strings.Split(shown, begin)
	if left := strings.Trim(strings.ReplaceAll(drawn[0], "\x1b[K", ""), "\r\n"); left != "" {
		t.Errorf("before the table: %q", drawn[0])
	}
	if len(drawn) != 3 || !strings.Contains(drawn[1], " UTC, every 1.0s: reading …\x1b[K\r\n") ||
		!strings.Contains(drawn[2],
			" UTC, every 1.0s\x1b[K\r\n\x1b[K\r\ngroup markread: ABSENT\x1b[K\r\n") {
		t.Errorf("%q", drawn)
	}
	stop()
	if status := <-ended; status != cli.ExitOK {
		t.Errorf("status %d", status)
	}
}
