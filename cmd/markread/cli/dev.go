package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker/console"
	"markread/worker/format"
)

// devCommand runs everything on one machine.
type devCommand struct {
	KafkaAddr          string `default:"127.0.0.1:9092" help:"Where the embedded broker listens."`
	IMAddr             string `name:"im-addr" default:"127.0.0.1:8790" help:"Where the local IM server listens."`
	DataDir            string `placeholder:"DIR" help:"Keep Kafka's data here; default: in memory."`
	Traffic            int    `default:"20" help:"Sample events a second; 0: none."`
	config.EngineFlags `embed:"" group:"Worker:"`
	Admin              config.AdminFlags `embed:"" group:"Admin server:"`
	Console            consoleAddrFlag   `embed:"" group:"Console:"`
	Log                config.LogFlags   `embed:"" group:"Log:"`
}

func (*devCommand) Help() string {
	return `An embedded Kafka broker, a local IM server that limits calls like the real one, the
worker, its admin server, the group's console, and a few hundred users who send each other messages
and read them.

    markread dev
    markread dev --traffic 0 --data-dir ./data
    markread dev --traffic 500 --rate 50        # events collapse` + variablesHelp
}

const maxTraffic = 10_000

func (c *devCommand) validate(env config.Environment) error {
	for _, a := range []struct{ flag, addr string }{{"--kafka-addr", c.KafkaAddr},
		{"--im-addr", c.IMAddr}} {
		if _, _, err := config.SplitAddr(a.addr); err != nil {
			return config.Usagef("%s: %v", a.flag, err)
		}
	}
	if c.Traffic < 0 || c.Traffic > maxTraffic {
		return config.Usagef("--traffic must be between 0 and %d", maxTraffic)
	}
	if err := c.EngineFlags.Check(app.DevIMTimeout); err != nil {
		return err
	}
	return cmp.Or(c.Console.check(), c.Admin.Check(env))
}

func (c *devCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	token, err := p.env.Secret(config.AdminToken)
	if err != nil {
		return err
	}
	p.beginService(c.Log)
	worker := c.Options(app.DevIMTimeout, p.log)
	worker.Version, worker.Commit = build()
	return app.Dev(ctx, app.DevOptions{
		KafkaAddr: c.KafkaAddr, IMAddr: c.IMAddr, AdminAddr: c.Admin.AdminAddr,
		ConsoleAddr: c.Console.ConsoleAddr, AdminToken: token, DataDir: c.DataDir,
		Traffic: c.Traffic, Worker: worker, Settings: p.settings,
		Started: func(at app.DevAddrs) { c.summary(p, at) },
	})
}

// summary prints what listens where, and what to try next.
func (c *devCommand) summary(p *process, at app.DevAddrs) {
	data := "in memory; --data-dir DIR keeps its data"
	if c.DataDir != "" {
		data = "data in " + c.DataDir
	}
	sample := "none; --traffic N makes N events a second"
	if c.Traffic > 0 {
		sample = fmt.Sprintf("%d events a second by %d users", c.Traffic, app.TrafficUsers)
	}
	look := fmt.Sprintf("http://%s/sandbox/read-time?report=%s&peer=%s", at.IM, app.DevReader,
		app.DevSender)
	program := programName()
	t := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "\nmarkread dev: everything runs on this machine. Ctrl-C stops it.\n\n")
	fmt.Fprintf(t, "  console\thttp://%s/\tthe group: overview, dead letters, settings\n",
		at.Console)
	fmt.Fprintf(t, "  worker\thttp://%s/\tits own page; also /metrics, /api/state\n", at.Admin)
	fmt.Fprintf(t, "  IM server\thttp://%s/sandbox\tlocal, app %d, %s\n", at.IM, app.LocalAppID,
		format.Rate(app.VendorRate))
	fmt.Fprintf(t, "  Kafka\t%s\tembedded, %s\n", at.Kafka, data)
	fmt.Fprintf(t, "  traffic\t%s\n", sample)
	_ = t.Flush()
	fmt.Fprintf(p.stdout, "\nTry, in another terminal (%s has sent %s %d messages):\n\n",
		app.DevSender, app.DevReader, app.DevMessages)
	t = tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "  unread?\tcurl -s '%s'\n", look)
	fmt.Fprintf(t, "  read them\t%s emit --brokers %s --report %s --peer %s\n", program, at.Kafka,
		app.DevReader, app.DevSender)
	fmt.Fprintf(t, "  unread now?\tthe first line again\n")
	fmt.Fprintf(t, "  in bulk\tprintf 'Report_Account,Peer_Account\\n%s,%s\\n' | %s backfill "+
		"--brokers %s --read-time now -\n", app.DevReader, app.DevSender, program, at.Kafka)
	fmt.Fprintf(t, "  one call\tenv -u MARKREAD_IM_KEY_FILE MARKREAD_IM_KEY=%s %s call --im-url "+
		"http://%s --im-app-id %d --report %s --peer %s\n",
		app.LocalKey, program, at.IM, app.LocalAppID, app.DevReader, app.DevSender)
	fmt.Fprintf(t, "  an outage\tcurl -s -X PUT http://%s/sandbox/faults -d "+
		"'{\"rules\":[{\"kind\":\"status\",\"status\":502,\"for\":\"1m\"}]}'\n", at.IM)
	fmt.Fprintf(t, "  a failure\t%s emit --brokers %s --report nobody --peer %s; sleep 1; %s "+
		"dead-letters ls --brokers %s\n", program, at.Kafka, app.DevSender, program, at.Kafka)
	fmt.Fprintf(t, "  how is it?\t%s status --brokers %s --admin-url http://%s\n", program,
		at.Kafka, at.Admin)
	flag := adminURL(at.Admin)
	fmt.Fprintf(t, "  hold it\t%s pause%s\n", program, flag)
	fmt.Fprintf(t, "  resume it\t%s resume%s\n\n", program, flag)
	_ = t.Flush()
}

