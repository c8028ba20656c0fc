package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"markread/cmd/markread/bench"
	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/worker/console"
)

// commandLine is the grammar: one field for each command. A command's Help method implements
// kong.HelpProvider: its text follows the summary.
type commandLine struct {
	Run         runCommand         `cmd:"" help:"Run the worker."`
	Dev         devCommand         `cmd:"" help:"Run everything on this machine, with sample traffic."`
	Emit        emitCommand        `cmd:"" help:"Publish mark-read events, from flags or standard input."`
	Backfill    backfillCommand    `cmd:"" help:"Publish read states in bulk, from CSV or JSON lines."`
	Call        callCommand        `cmd:"" help:"Make one API call and explain the response."`
	Check       checkCommand       `cmd:"" help:"Check all that a worker needs; change nothing."`
	DeadLetters deadLettersCommand `cmd:"" help:"List, show, replay and discard dead letters."`
	Status      statusCommand      `cmd:"" help:"Show the group: members, lag, dead letters; with --admin-url, holds."`
	Console     consoleCommand     `cmd:"" help:"Serve the group's console: a page with the state of all workers."`
	Pause       pauseCommand       `cmd:"" help:"Hold all calls of one worker."`
	Resume      resumeCommand      `cmd:"" help:"Resume a paused worker."`
	Sandbox     sandboxCommand     `cmd:"" help:"Run the local IM server alone."`
	Version     versionCommand     `cmd:"" help:"Print version, commit and Go version."`
	Bench       benchCommand       `cmd:"" hidden:"" help:"Measure markread next to bare loops."`
}

// benchCommand is for developers. Package bench executes this program again, also as a worker.
type benchCommand struct{ bench.Command }

func (c *benchCommand) run(ctx context.Context, p *process) error {
	return c.Run(ctx, bench.Streams{In: p.stdin, Out: p.stdout, Err: p.stderr},
		func(ctx context.Context, args []string) error {
			command, err := p.parse(args)
			if err != nil {
				return err
			}
			return command.run(ctx, p)
		})
}

// The linker of a release sets these (-ldflags "-X markread/cmd/markread/cli.version=v1.2.3");
// otherwise build reads them from the build information that the Go toolchain adds.
var version, commit string

type versionCommand struct{}

func (*versionCommand) Help() string {
	return `Include it in bug reports.

    markread version`
}

func (*versionCommand) run(_ context.Context, p *process) error {
	p.begin(config.LogFlags{LogLevel: "info"})
	v, c := build()
	_, err := fmt.Fprintf(p.stdout, "markread %s\ncommit   %s\ngo       %s %s/%s\n", v, c,
		runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// build returns the version and the commit of this binary; "unknown" if the binary lacks them.
func build() (v, c string) {
	v, c = version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		v = cmp.Or(v, info.Main.Version)
		dirty := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && commit == "":
				c = s.Value
			case s.Key == "vcs.modified" && s.Value == "true" && commit == "":
				dirty = ", with changes"
			}
		}
		if c != "" {
			c += dirty
		}
	}
	return cmp.Or(v, "unknown"), cmp.Or(c, "unknown")
}

// helpTexts are the help texts that are too long for a tag, which has their key instead.
var helpTexts = map[string]string{
	"backfill_file_help": "CSV with a header, or JSON lines (one object a line); plain, gzip or " +
		"zstd; - is standard input.",
	"rejects_help": "Write the rows that are not valid events to this file, as JSON lines with " +
		"line and reason; the file must be new or empty, except with --resume.",
	"backfill_read_time_help": "Read time of rows without MsgReadTime: seconds since 1970, or " +
		"now (when the run began); without it such rows are rejected, and a table without that " +
		"column is refused.",
	"default_admin_url_help": "Admin server of the worker; default: http://127.0.0.1 and the " +
		"port of MARKREAD_ADMIN_ADDR, else 8780.",
	"status_admin_url_help": "Admin server of one of the workers, to show also its holds and " +
		"its backlog.",
	"console_addr_help": "Address of the console; other machines need MARKREAD_ADMIN_TOKEN for more " +
		"than health and metrics.",
	"peers_help": "Admin servers of the workers; a name with several addresses is several workers; " +
		"default: --peer-port at each member's address.",
	"status_watch_help": "Refresh at this interval, at least 1s, until stopped, and show what " +
		"changes.",
}

const description = `Marks conversations as read at Tencent IM, from a Kafka topic, never faster ` +
	`than the app's quota.`

// newParser returns a parser for a new command line. [process.parse] adds variables and outputs.
func newParser(options ...kong.Option) (*kong.Kong, error) {
	options = append([]kong.Option{
		kong.Name("markread"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true,
			WrapUpperBound: 120}),
		config.LongHelp(helpTexts),
	}, append(config.ParserOptions(), options...)...)
	return kong.New(&commandLine{}, options...)
}

