package transcripts

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
	"markread/imclient"
	"markread/imclient/sandbox"
)

var updateTranscripts = flag.Bool("update-transcripts", false,
	"rewrite the files that the transcripts compare with cmp")

// TestTranscripts runs testdata/script/*.txtar: commands as an operator types them, each in a
// process of its own, with their output and exit status. In addition to the commands of package
// testscript (cmp, stdout, stderr, stdin, ttyin, exec …) a script has these:
//
//	exits STATUS ARGUMENTS…
//	    runs markread. With status 2, standard error must be exactly one line; with 1 its last
//	    line must be an error, with 3 a warning.
//	interrupted STATUS TEXT ARGUMENTS…
//	    the same; once standard error contains the text, Ctrl-C is pressed.
//	says TEXT
//	    the last line of standard error is exactly this text. "..." in it matches anything.
//	warns TEXT
//	    an earlier line of standard error is.
//	broker OPTIONS…
//	    starts a broker with the three topics, 4 partitions each, for the following commands.
//	    no=TOPIC omits one; partitions=TOPIC:N sets its number of partitions. With
//	    may=OPERATION:KIND:NAME (read:topic:mark-read) there is a user with only that permission.
//	broker-dies BYTES
//	    once clients have sent so many more bytes, all connections break and none is accepted.
//	broker-says WHAT
//	    makes the broker return other metadata. address HOST:PORT: clients connect there;
//	    no-leader: no partition has a leader; group KIND STATE: the kind of the group markread.
//	produce TOPIC PARTITION KEY VALUE NAME=VALUE…
//	    writes a record with headers; null is null.
//	letter PARTITION KEY VALUE NAME=VALUE…
//	    writes a dead letter with its usual headers, overridden by the named ones.
//	bytes FILE PART…
//	    writes a file: text with Go's escapes (\r, \ufeff, \x00), or, compressed, gzip:TEXT or
//	    zstd:TEXT.
//	im
//	    starts a local IM server for the following commands.
//
// To see the output of a script's commands: go test ./cmd/markread/cli/transcripts -run
// TestTranscripts/NAME -v. -update-transcripts rewrites the files that cmp compares.
func TestTranscripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "interrupted": scriptInterrupted, "says": scriptSays,
			"warns":  scriptWarns,
			"broker": scriptBroker, "broker-dies": scriptBrokerDies, "im": scriptIM,
			"broker-says": scriptBrokerSays, "produce": scriptProduce, "letter": scriptLetter,
			"bytes": scriptBytes,
		},
		Setup: func(env *testscript.Env) error {
			env.Values[breakableKey{}] = new(breakableNetwork)
			env.Setenv("CR", "\r") // scripts can't contain it
			return nil
		},
		UpdateScripts: *updateTranscripts, RequireUniqueNames: true, RequireExplicitExec: true,
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits STATUS ARGUMENTS…")
	}
	scriptEnds(ts, args[0], "markread", args[1:]...)
}

func scriptInterrupted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: interrupted STATUS TEXT ARGUMENTS…")
	}
	scriptEnds(ts, args[0], "markread-interrupted", args[1:]...)
}

func scriptEnds(ts *testscript.TestScript, want, program string, args ...string) {
	err := ts.Exec(program, args...)
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		ts.Fatalf("%v", err)
	}
	status := 0
	if ended != nil {
		status = ended.ExitCode()
	}
	if strconv.Itoa(status) != want {
		ts.Fatalf("exit status %d, not %s", status, want)
	}
	said := ts.ReadFile("stderr")
	lines := linesOf(said)
	for _, line := range lines {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "goroutine ") ||
			strings.Contains(line, clitest.TestKey) {
			ts.Fatalf("a panic, or a secret: %s", line)
		}
	}
	last, level := "", ""
	if len(lines) > 0 {
		last, level = logged(lines[len(lines)-1])
	}
	switch {
	case status == cli.ExitUsage &&
		(len(lines) != 1 || !strings.HasPrefix(last, "markread: ") || ts.ReadFile("stdout") != ""):
		ts.Fatalf("wrong usage is one line on standard error, and nothing on standard output")
	case status == cli.ExitFailed && level != "error", status == cli.ExitRejected &&
		level != "warn":
		ts.Fatalf("the last line does not say what failed, or was rejected")
	}
}

