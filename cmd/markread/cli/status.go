package cli

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/worker/console"
	"markread/worker/groupstatus"
)

// statusCommand looks at a whole group, from Kafka.
type statusCommand struct {
	AdminURL           *string `name:"admin-url" placeholder:"URL" help:"Admin server of one of the workers: what holds it, and what waits in its memory, is shown too."`
	JSON               bool    `name:"json" help:"Print one JSON document."`
	config.KafkaFlags  `embed:"" group:"Kafka:"`
	config.GroupFlags  `embed:"" group:"Topics and group:"`
	config.ReplaysFlag `embed:"" group:"Worker:"`
	Log                config.LogFlags `embed:"" group:"Log:"`
}

func (*statusCommand) Help() string {
	return `Members with their partitions and their share of the rate; the lag; partitions that can't be read;
open dead letters by class and code. All of it is read from Kafka, so it also works when no worker
answers. The dead-letter topic is read to its end, which takes as long as it is large. What can't be
found out or read is one line on standard error, the rest is shown, and the exit status is 1.

    markread status --brokers kafka-1:9092
    markread status --brokers kafka-1:9092 --admin-url http://127.0.0.1:8780
    markread status --brokers kafka-1:9092 --json | jq .lag.lag

The JSON document has "group", "lag", "letters", "worker" (null without --admin-url) and "errors"; what could not be found out is null.
README.md has all of its names.` + adminHelp + variablesHelp
}

func (c *statusCommand) validate(env config.Environment) error {
	return cmp.Or(c.KafkaFlags.Check(env), c.GroupFlags.Check(), c.ReplaysFlag.Check())
}

func (c *statusCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	var worker *console.Client
	if c.AdminURL != nil {
		var err error
		if worker, err = (&adminURLFlag{c.AdminURL}).client(p.env); err != nil {
			return err
		}
	}
	p.begin(c.Log)
	kafka, err := c.KafkaFlags.Open(p.env, p.log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	report := groupstatus.Run(ctx, groupstatus.Options{Kafka: kafka,
		Worker: worker, Group: c.Group, Topics: c.Topics(), MaxReplays: c.MaxReplays,
		Reading: terminal.NewProgress(p.stderr, "reading the dead letters").Reading})
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if c.JSON {
		err = printDocument(p.stdout, report)
	} else {
		err = printStatus(p.stdout, report)
	}
	if err == nil && len(report.Errors) > 0 {
		err = errors.New(strings.Join(report.Errors, "; "))
	}
	return err
}
