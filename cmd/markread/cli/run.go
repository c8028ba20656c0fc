package cli

import (
	"cmp"
	"context"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
)

// workerFlags is the whole configuration of a worker.
type workerFlags struct {
	config.KafkaFlags `embed:"" group:"Kafka:"`
	config.GroupFlags `embed:"" group:"Topics and group:"`

	CreateTopics bool `group:"Topics and group:" help:"Create missing topics: 12 partitions, the broker's replication."`

	config.IMFlags     `embed:"" group:"IM API:"`
	config.EngineFlags `embed:"" group:"Worker:"`
	Uncapped           bool              `group:"Worker:" help:"Allow --rate 0 to another machine."`
	Admin              config.AdminFlags `embed:"" group:"Admin server:"`
	Log                config.LogFlags   `embed:"" group:"Log:"`
}

// runCommand runs a worker.
type runCommand struct {
	workerFlags `embed:""`
}

func (*runCommand) Help() string {
	return `SIGTERM, SIGINT or SIGHUP stops it cleanly; a second one immediately. Under nohup,
SIGHUP is ignored.

    export MARKREAD_IM_KEY_FILE=/run/secrets/im-key
    markread run --brokers kafka:9092 --create-topics --im-url singapore --im-app-id 1400000000` +
		variablesHelp
}

func (f *workerFlags) validate(env config.Environment) error {
	err := cmp.Or(f.KafkaFlags.Check(env), f.GroupFlags.Check(), f.IMFlags.Check(),
		f.EngineFlags.Check(f.IMTimeout))
	if err == nil && f.Rate == 0 && !f.Local() && !f.Uncapped {
		err = config.Usagef("--rate 0 calls %s without any limit; if you mean it, add --uncapped",
			f.IMURL)
	}
	return cmp.Or(err, f.Admin.Check(env))
}

func (c *runCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	token, err := p.env.Secret(config.AdminToken)
	if err != nil {
		return err
	}
	im, err := c.IMFlags.Client(p.env, c.CallLimit())
	if err != nil {
		return err
	}
	defer im.Close()
	p.beginService(c.Log)
	p.takeStandardLog(im.Mask)
	kafka, err := c.KafkaFlags.Open(p.env, p.log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	o := app.Options{Worker: c.Options(c.IMTimeout, p.log), AdminAddr: c.Admin.AdminAddr,
		AdminToken: token, CreateTopics: c.CreateTopics, Settings: p.settings}
	o.Worker.Version, o.Worker.Commit = build()
	o.Worker.Kafka, o.Worker.IM, o.Worker.Topics, o.Worker.Group = kafka, im, c.Topics(), c.Group
	return app.Run(ctx, o)
}