// linesOf splits text into lines.
func linesOf(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// logged returns the message and the level of a log line; of any other line, the line and "".
func logged(line string) (text, level string) {
	var entry struct{ Level, Message string }
	if json.Unmarshal([]byte(line), &entry) == nil && entry.Message != "" {
		return entry.Message, entry.Level
	}
	return line, ""
}

// containsText reports whether the text of a line is equal to want, in which "..." matches any
// text.
func containsText(line, want string) bool {
	text, _ := logged(line)
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, ".*") + "$"
	return regexp.MustCompile(pattern).MatchString(text)
}

func scriptSays(ts *testscript.TestScript, neg bool, args []string) {
	lines := linesOf(ts.ReadFile("stderr"))
	if neg || len(args) != 1 {
		ts.Fatalf("usage: says TEXT")
	}
	if len(lines) == 0 || !containsText(lines[len(lines)-1], args[0]) {
		ts.Fatalf("the last line of standard error does not say: %s", args[0])
	}
}

func scriptWarns(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: warns TEXT")
	}
	if slices.ContainsFunc(linesOf(ts.ReadFile("stderr")),
		func(line string) bool { return containsText(line, args[0]) }) == neg {
		ts.Fatalf("standard error, a line that says %q: wanted %t", args[0], !neg)
	}
}

func scriptBroker(ts *testscript.TestScript, _ bool, args []string) {
	partitions := map[string]int32{"mark-read": 4, "mark-read-backfill": 4,
		"mark-read-dead-letters": 4}
	var may []kfake.ACL
	for _, arg := range args {
		option, value, _ := strings.Cut(arg, "=")
		switch option {
		case "no":
			delete(partitions, value)
		case "partitions":
			topic, number, _ := strings.Cut(value, ":")
			n, err := strconv.ParseInt(number, 10, 32)
			ts.Check(err)
			partitions[topic] = int32(n)
		case "may":
			may = append(may, scriptACL(ts, value))
		default:
			ts.Fatalf("broker: no such option: %s", arg)
		}
	}
	f := ts.Value(breakableKey{}).(*breakableNetwork)
	options := []kfake.Opt{kfake.NumBrokers(1), kfake.ListenFn(f.listen)}
	for topic, n := range partitions {
		options = append(options, kfake.SeedTopics(n, topic))
	}
	if may != nil {
		options = append(options, kfake.EnableSASL(), kfake.EnableACLs(),
			kfake.Superuser("PLAIN", "admin", "admin"),
			kfake.User("PLAIN", "operator", "secret", may...))
		ts.Setenv("MARKREAD_SASL", "plain")
		ts.Setenv("MARKREAD_SASL_USER", "operator")
		ts.Setenv("MARKREAD_SASL_PASSWORD", "secret")
	}
	cluster, err := kfake.NewCluster(options...)
	ts.Check(err)
	ts.Defer(cluster.Close)
	f.cluster = cluster
	ts.Setenv("MARKREAD_BROKERS", strings.Join(cluster.ListenAddrs(), ","))
}

// scriptACL parses a permission.
func scriptACL(ts *testscript.TestScript, text string) kfake.ACL {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		ts.Fatalf("%s is not OPERATION:KIND:NAME", text)
	}
	operation, err := kmsg.ParseACLOperation(parts[0])
	ts.Check(err)
	kind, err := kmsg.ParseACLResourceType(parts[1])
	ts.Check(err)
	return kfake.ACL{Resource: kind, Name: parts[2], Pattern: kmsg.ACLResourcePatternTypeLiteral,
		Operation: operation,
		Allow:     true}
}

