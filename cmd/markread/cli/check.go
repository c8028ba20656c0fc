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

// checkCommand checks everything that a worker with this configuration needs.
type checkCommand struct {
	JSON        bool `name:"json" help:"Print one JSON document."`
	workerFlags `embed:""`
}

func (*checkCommand) Help() string {
	return `Run it before a deployment. It takes the configuration of "markread run", queries
Kafka and the IM server, and prints a line for each check: WRONG (fix it before a worker runs),
warning, "not checked" or ok, with the remedy below it, the most urgent first. The exit status is 1
if something is wrong, else 0.

It changes nothing: it writes no record, commits no offset, creates no topic, joins no group, and
asks the IM server only for the number of unread messages of the account of --im-admin. It ends
within half a minute, even if nothing responds.

    export MARKREAD_IM_KEY_FILE=/run/secrets/im-key
    markread check --brokers kafka:9092 --im-url singapore --im-app-id 1400000000
    markread check --json | jq -r '.checks[] | select(.result == "wrong") | .do'

With the worker's environment (a container's, or systemd's EnvironmentFile=) it needs no flags, and
checks exactly that deployment, seen from this machine: DNS, routes and firewalls of another machine
may differ. The JSON document has "ok", "wrong", "warnings", "not_checked" (numbers) and "checks";
deploy/OPERATIONS.md documents its names.` + variablesHelp
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
	quiet := p.log // failures are in the report, once
	if c.Log.LogLevel != "debug" {
		c.Warn(p.env, p.log)
		quiet = zerolog.Nop()
	}
	kafka, err := c.KafkaFlags.Open(p.env, quiet)
	if err != nil {
		return err
	}
	defer kafka.Close()
	report := preflight.Run(ctx, c.preflightOptions(p.env, kafka, im))
	interrupted := ctx.Err() != nil
	switch {
	case c.JSON && interrupted: // print no incomplete document
	case c.JSON:
		err = printDocument(p.stdout, report)
	default:
		err = printCheck(p.stdout, report)
	}
	if err == nil && interrupted {
		err = errInterrupted
	}
	return cmp.Or(err, wrongError(report))
}

var errInterrupted = errors.New("interrupted: the rest was not checked")

// preflightOptions returns the configuration as values, and the findings of reading it.
func (c *checkCommand) preflightOptions(env config.Environment, kafka *kafkaclient.Client,
	im *imclient.Client) preflight.Options {
	o := preflight.Options{Kafka: kafka, Brokers: c.Brokers, SASL: c.SASL,
		TLS: c.TLS, Connection: c.Connection(), Topics: c.Topics(), CreateTopics: c.CreateTopics,
		Group: c.Group, Rate: c.Rate, Calls: c.CallLimit(), IM: im, IMURL: c.IMURL,
		IMAdmin: c.IMAdmin, AdminAddr: c.Admin.AdminAddr, SecretFiles: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(env.SecretWarnings)) {
		o.Secrets.Add(preflight.Warning("secret", name, env.SecretWarnings[name].Found,
			env.SecretWarnings[name].Do))
	}
	for _, name := range []string{config.SASLPassword, config.IMKey, config.AdminToken} {
		if path := env.Values[name+"_FILE"]; path != "" {
			o.SecretFiles[name+"_FILE"] = path
		}
	}
	if c.TLSKey != "" {
		o.SecretFiles["--tls-key"] = c.TLSKey
	}
	if pair, err := c.ClientCertificate(); err == nil && pair != nil {
		o.ClientCertificate = pair.Leaf
	}
	return o
}

// maxNameWidth limits the width of the column of names; a longer name shifts only the rest of its
// own line.
const maxNameWidth = 34

// lineName returns the check and its subjects. If there is nothing to do, and all subjects of the
// check are on this line, a long list of subjects is replaced by their number.
func lineName(l preflight.Line) string {
	name := l.Name()
	if l.Do == "" && l.Alone && len(l.Subjects) > 1 && utf8.RuneCountInString(name) > maxNameWidth {
		return fmt.Sprintf("%s (%d)", l.Check, len(l.Subjects))
	}
	return name
}

// printCheck prints a report as text: a line for each check, its remedy below it.
func printCheck(w io.Writer, r *preflight.Report) error {
	width, count := 0, map[preflight.Grade]int{}
	lines := r.Lines()
	for _, l := range lines {
		width = max(width, min(utf8.RuneCountInString(lineName(l)), maxNameWidth))
		count[l.Result]++
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-11s  %-*s  %s\n", gradeText[l.Result], width, lineName(l), l.Found)
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

// gradeText maps a result to its text in the report.
var gradeText = map[preflight.Grade]string{preflight.IsWrong: "WRONG",
	preflight.IsWarning: "warning", preflight.IsNotChecked: "not checked", preflight.IsOK: "ok"}

// wrongError returns an error that names the checks that are wrong; nil if none is.
func wrongError(r *preflight.Report) error {
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
