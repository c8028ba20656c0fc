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
	Reason string `placeholder:"TEXT" help:"Why, for the log and the console."`
}

func (*pauseCommand) Help() string {
	return `Events wait, no event is dead-lettered because of it, and the worker stays in its group.
The pause ends with markread resume, or with the worker's process. The other workers of the group
are not paused: pause each of them. The worker's holds are printed.

    markread pause
    markread pause --reason "deploying the fix"
    markread pause --admin-url https://markread-0.example.com
    kubectl exec PODNAME -- /markread pause` + adminHelp
}

// adminHelp is part of the help of every command with an --admin-url.
const adminHelp = `

If the worker has an admin token, it must be in MARKREAD_ADMIN_TOKEN, or in a file that
MARKREAD_ADMIN_TOKEN_FILE names. It is sent only over TLS or within this machine: use https, or a
tunnel (kubectl port-forward, ssh -L).`

func (c *pauseCommand) run(ctx context.Context, p *process) error {
	if err := console.CheckReason(c.Reason); err != nil {
		return config.Usagef("--reason: %s", err)
	}
	before, now, err := c.command(ctx, p, func(worker *console.Client) (console.Readiness, error) {
		return worker.Pause(ctx, c.Reason)
	})
	if err != nil {
		return err
	}
	paused, others := now.Paused()
	if paused == nil {
		return fmt.Errorf("not paused: somebody has resumed the worker meanwhile%s",
			formatHolds("; held: ", others))
	}
	was := ""
	if earlier, _ := before.Paused(); earlier != nil {
		was = "it was already "
	}
	_, err = fmt.Fprintf(p.stdout, "%s%s, until markread resume%s\n", was, paused,
		formatHolds("; also held: ", others))
	return err
}

// resumeCommand ends a worker's pause.
type resumeCommand struct {
	adminURLFlag
	AcceptRejections bool `help:"Also end holds for rejections, for the next 10,000 dead letters."`
}

func (*resumeCommand) Help() string {
	return `It ends an operator's pause. Other holds end by themselves when their cause does. Only a
hold for rejections can be ended here, if the rejections are correct because the events are wrong.
With --accept-rejections the next 10,000 rejected or invalid events become dead letters; then the
worker holds again if necessary. The worker's holds are printed.

    markread resume
    markread resume --accept-rejections
    kubectl exec PODNAME -- /markread resume` + adminHelp
}

func (c *resumeCommand) run(ctx context.Context, p *process) error {
	before, now, err := c.command(ctx, p, func(worker *console.Client) (console.Readiness, error) {
		return worker.Resume(ctx, c.AcceptRejections)
	})
	if err != nil {
		return err
	}
	paused, others := now.Paused()
	if paused != nil {
		return fmt.Errorf("not resumed: somebody has paused the worker again%s",
			formatHolds("; also held: ", others))
	}
	var text strings.Builder
	if was, _ := before.Paused(); was != nil {
		fmt.Fprintf(&text, "no longer paused (it was since %s); ", format.Time(was.Since))
	} else {
		text.WriteString("it was not paused; ")
	}
	switch {
	case len(others) > 0:
		fmt.Fprintf(&text, "still held%s\n", formatHolds(": ", others))
	case !*now.Ready:
		text.WriteString("no calls yet: the worker is not a member of its group at the moment\n")
	default:
		text.WriteString("calls continue\n")
	}
	switch accepted, still := before.HeldForRejections(), now.HeldForRejections(); {
	case c.AcceptRejections && !accepted:
		text.WriteString("no lane was held for rejections, so nothing was accepted\n")
	case c.AcceptRejections && still:
		text.WriteString("10,000 were accepted and become dead letters; the lane is held again, " +
			"because more are rejected or invalid\n")
	case c.AcceptRejections:
		text.WriteString("accepted: up to 10,000 rejected or invalid events of the lane that was " +
			"held become dead letters\n")
	case still:
		text.WriteString("if the rejections are correct: markread resume --accept-rejections\n")
	}
	_, err = fmt.Fprint(p.stdout, &text)
	return err
}

// command sends a command to a worker, and returns its holds before and after it.
func (f *adminURLFlag) command(ctx context.Context, p *process,
	send func(*console.Client) (console.Readiness, error)) (before, now console.Readiness,
	err error) {
	client, err := f.client(p.env)
	if err != nil {
		return before, now, err
	}
	p.begin(config.LogFlags{LogLevel: "info"})
	if before, err = client.Readiness(ctx); err == nil {
		now, err = send(client)
	}
	return before, now, err
}

// formatHolds returns the introduction and the holds; "" if there are none.
func formatHolds(introduction string, holds []console.ActiveHold) string {
	if len(holds) == 0 {
		return ""
	}
	var texts []string
	for _, h := range holds {
		texts = append(texts, h.String())
	}
	return introduction + strings.Join(texts, ", ")
}

// adminURLFlag names a worker by its admin server. It is a command's own flag, without a variable,
// so that the command line alone selects the worker to pause.
type adminURLFlag struct {
	AdminURL *string `name:"admin-url" placeholder:"URL" help:"default_admin_url_help"`
}

// orDefault returns the flag, or its default on this machine: the port of MARKREAD_ADMIN_ADDR,
// which is set if the command runs in the worker's environment, else 8780.
func (f *adminURLFlag) orDefault(env config.Environment) (string, error) {
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

// client returns a client with the token of the environment.
func (f *adminURLFlag) client(env config.Environment) (*console.Client, error) {
	given, err := f.orDefault(env)
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