// parse returns the command that the arguments select, with its flags; nil if help was shown.
func (p *process) parse(args []string) (c command, err error) {
	parser, err := newParser(
		kong.Writers(terminal.Unfiltered(p.stdout), io.Discard),
		kong.Resolvers(p.env),
		// After help, kong calls this instead of os.Exit; the panic returns to the recover below.
		kong.Exit(func(int) { panic(helpShown{}) }),
	)
	if err != nil {
		return nil, err
	}
	p.env.Known = config.Variables(parser.Model)
	if len(args) == 0 {
		return nil, config.Usagef("no command given; markread --help lists them")
	}
	defer func() {
		if r := recover(); r != nil && r != any(helpShown{}) {
			panic(r)
		}
	}()
	if len(args) == 1 && args[0] == "--version" {
		args = []string{"version"}
	}
	parsed, err := parser.Parse(args)
	var usage *config.UsageError
	var parse *kong.ParseError
	switch {
	case errors.As(err, &usage):
		return nil, usage
	case err != nil:
		text := explainParseError(err.Error())
		if strings.HasPrefix(text, "unexpected argument ") && errors.As(err, &parse) {
			if _, ok := selected(parse.Context).(*emitCommand); ok {
				text += ": emit reads standard input (markread emit < FILE); for large files, and " +
					"for CSV, there is markread backfill"
			}
		}
		return nil, &config.UsageError{Text: text}
	}
	// Values in Kubernetes' args: can have the same flaws as variables.
	for _, f := range parsed.Flags() {
		if config.IsConfiguration(f) && f.Target.Kind() == reflect.String {
			if what, do := config.Flaw(f.Target.String()); what != "" {
				return nil, config.Usagef("--%s %s: %s", f.Name, what, do)
			}
		}
	}
	p.settings = func() []console.Setting { return p.env.Settings(parsed) }
	return selected(parsed), nil
}

// selected returns the command that the arguments select; nil if none.
func selected(parsed *kong.Context) command {
	node := parsed.Selected()
	if node == nil {
		return nil
	}
	c, _ := node.Target.Addr().Interface().(command)
	return c
}

// maxShownWord is the length, in bytes, of the longest word of a command line that an error shows.
// A longer word was meant for something else: it may be a secret, perhaps with its variable's name
// before it.
const maxShownWord = 20

var variableName = regexp.MustCompile(`^\w*$`)

// explainParseError rewrites the parser's errors that are hard to understand or show too much.
func explainParseError(text string) string {
	if words, ok := strings.CutPrefix(text, "expected one of "); ok {
		return "the command needs a second word, one of " + words
	}
	if arg, ok := strings.CutPrefix(text, "unexpected argument "); ok {
		switch name, _, assigned := strings.Cut(arg, "="); {
		case assigned && variableName.MatchString(name):
			return "unexpected argument " + name + "=…: variables go before the command"
		case len(firstWord(arg)) > maxShownWord:
			return "unexpected argument, of more than 20 characters"
		}
		return text
	}
	if flag, ok := strings.CutPrefix(text, "unknown flag "); ok {
		if len(afterFlag(firstWord(flag))) > maxShownWord {
			return "unknown flag, of more than 20 characters"
		}
		return text
	}
	text = strings.Replace(text, ` must be one of "",`, " must be one of ", 1)
	before, got, ok := strings.Cut(text, " but got ")
	if !ok {
		return text
	}
	flag := strings.TrimSuffix(before, afterFlag(before))
	if strings.HasPrefix(got, `"EOL"`) {
		return flag + " needs a value"
	}
	for _, kind := range []string{" (long flag)", " (short flag)"} {
		if next, _, ok := strings.Cut(got, kind); ok {
			return fmt.Sprintf("%s needs a value; %s looks like another flag (a value that "+
				"begins with a hyphen goes after an equals sign)",
				flag, quotedOr(next, "what follows"))
		}
	}
	return before + " but got " + quotedOr(got, "more than 20 characters")
}

// quotedOr returns the word that the parser quoted, or other if it is too long.
func quotedOr(quoted, other string) string {
	if len(quoted) > maxShownWord+len(`""`) {
		return other
	}
	return quoted
}

func firstWord(text string) string { return append(strings.Fields(text), "")[0] }

// afterFlag returns the text after the flag's name at its beginning.
func afterFlag(text string) string {
	return strings.TrimLeft(text, "-abcdefghijklmnopqrstuvwxyz")
}

type helpShown struct{}

// variablesHelp is part of the help of every command with configuration flags. Showing each flag's
// variable would double the length of the help.
const variablesHelp = `

The flags in groups can also be set in the environment: --some-flag is MARKREAD_SOME_FLAG. A flag on
the command line wins.`
