package cli

import (
	"context"
	"fmt"
	"strings"

	"markread/cmd/markread/cli/config"
	"markread/worker/console"
	"markread/worker/format"
)

// pauseCommand holds the calls of one worker.
type pauseCommand struct {
	adminURLFlag
}

func (*pauseCommand) Help() string {
	return `Events wait, nothing is dead-lettered because of it, and the worker stays in its
group. It lasts until markread resume, or until that process ends. The other workers of the group go
on: pause each of them. What holds the worker then is printed.

    markread pause
    markread pause --admin-url https://markread-0.example.com
    kubectl exec markread-0 -- markread pause` + adminHelp
}

// adminHelp belongs to the help of every command with an --admin-url.
const adminHelp = `

If the worker has an admin token, it must be in MARKREAD_ADMIN_TOKEN, or in a file that MARKREAD_ADMIN_TOKEN_FILE names. It is sent with TLS or
within this machine only: use https, or a tunnel (kubectl port-forward, ssh -L).`

func (c *pauseCommand) run(ctx context.Context, p *process) error {
	before, now, err := c.command(ctx, p, "/api/pause")
	if err != nil {
		return err
	}
	mine, others := now.Paused()
	if mine == nil {
		return fmt.Errorf("not paused: somebody has resumed it meanwhile%s",
			list("; held: ", others))
	}
	was := ""
	if earlier, _ := before.Paused(); earlier != nil {
		was = "it was already "
	}
	_, err = fmt.Fprintf(p.stdout, "%s%s, until markread resume%s\n", was, mine,
		list("; also held: ", others))
	return err
}

// resumeCommand lets a worker go on.
type resumeCommand struct {
	adminURLFlag
	AcceptRejections bool `help:"Also end holds for rejections: the next 10,000 rejected or invalid events become dead letters, then it holds again if need be."`
}

func (*resumeCommand) Help() string {
	return `It ends the pause of an operator. Other holds end by themselves when their cause
does; only one for rejections can be ended from here, when they are right: the events are wrong, and
dead letters are where they belong. What holds the worker then is printed.

    markread resume
    markread resume --accept-rejections
    kubectl exec markread-0 -- markread resume` + adminHelp
}

func (c *resumeCommand) run(ctx context.Context, p *process) error {
	path := "/api/resume"
	if c.AcceptRejections {
		path += "?accept-rejections=true"
	}
	before, now, err := c.command(ctx, p, path)
	if err != nil {
		return err
	}
	mine, others := now.Paused()
	if mine != nil {
		return fmt.Errorf("not resumed: somebody has paused it again%s",
			list("; also held: ", others))
	}
	var text strings.Builder
	if was, _ := before.Paused(); was != nil {
		fmt.Fprintf(&text, "no longer paused (it was since %s); ", format.Time(was.Since))
	} else {
		text.WriteString("it was not paused; ")
	}
	switch {
	case len(others) > 0:
		fmt.Fprintf(&text, "still held%s\n", list(": ", others))
	case !*now.Ready:
		text.WriteString("no calls yet: the worker is no member of its group at the moment\n")
	default:
		text.WriteString("calls go on\n")
	}
	switch accepted, still := before.HeldForRejections(), now.HeldForRejections(); {
	case c.AcceptRejections && !accepted:
		text.WriteString("no lane was held for rejections, so nothing was accepted\n")
	case c.AcceptRejections && still:
		text.WriteString("10,000 were accepted and become dead letters; the lane is held again, " +
			"for more are rejected or invalid\n")
	case c.AcceptRejections:
		text.WriteString("accepted: up to 10,000 rejected or invalid events of the lane that was " +
			"held become dead letters\n")
	case still:
		text.WriteString("if the rejections are right: markread resume --accept-rejections\n")
	}
	_, err = fmt.Fprint(p.stdout, &text)
	return err
}

// command gives a worker a command, and returns what held it before and what holds it then.
func (f *adminURLFlag) command(ctx context.Context, p *process, path string) (before,
	now console.Readiness, err error) {
	client, err := f.client(p.env)
	if err != nil {
		return before, now, err
	}
	p.begin(config.LogFlags{LogLevel: "info"})
	if before, err = client.Readiness(ctx); err == nil {
		now, err = client.Command(ctx, path)
	}
	return before, now, err
}

// list is the holds after an introduction, or nothing.
func list(introduction string, holds []console.ActiveHold) string {
	if len(holds) == 0 {
		return ""
	}
	var texts []string
	for _, h := range holds {
		texts = append(texts, h.String())
	}
	return introduction + strings.Join(texts, ", ")
}

// adminURLFlag is the worker that a command is about, named by its admin server. It is a command's
// own flag, without a variable: what pauses which worker stands on the command line.
type adminURLFlag struct {
	AdminURL *string `name:"admin-url" placeholder:"URL" help:"Admin server of the worker; without it the one of this machine: http://127.0.0.1 and the port of MARKREAD_ADMIN_ADDR, else 8780."`
}

// or is the flag, or its default: where the worker's own variables are set, its address is known.
func (f *adminURLFlag) or(env config.Environment) (string, error) {
	if f.AdminURL != nil {
		return *f.AdminURL, nil
	}
	addr := env.Values["MARKREAD_ADMIN_ADDR"]
	if what, do := config.Flaw(addr); what != "" {
		return "", config.Usagef("MARKREAD_ADMIN_ADDR %s: %s", what, do)
	}
	if _, port, err := config.SplitAddr(addr); err != nil || port == 0 {
		return "http://127.0.0.1:8780", nil
	}
	return "http://" + console.DialAddr(addr), nil
}

// client makes a client with the token of the environment.
func (f *adminURLFlag) client(env config.Environment) (*console.Client, error) {
	given, err := f.or(env)
	if err != nil {
		return nil, err
	}
	token, err := env.AdminToken()
	if err != nil {
		return nil, err
	}
	client, err := console.NewClient(given, token)
	if err != nil {
		return nil, &config.UsageError{Text: err.Error()}
	}
	return client, nil
}
