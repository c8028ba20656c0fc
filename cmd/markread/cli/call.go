package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"markread/cmd/markread/cli/config"
	"markread/imclient"
)

// callCommand makes one API call.
type callCommand struct {
	Report   string  `required:"" placeholder:"ACCOUNT" help:"Who has read."`
	Peer     string  `required:"" placeholder:"ACCOUNT" help:"Whose messages were read."`
	ReadTime *string `placeholder:"SECONDS" help:"All up to this second since 1970 is read; default: now."`

	IM config.IMFlags `embed:"" group:"IM API:"`
}

func (*callCommand) Help() string {
	return `It shows the request without its signature, the response, and its meaning. The exit
status is 0 if ErrorCode is 0, else 1.

    export MARKREAD_IM_KEY_FILE=/run/secrets/im-key
    markread call --im-app-id 1400000000 --report alice --peer bob` + variablesHelp
}

func (c *callCommand) run(ctx context.Context, p *process) error {
	readTime, err := checkReadFlags(c.Report, c.Peer, c.ReadTime)
	if err != nil {
		return err
	}
	if err := c.IM.Check(); err != nil {
		return err
	}
	im, err := c.IM.Client(p.env, 1)
	if err != nil {
		return err
	}
	defer im.Close()
	p.begin(config.LogFlags{LogLevel: "info"})
	p.takeStandardLog(im.Mask)
	request := imclient.Read{Report: c.Report, Peer: c.Peer, Time: time.Now().Unix()}
	if readTime != nil {
		request.Time = *readTime
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "POST %s/v4/%s?sdkappid=%d&identifier=%s&usersig=[secret]&"+
		"random=[random]&contenttype=json\n%s\n\n",
		c.IM.IMURL, imclient.CommandMarkRead, c.IM.IMAppID, c.IM.IMAdmin, body)
	start := time.Now()
	answer, err := im.Post(ctx, imclient.CommandMarkRead, request)
	return c.show(p.stdout, answer, err, time.Since(start))
}

// show prints the response and its meaning. It returns an error unless the ErrorCode is 0.
func (c *callCommand) show(w io.Writer, answer imclient.Response, err error,
	took time.Duration) error {
	if answer.Status != 0 {
		fmt.Fprintf(w, "HTTP %d after %d ms\n%s\n\n", answer.Status, took.Milliseconds(),
			answer.Body)
	}
	if err == nil {
		fmt.Fprintln(w, "ErrorCode 0: the conversation is read up to that time.")
		return nil
	}
	var failure *imclient.Error
	if !errors.As(err, &failure) {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if failure.ErrorCode != 0 {
		fmt.Fprintf(t, "ErrorCode\t%d\n", failure.ErrorCode)
	} else {
		fmt.Fprintf(t, "failure\t%s\n", failure.Label)
	}
	fmt.Fprintf(t, "meaning\t%s\n", failure.Meaning())
	fmt.Fprintf(t, "what to do\t%s\n", failure.Remedy())
	fmt.Fprintf(t, "the worker\t%s\n", workerReaction(failure.Class))
	if row, known := imclient.LookUp(failure.ErrorCode); failure.ErrorCode != 0 && known {
		fmt.Fprintf(t, "source\thttps://%s\n", row.Source)
	}
	if failure.Err != nil {
		fmt.Fprintf(t, "cause\t%v\n", failure.Err)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return fmt.Errorf("the call failed: %s", failure.Label)
}

// workerReaction describes what the worker does about a failure of a class.
func workerReaction(class imclient.Class) string {
	switch class {
	case imclient.Throttled:
		return "would retry with backoff; not counted, so never a dead letter (throttled)"
	case imclient.Held:
		return "would hold all calls and probe now and then, until the cause is fixed (held)"
	case imclient.Rejected:
		return "would write a dead letter immediately (rejected)"
	default:
		return "would retry with backoff; a dead letter only after --attempts failures while " +
			"other conversations get responses (transient)"
	}
}