// adminURL returns the flag for the worker whose admin server is at addr; "" if it is the default.
func adminURL(addr string) string {
	if addr == "127.0.0.1:8780" {
		return ""
	}
	return " --admin-url http://" + addr
}

// programName returns the command with which the user runs this program.
func programName() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/markread"
	}
	return os.Args[0]
}

// sandboxCommand runs the local IM server.
type sandboxCommand struct {
	Addr  string `default:"127.0.0.1:8790" help:"Address to listen on."`
	AppID int64  `name:"app-id" default:"1400000000" help:"SDKAppID of the simulated app."`
	Rate  int    `default:"200" help:"Calls in any second above which it responds with 60007; 0: no limit."`
}

func (*sandboxCommand) Help() string {
	kinds := strings.Trim(fmt.Sprint(sandbox.Kinds()), "[]")
	return `The key of its app is MARKREAD_IM_KEY, or "` + app.LocalKey + `" if that is not set.
Every account exists, except names that begin with "nobody". /sandbox shows the calls that it has
received.

    markread sandbox
    env -u MARKREAD_IM_KEY_FILE MARKREAD_IM_KEY=` + app.LocalKey + ` \
      markread call --im-url http://127.0.0.1:8790 --im-app-id 1400000000 --report alice --peer bob

PUT /sandbox/faults makes it fail: here a third of the calls for a minute. {} removes all faults.
The kinds are ` + kinds + `.

    curl -X PUT http://127.0.0.1:8790/sandbox/faults \
      -d '{"rules":[{"kind":"code","code":60007,"share":0.33,"for":"1m"}]}'`
}

func (c *sandboxCommand) run(ctx context.Context, p *process) error {
	if _, _, err := config.SplitAddr(c.Addr); err != nil {
		return config.Usagef("--addr: %v", err)
	}
	switch {
	case c.AppID <= 0:
		return config.Usagef("--app-id must be positive")
	case c.Rate < 0:
		return config.Usagef("--rate must not be negative")
	}
	key, err := p.env.Secret(config.IMKey)
	if err != nil {
		return err
	}
	keyText := "from " + config.IMKey
	switch {
	case key.IsZero():
		key, keyText = imclient.NewSecret(app.LocalKey), app.LocalKey
	case p.env.Values[config.IMKey+"_FILE"] != "":
		keyText += "_FILE"
	}
	p.beginService(config.LogFlags{LogLevel: "info"})
	im := sandbox.New(sandbox.Options{AppID: c.AppID, Admin: app.LocalAdmin, Key: key, Rate: c.Rate,
		OpenAccounts: true})
	server, err := app.ServeSandbox("--addr", c.Addr, im, p.log)
	if err != nil {
		return err
	}
	addr := console.DialAddr(server.Addr)
	fmt.Fprintf(p.stdout, "IM sandbox  http://%s  app %d, admin %s, %s\nkey         %s\ncalls    "+
		"   http://%s/sandbox\n", addr, c.AppID, app.LocalAdmin, format.Rate(c.Rate), keyText, addr)
	return server.Run(ctx)
}
