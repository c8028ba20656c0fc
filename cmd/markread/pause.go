package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// pauseCommand holds the calls of one worker.
type pauseCommand struct {
	adminURLFlag
}

// Help is kong's: what follows the summary.
func (*pauseCommand) Help() string {
	return `Events wait, nothing is dead-lettered because of it, and the worker stays in its group. It lasts until markread resume, or until that
process ends. The other workers of the group go on: pause each of them. What holds the worker then is printed.

    markread pause
    markread pause --admin-url https://markread-0.example.com
    kubectl exec markread-0 -- markread pause` + adminHelp
}

// adminHelp belongs to the help of every command with an --admin-url.
const adminHelp = `

If the worker has an admin token, it must be in MARKREAD_ADMIN_TOKEN, or in a file that MARKREAD_ADMIN_TOKEN_FILE names. It is sent with TLS or
within this machine only: use https, or a tunnel (kubectl port-forward, ssh -L).`

func (c *pauseCommand) run(ctx context.Context, p *process) error {
	now, err := c.command(ctx, p, "/api/pause")
	if err != nil {
		return err
	}
	mine, others := now.paused()
	if mine == nil {
		return fmt.Errorf("not paused: somebody has resumed it meanwhile%s", list("; held: ", others))
	}
	_, err = fmt.Fprintf(p.stdout, "%s, until markread resume%s\n", mine, list("; also held: ", others))
	return err
}

// resumeCommand lets a worker go on.
type resumeCommand struct {
	adminURLFlag
	AcceptRejections bool `help:"Also end holds for rejections: the next 10,000 rejected or invalid events become dead letters, then it holds again if need be."`
}

// Help is kong's: what follows the summary.
func (*resumeCommand) Help() string {
	return `It ends the pause of an operator. Other holds end by themselves when their cause does; only one for rejections can be ended from here, when
they are right: the events are wrong, and dead letters are where they belong. What holds the worker then is printed.

    markread resume
    markread resume --accept-rejections
    kubectl exec markread-0 -- markread resume` + adminHelp
}

func (c *resumeCommand) run(ctx context.Context, p *process) error {
	path := "/api/resume"
	if c.AcceptRejections {
		path += "?accept-rejections=true"
	}
	now, err := c.command(ctx, p, path)
	if err != nil {
		return err
	}
	mine, others := now.paused()
	switch {
	case mine != nil:
		return fmt.Errorf("not resumed: somebody has paused it again%s", list("; also held: ", others))
	case len(others) > 0:
		_, err = fmt.Fprintf(p.stdout, "not paused, but still held%s\n", list(": ", others))
	case !*now.Ready:
		_, err = fmt.Fprintln(p.stdout, "not paused; no calls yet: the worker is no member of its group at the moment")
	default:
		_, err = fmt.Fprintln(p.stdout, "not paused; calls go on")
	}
	rejections := func(h heldFor) bool { return h.Reason == "rejections" }
	if err != nil || !slices.ContainsFunc(others, rejections) {
		return err
	}
	if c.AcceptRejections {
		_, err = fmt.Fprintln(p.stdout, "10,000 were accepted and become dead letters; the lane is held again, for more are rejected or invalid")
	} else {
		_, err = fmt.Fprintln(p.stdout, "if the rejections are right: markread resume --accept-rejections")
	}
	return err
}

// command gives a command to the worker that the flag names.
func (f *adminURLFlag) command(ctx context.Context, p *process, path string) (heldNow, error) {
	client, err := f.client(p.env)
	if err != nil {
		return heldNow{}, err
	}
	p.begin(logFlags{LogLevel: "info"})
	return client.command(ctx, path)
}

// paused returns the operator's hold, nil if there is none, and the others.
func (h heldNow) paused() (mine *heldFor, others []heldFor) {
	for _, held := range *h.Held {
		if held.Reason == "paused" {
			mine = &held
			continue
		}
		others = append(others, held)
	}
	return mine, others
}

// list is the holds after an introduction, or nothing.
func list(introduction string, holds []heldFor) string {
	if len(holds) == 0 {
		return ""
	}
	var texts []string
	for _, h := range holds {
		texts = append(texts, h.String())
	}
	return introduction + strings.Join(texts, ", ")
}
