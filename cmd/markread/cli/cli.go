package cli

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
)

// commandLine is the grammar: one field a command. The Help methods of commands are kong's: what
// follows the summary.
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

const description = `Marks conversations as read at Tencent IM, from a Kafka topic, never faster ` +
	`than the app's quota.`

// newParser builds the parser of a new command line; [process.parse] binds variables and outputs.
func newParser(options ...kong.Option) (*kong.Kong, error) {
	options = append([]kong.Option{
		kong.Name("markread"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true,
			WrapUpperBound: 120}),
	}, append(config.Decoders(), options...)...)
	return kong.New(&commandLine{}, options...)
}

// parse returns the command that the arguments select, with its flags; nil if help was given.
func (p *process) parse(args []string) (selected command, err error) {
	parser, err := newParser(
		kong.Writers(terminal.Unfiltered(p.stdout), io.Discard),
		kong.Resolvers(p.env),
		// Help exits; the panic brings it back here, with nothing half done.
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
	parsed, err := parser.Parse(args)
	var usage *config.UsageError
	switch {
	case errors.As(err, &usage):
		return nil, usage
	case err != nil:
		return nil, &config.UsageError{Text: explainParseError(err.Error())}
	}
	// those of Kubernetes' args: have the same flaws as variables
	for _, f := range parsed.Flags() {
		if config.IsConfiguration(f) && f.Target.Kind() == reflect.String {
			if what, do := config.Flaw(f.Target.String()); what != "" {
				return nil, config.Usagef("--%s %s: %s", f.Name, what, do)
			}
		}
	}
	return parsed.Selected().Target.Addr().Interface().(command), nil
}

// maxShownWord is the longest word of a command line that an error shows, in bytes. A longer one
// was meant for something else: it may be a secret, perhaps with its variable's name before it.
const maxShownWord = 20

var variableName = regexp.MustCompile(`^\w*$`)

// explainParseError rewrites the errors of the parser that users can't read, or that show too much.
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

// quotedOr is what the parser has quoted, or the other text if that is too long.
func quotedOr(quoted, other string) string {
	if len(quoted) > maxShownWord+len(`""`) {
		return other
	}
	return quoted
}

func firstWord(text string) string { return append(strings.Fields(text), "")[0] }

// afterFlag is what follows the name of a flag at the beginning of a text.
func afterFlag(text string) string {
	return strings.TrimLeft(text, "-abcdefghijklmnopqrstuvwxyz")
}

type helpShown struct{}

// variablesHelp belongs to the help of every command that has configuration flags. To show each
// flag's variable would double the help.
const variablesHelp = `

The flags in groups can also be set in the environment, --im-url as MARKREAD_IM_URL; a flag on the command line wins.`
