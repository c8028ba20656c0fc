package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer"
	"markread/imclient"
)

// checkCommand looks at everything that a worker with this configuration needs.
type checkCommand struct {
	JSON        bool `name:"json" help:"Print one JSON document."`
	workerFlags `embed:""`
}

// Help is kong's: what follows the summary.
func (*checkCommand) Help() string {
	return `Before a deployment: it takes the configuration of "markread run", asks Kafka and the IM server, and prints a line for each thing that it has
looked at: WRONG (it would not work), warning, "not checked", ok; with what to do below it. What is wrong comes first. The exit status is 1 if
something is wrong, else 0.

It changes nothing: it writes no record, commits no offset, makes no topic, joins no group, and asks the IM server only how many messages the
account of --im-admin has not read. It ends within half a minute, whatever does not answer.

    export MARKREAD_IM_KEY_FILE=/run/secrets/im-key
    markread check --brokers kafka:9092 --im-url singapore --im-app-id 1400000000
    markread check --json | jq -r '.checks[] | select(.result == "wrong") | .do'

With the worker's environment (a container's, or systemd's EnvironmentFile=) it needs no flags, and checks just that deployment, from where it is
run: the names, the routes and the firewalls of another machine may be others. The JSON document has "ok", "wrong", "warnings", "not_checked" (how
many) and "checks"; README.md has all of its names.` + variablesHelp
}

// checkLimit bounds a whole check. What has not answered by then does not.
const checkLimit = 20 * time.Second

func (c *checkCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	im, err := c.imFlags.client(p.env, 1)
	if err != nil {
		return err
	}
	defer im.Close()
	options, err := c.kafkaFlags.options(p.env)
	if err != nil {
		return err
	}
	p.begin(c.Log)
	c.warn(p)
	p.takeStandardLog(im.Mask)
	if options.Log = zerolog.Nop(); c.Log.LogLevel == "debug" { // what fails is in the report, once
		options.Log = p.log
	}
	kafka, err := consumer.New(options)
	if err != nil {
		return usagef("--brokers: %v", err)
	}
	defer kafka.Close()
	report := (&examination{flags: &c.workerFlags, env: p.env, kafka: kafka, im: im}).report(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if c.JSON {
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = report.print(p.stdout)
	}
	if err != nil {
		return err
	}
	return report.failure()
}

// examination is what a report is made from.
type examination struct {
	flags *workerFlags
	env   environment
	kafka *consumer.Client
	im    *imclient.Client
}

// report asks everything at once, as far as one thing does not need another.
func (e *examination) report(ctx context.Context) *checkReport {
	ctx, cancel := context.WithTimeoutCause(ctx, checkLimit, fmt.Errorf("no answer within %s", checkLimit))
	defer cancel()
	var kafka, im, here findings
	var parts sync.WaitGroup
	parts.Go(func() { kafka = e.askKafka(ctx) })
	parts.Go(func() { im = e.askIM(ctx) })
	parts.Go(func() { here = e.lookHere(ctx) })
	parts.Wait()
	return reportOf(time.Now(), kafka, im, here)
}

// askKafka goes from the brokers to what they keep. What a refused or an absent one could not be asked is said once.
func (e *examination) askKafka(ctx context.Context) findings {
	brokers := e.kafka.InspectBrokers(ctx)
	all := judgeBrokers(brokers, e.flags.connection())
	if !anyAnswers(brokers) {
		return append(all, notChecked("Kafka", "topics, group, lag", "no broker can be asked", ""))
	}
	topics := e.flags.topics()
	var views []consumer.TopicView
	var described, grouped findings
	var asked error
	var parts sync.WaitGroup
	parts.Go(func() {
		if views, asked = e.kafka.InspectTopics(ctx, topics, e.flags.CreateTopics); asked != nil {
			found, _ := unreachable(asked)
			described = findings{wrong("topics", "", "they can't be described: "+found,
				"look at the brokers, and at the network between them and here; then check again")}
			return
		}
		described = judgeTopics(topics, views, e.flags.CreateTopics)
	})
	parts.Go(func() {
		view, err := e.kafka.DescribeGroup(ctx, e.flags.Group)
		grouped = judgeGroup(e.flags, view, err)
	})
	parts.Wait()
	all = append(append(all, described...), grouped...)
	if asked == nil {
		all.add(e.askLag(ctx, views)...)
	}
	return all
}

// askLag asks how far the group is behind in the event topics, as far as it is known that they are there and may be asked.
func (e *examination) askLag(ctx context.Context, views []consumer.TopicView) findings {
	lags := make([]findings, len(views))
	var parts sync.WaitGroup
	for i, v := range views {
		if v.Err == nil && !v.Missing && v.Name != e.flags.DeadLetterTopic {
			parts.Go(func() {
				lag, err := e.kafka.Lag(ctx, e.flags.Group, v.Name)
				lags[i] = judgeLag(v, lag, err, time.Now())
			})
		}
	}
	parts.Wait()
	var all findings
	for _, l := range lags {
		all.add(l...)
	}
	return all
}

// askIM makes a call that changes nothing, and once more if the first may have failed for an old signature, as a worker does.
func (e *examination) askIM(ctx context.Context) findings {
	call := imCall{url: e.flags.IMURL, proxy: e.im.Proxy(), admin: e.flags.IMAdmin}
	for {
		call.sent = time.Now()
		call.answer, call.err = e.im.Post(ctx, imclient.CommandUnread, imclient.Unread{Account: e.flags.IMAdmin})
		call.came = time.Now()
		var failure *imclient.Error
		if !errors.As(call.err, &failure) || !failure.Resigned {
			return judgeCall(call)
		}
	}
}

// connection says in a few words how brokers are talked to.
func (f *kafkaFlags) connection() string {
	var words []string
	if f.SASL != "" {
		words = append(words, "user "+f.SASLUser+" by "+f.SASL)
	}
	if f.TLS {
		words = append(words, "over TLS")
	}
	return strings.Join(words, " ")
}
