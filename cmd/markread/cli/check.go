package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"markread/cmd/markread/cli/config"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker/format"
	"markread/worker/preflight"
)

// checkCommand looks at everything that a worker with this configuration needs.
type checkCommand struct {
	JSON        bool `name:"json" help:"Print one JSON document."`
	workerFlags `embed:""`
}

func (*checkCommand) Help() string {
	return `Before a deployment: it takes the configuration of "markread run", asks Kafka and
the IM server, and prints a line for each thing that it has looked at: WRONG (mend it before a
worker runs), warning, "not checked", ok; with what to do below it. What is wrong comes first. The
exit status is 1 if something is wrong, else 0.

It changes nothing: it writes no record, commits no offset, makes no topic, joins no group, and asks
the IM server only how many messages the account of --im-admin has not read. It ends within half a
minute, whatever does not answer.

    export MARKREAD_IM_KEY_FILE=/run/secrets/im-key
    markread check --brokers kafka:9092 --im-url singapore --im-app-id 1400000000
    markread check --json | jq -r '.checks[] | select(.result == "wrong") | .do'

With the worker's environment (a container's, or systemd's EnvironmentFile=) it needs no flags, and
checks just that deployment, from where it is run: the names, the routes and the firewalls of
another machine may be others. The JSON document has "ok", "wrong", "warnings", "not_checked" (how
many) and "checks"; deploy/OPERATIONS.md has all of its names.` + variablesHelp
}

func (c *checkCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	im, err := c.IMFlags.Client(p.env, 1)
	if err != nil {
		return err
	}
	defer im.Close()
	p.log = p.newLogger(c.Log)
	p.env.WarnOfUnknown(p.log)
	p.takeStandardLog(im.Mask)
	quiet := p.log // what fails is in the report, once
	if c.Log.LogLevel != "debug" {
		c.Warn(p.env, p.log)
		quiet = zerolog.Nop()
	}
	kafka, err := c.KafkaFlags.Open(p.env, quiet)
	if err != nil {
		return err
	}
	defer kafka.Close()
	report := preflight.Run(ctx, c.examined(p.env, kafka, im))
	interrupted := ctx.Err() != nil
	switch {
	case c.JSON && interrupted: // half a document says less than none
	case c.JSON:
		err = printDocument(p.stdout, report)
	default:
		err = printCheck(p.stdout, report)
	}
	if err == nil && interrupted {
		err = errInterrupted
	}
	return cmp.Or(err, checkFailure(report))
}

var errInterrupted = errors.New("interrupted: the rest was not looked at")

// examined is what is checked: the configuration, as values, and what reading it has found.
func (c *checkCommand) examined(env config.Environment, kafka *kafkaclient.Client,
	im *imclient.Client) preflight.Options {
	o := preflight.Options{Kafka: kafka, Brokers: c.Brokers, SASL: c.SASL,
		TLS: c.TLS, Connection: c.Connection(), Topics: c.Topics(), CreateTopics: c.CreateTopics,
		Group: c.Group, Rate: c.Rate, Calls: c.InFlight(), IM: im, IMURL: c.IMURL,
		IMAdmin: c.IMAdmin, AdminAddr: c.Admin.AdminAddr, SecretFiles: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(env.Odd)) {
		o.Secrets.Add(preflight.Warning("secret", name, env.Odd[name].Found, env.Odd[name].Do))
	}
	for _, name := range []string{config.SASLPassword, config.IMKey, config.AdminToken} {
		if path := env.Values[name+"_FILE"]; path != "" {
			o.SecretFiles[name+"_FILE"] = path
		}
	}
	if c.TLSKey != "" {
		o.SecretFiles["--tls-key"] = c.TLSKey
	}
	if pair, err := c.Pair(); err == nil && pair != nil {
		o.ClientCertificate = pair.Leaf
	}
	return o
}

// longestName bounds the column of names: a longer one moves the rest of its line only.
const longestName = 34

// lineName is the check with what it is about. Where there is nothing to mend, and nothing else is
// said of others, how many there are is enough.
func lineName(l preflight.Line) string {
	name := l.Name()
	if l.Do == "" && l.Alone && len(l.Subjects) > 1 && utf8.RuneCountInString(name) > longestName {
		return fmt.Sprintf("%s (%d)", l.Check, len(l.Subjects))
	}
	return name
}

// printCheck writes a report for people: a line each, what to do below it.
func printCheck(w io.Writer, r *preflight.Report) error {
	width, count := 0, map[preflight.Grade]int{}
	lines := r.Lines()
	for _, l := range lines {
		width = max(width, min(utf8.RuneCountInString(lineName(l)), longestName))
		count[l.Result]++
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-11s  %-*s  %s\n", shownGrade[l.Result], width, lineName(l), l.Found)
		if l.Do != "" {
			fmt.Fprintf(&b, "%-11s  do: %s\n", "", l.Do)
		}
	}
	fmt.Fprintf(&b, "\n%d wrong, %s, %d not checked, %d ok\n", count[preflight.IsWrong],
		format.Count(count[preflight.IsWarning], "warning"), count[preflight.IsNotChecked],
		count[preflight.IsOK])
	_, err := io.WriteString(w, b.String())
	return err
}

// shownGrade is a result as a person reads it.
var shownGrade = map[preflight.Grade]string{preflight.IsWrong: "WRONG",
	preflight.IsWarning: "warning", preflight.IsNotChecked: "not checked", preflight.IsOK: "ok"}

// checkFailure is the error for the exit status: what is wrong, in short.
func checkFailure(r *preflight.Report) error {
	var names []string
	for _, l := range r.Lines() {
		if l.Result == preflight.IsWrong {
			names = append(names, lineName(l))
		}
	}
	if names == nil {
		return nil
	}
	return errors.New("check: wrong: " + strings.Join(names, "; "))
}
