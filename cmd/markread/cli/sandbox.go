package cli

import (
	"context"
	"fmt"
	"strings"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker/console"
	"markread/worker/format"
)

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