func scriptBrokerDies(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: broker-dies BYTES")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Value(breakableKey{}).(*breakableNetwork).dieAfter(n)
}

// scriptBytes writes a file with bytes that a script can't contain.
func scriptBytes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: bytes FILE PART…")
	}
	var content bytes.Buffer
	for _, part := range args[1:] {
		out := nopCloser(&content)
		var err error
		if rest, ok := strings.CutPrefix(part, "gzip:"); ok {
			part, out = rest, gzip.NewWriter(&content)
		} else if rest, ok := strings.CutPrefix(part, "zstd:"); ok {
			part = rest
			out, err = zstd.NewWriter(&content)
			ts.Check(err)
		}
		_, err = io.WriteString(out, unescape(ts, part))
		ts.Check(errors.Join(err, out.Close()))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content.Bytes(), 0o600))
}

// nopCloser returns a writer whose Close does nothing.
func nopCloser(w io.Writer) io.WriteCloser {
	return struct {
		io.Writer
		io.Closer
	}{w, io.NopCloser(nil)}
}

func scriptIM(ts *testscript.TestScript, _ bool, _ []string) {
	server := httptest.NewServer(sandbox.New(sandbox.Options{AppID: app.LocalAppID,
		Key: imclient.NewSecret(app.LocalKey), Admin: app.LocalAdmin, OpenAccounts: true}))
	ts.Defer(server.Close)
	ts.Setenv("MARKREAD_IM_URL", server.URL)
	ts.Setenv("MARKREAD_IM_APP_ID", strconv.Itoa(app.LocalAppID))
	ts.Setenv("MARKREAD_IM_KEY", app.LocalKey)
}

// breakableNetwork is a broker's network, which can break.
type breakableNetwork struct {
	cluster *kfake.Cluster // the latest one

	mu        sync.Mutex
	listeners []net.Listener
	conns     []net.Conn
	doomed    bool
	left      int // bytes until it breaks, after dieAfter
}

type breakableKey struct{}

func (f *breakableNetwork) listen(network, addr string) (net.Listener, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners, f.doomed = append(f.listeners, l), false
	return breakableListener{l, f}, nil
}

func (f *breakableNetwork) dieAfter(bytes int) {
	f.mu.Lock()
	f.doomed, f.left = true, bytes
	f.mu.Unlock()
	f.sent(0)
}

// sent counts bytes that a client has sent.
func (f *breakableNetwork) sent(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left -= n; !f.doomed || f.left > 0 {
		return
	}
	for _, l := range f.listeners {
		_ = l.Close()
	}
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.listeners, f.conns = nil, nil
}

type breakableListener struct {
	net.Listener
	f *breakableNetwork
}

func (l breakableListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.f.mu.Lock()
	l.f.conns = append(l.f.conns, c)
	l.f.mu.Unlock()
	return breakableConn{c, l.f}, nil
}

type breakableConn struct {
	net.Conn
	f *breakableNetwork
}

func (c breakableConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.f.sent(n)
	return n, err
}

// programs maps names of this test binary to the program that it runs under that name.
var programs = map[string]func(){"markread": func() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout,
		os.Stderr))
}, "markread-interrupted": mainInterrupted}

// mainInterrupted is main; it is interrupted when standard error contains the first argument.
func mainInterrupted() {
	ctx, stop := context.WithCancel(context.Background())
	os.Exit(cli.Run(ctx, os.Args[2:], os.Environ(), os.Stdin, os.Stdout,
		interruptingWriter{os.Args[1], stop}))
}

// interruptingWriter is standard error; it calls stop when one write contains the text.
type interruptingWriter struct {
	text string
	stop func()
}

func (s interruptingWriter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), s.text) {
		s.stop()
	}
	return os.Stderr.Write(b)
}
