package main

import (
	"context"

	"markread/consumer/kafkaclient"
)

// workerFlags is all that configures a worker.
type workerFlags struct {
	kafkaFlags   `embed:"" group:"Kafka:"`
	groupFlags   `embed:"" group:"Topics and group:"`
	CreateTopics bool `group:"Topics and group:" help:"Create missing topics: 12 partitions, the broker's replication."`
	imFlags      `embed:"" group:"IM API:"`
	engineFlags  `embed:"" group:"Worker:"`
	Uncapped     bool       `group:"Worker:" help:"Allow --rate 0 to another machine."`
	Admin        adminFlags `embed:"" group:"Admin server:"`
	Log          logFlags   `embed:"" group:"Log:"`
}

// runCommand is the worker.
type runCommand struct {
	workerFlags `embed:""`
}

// Help is kong's: what follows the summary.
func (*runCommand) Help() string {
	return `SIGTERM, SIGINT or SIGHUP stops it cleanly; a second one at once. Under nohup SIGHUP is ignored.

    export MARKREAD_IM_KEY_FILE=/run/secrets/im-key
    markread run --brokers kafka:9092 --create-topics --im-url singapore --im-app-id 1400000000` + variablesHelp
}

func (f *workerFlags) validate(env environment) error {
	return firstError(
		func() error { return f.kafkaFlags.validate(env) },
		f.groupFlags.validate,
		f.imFlags.validate,
		func() error { return f.engineFlags.validate(f.IMTimeout) },
		func() error {
			if f.Rate == 0 && !f.local() && !f.Uncapped {
				return usagef("--rate 0 calls %s without any limit; if you mean it, add --uncapped", f.IMURL)
			}
			return nil
		},
		func() error { return f.Admin.validate(env) },
	)
}

func (c *runCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	token, err := p.env.secret(adminToken)
	if err != nil {
		return err
	}
	im, err := c.imFlags.client(p.env, c.inFlight())
	if err != nil {
		return err
	}
	defer im.Close()
	options, err := c.kafkaFlags.clientOptions(p.env)
	if err != nil {
		return err
	}
	p.beginService(c.Log)
	c.warn(p.env, p.log)
	p.takeStandardLog(im.Mask)
	options.Log = p.log
	kafka, err := kafkaclient.New(options)
	if err != nil {
		return usagef("--brokers: %v", err)
	}
	defer kafka.Close()
	o := runOptions{Worker: c.options(c.IMTimeout, p.log), AdminAddr: c.Admin.AdminAddr, AdminToken: token, CreateTopics: c.CreateTopics}
	o.Worker.Version, o.Worker.Commit = build()
	o.Worker.Kafka, o.Worker.IM, o.Worker.Topics, o.Worker.Group = kafka, im, c.topics(), c.Group
	return runApp(ctx, o)
}
