package cli

import (
	"errors"
	"io"
	"reflect"
	"regexp"

	"github.com/alecthomas/kong"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
)

// commandLine is the grammar: one field a command.
type commandLine struct {
	Run         runCommand         `cmd:"" help:"Run the worker."`
	Dev         devCommand         `cmd:"" help:"Run everything on this machine, with sample traffic; nothing to install."`
	Emit        emitCommand        `cmd:"" help:"Publish mark-read events, from flags or as JSON lines on standard input."`
	Backfill    backfillCommand    `cmd:"" help:"Publish read states in bulk, from files of CSV or JSON lines."`
	Call        callCommand        `cmd:"" help:"Make one API call and explain the answer."`
	Check       checkCommand       `cmd:"" help:"Before a deployment: check everything that a worker needs; change nothing."`
	DeadLetters deadLettersCommand `cmd:"" name:"dead-letters" help:"List, show, replay and discard the events that could not be applied."`
	Status      statusCommand      `cmd:"" help:"Show the whole group, from Kafka: members, lag, open dead letters."`
	Pause       pauseCommand       `cmd:"" help:"Hold all calls of one worker."`
	Resume      resumeCommand      `cmd:"" help:"Let a paused worker go on."`
	Sandbox     sandboxCommand     `cmd:"" help:"Run the local IM server alone."`
	Version     versionCommand     `cmd:"" help:"Print version, commit and Go version."`
}

const description = `Marks conversations as read at Tencent IM, from a Kafka topic, never faster than the app's quota.`

// newParser builds the parser of a new command line. Variables and outputs are bound by [process.parse].
func newParser(options ...kong.Option) (*kong.Kong, error) {
	options = append([]kong.Option{
		kong.Name("markread"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 120}),
	}, append(config.Decoders(), options...)...)
	return kong.New(&commandLine{}, options...)
}

// parse returns the command that the arguments select, with its flags filled in; nil if help was asked for and given.
func (p *process) parse(args []string) (command, error) {
	parser, err := newParser(
		kong.Writers(terminal.Screen(p.stdout), io.Discard),
		kong.Resolvers(p.env),
		// Help exits; the panic brings it back here, with nothing half done.
		kong.Exit(func(int) { panic(helpGiven{}) }),
	)
	if err != nil {
		return nil, err
	}
	p.env.Known = config.Variables(parser.Model)
	if len(args) == 0 {
		return nil, config.Usagef("no command given; markread --help lists them")
	}
	var selected command
	err = untilHelp(func() error {
		parsed, err := parser.Parse(args)
		var usage *config.UsageError
		switch {
		case errors.As(err, &usage):
			return usage
		case err != nil:
			return &config.UsageError{Text: plain(err.Error())}
		}
		for _, f := range parsed.Flags() { // those of Kubernetes' args: have the same flaws as variables
			if config.IsConfiguration(f) && f.Target.Kind() == reflect.String {
				if what, do := config.Flaw(f.Target.String()); what != "" {
					return config.Usagef("--%s %s: %s", f.Name, what, do)
				}
			}
		}
		selected = parsed.Selected().Target.Addr().Interface().(command)
		return nil
	})
	return selected, err
}

// These are the parser's texts that are mended: about a flag without a value, and about one of a few words.
var (
	noValue   = regexp.MustCompile(`^(--[a-z-]+)\S*: expected \S+ value but got "EOL" \(<EOL>\)$`)
	looksFlag = regexp.MustCompile(`(?s)^(--[a-z-]+)\S*: expected \S+ value but got (".*") \((?:short|long) flag\).*$`)
	noCommand = regexp.MustCompile(`^expected one of ((?:"[a-z-]+",? ?)+)$`)
	emptyWord = regexp.MustCompile(`^(--[a-z-]+) must be one of "",`)
)

// These are what the parser quotes of a command line or a variable. A long value is none that was meant for its flag; it may be a secret in the
// wrong place, such as one with the name of its variable before it, so it is not shown.
var (
	assigned  = regexp.MustCompile(`(?s)^(unexpected argument [A-Za-z_][A-Za-z0-9_]*)=.*$`)
	longWord  = regexp.MustCompile(`(?s)^unexpected argument \S{21,}.*$`)
	longFlag  = regexp.MustCompile(`(?s)^unknown flag --[a-z-]*[^a-z, -]\S{20,}.*$`)
	longValue = regexp.MustCompile(`(?s)( but got )".{21,}"`)
	longNext  = regexp.MustCompile(`(?s)(; )".{21,}"( looks like another flag)`)
)

// plain says in the words of a user what the parser says in its own.
func plain(text string) string {
	text = noValue.ReplaceAllString(text, "$1 needs a value")
	text = looksFlag.ReplaceAllString(text, "$1 needs a value; $2 looks like another flag (a value that begins with a hyphen goes after an equals sign)")
	text = noCommand.ReplaceAllString(text, "the command needs a second word, one of $1")
	text = emptyWord.ReplaceAllString(text, "$1 must be one of ")
	text = assigned.ReplaceAllString(text, "$1=…: variables go before the command")
	text = longWord.ReplaceAllString(text, "unexpected argument, of more than 20 characters")
	text = longFlag.ReplaceAllString(text, "unknown flag, of more than 20 characters")
	text = longValue.ReplaceAllString(text, "${1}more than 20 characters")
	return longNext.ReplaceAllString(text, "${1}what follows$2")
}

type helpGiven struct{}

// untilHelp calls f and returns nil if it ended by giving help.
func untilHelp(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil && reflect.TypeOf(r) != reflect.TypeFor[helpGiven]() {
			panic(r)
		}
	}()
	return f()
}

// variablesHelp belongs to the help of every command that has configuration flags. To show each flag's variable would double the help.
const variablesHelp = `

The flags in groups can also be set in the environment, --im-url as MARKREAD_IM_URL; a flag on the command line wins.`
