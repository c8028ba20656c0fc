package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
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
looked at: WRONG (mend it before a worker runs), warning, "not checked", ok; with what to do below it. What is wrong comes first. The exit status is 1 if
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
	p.log = p.newLogger(c.Log)
	p.warnOfUnknown()
	c.warn(p)
	p.takeStandardLog(im.Mask)
	if options.Log = zerolog.Nop(); c.Log.LogLevel == "debug" { // what fails is in the report, once
		options.Log = p.log
	}
	kafka, err := kafkaclient.New(options)
	if err != nil {
		return usagef("--brokers: %v", err)
	}
	defer kafka.Close()
	report := (&examination{flags: &c.workerFlags, env: p.env, kafka: kafka, im: im}).report(ctx)
	interrupted := ctx.Err() != nil
	switch {
	case c.JSON && interrupted: // half a document says less than none
	case c.JSON:
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	default:
		err = report.print(p.stdout)
	}
	if err == nil && interrupted {
		err = errInterrupted
	}
	return cmp.Or(err, report.failure())
}

var errInterrupted = errors.New("interrupted: the rest was not looked at")

// examination is what a report is made from.
type examination struct {
	flags *workerFlags
	env   environment
	kafka *kafkaclient.Client
	im    *imclient.Client

	mu    sync.Mutex
	parts [aspects]findings
}

// aspects are what is asked about at the same time, in the order in which a report has them.
const (
	aboutBrokers = iota
	aboutTopics
	aboutGroup
	aboutLag
	aboutIM
	aboutHere
	aspects
)

// report asks everything at once, as far as one thing does not need another. When ctx ends, it has what was known before.
func (e *examination) report(ctx context.Context) *checkReport {
	limited, cancel := context.WithTimeoutCause(ctx, checkLimit, fmt.Errorf("no answer within %s", checkLimit))
	defer cancel()
	tell := func(aspect int, found findings) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if ctx.Err() == nil { // else it is about the interruption
			e.parts[aspect] = found
		}
	}
	var all sync.WaitGroup
	all.Go(func() { e.askKafka(limited, tell) })
	all.Go(func() { tell(aboutIM, e.askIM(limited)) })
	all.Go(func() { tell(aboutHere, e.lookHere(limited)) })
	all.Wait()
	return reportOf(time.Now(), e.parts[:]...)
}

// askKafka goes from the brokers to what they keep. What can't be asked because of something that is found to be wrong is not wrong, too.
func (e *examination) askKafka(ctx context.Context, tell func(aspect int, found findings)) {
	brokers := admin.DescribeBrokers(ctx, e.kafka)
	tell(aboutBrokers, judgeBrokers(brokers, e.flags.connection()))
	if !slices.ContainsFunc(brokers, usable) {
		e.unasked("no broker can be asked", tell, aboutTopics, aboutGroup, aboutLag)
		return
	}
	members := slices.DeleteFunc(brokers, func(b admin.DescribedBroker) bool { return !b.Listed() })
	missing := slices.ContainsFunc(members, func(b admin.DescribedBroker) bool { return !usable(b) })
	var parts sync.WaitGroup
	defer parts.Wait()
	leaders := slices.ContainsFunc(members, usable)
	if !leaders {
		e.unasked("no broker can be asked at the address that the cluster has for it", tell, aboutGroup, aboutLag)
	}
	parts.Go(func() {
		views, err := admin.DescribeTopics(ctx, e.kafka, e.flags.topics(), e.flags.CreateTopics)
		if err != nil {
			tell(aboutTopics, ofEach(wrong, "topic", e.flags.topics(),
				"it can't be described: "+whyNot(err),
				"look at the brokers, and at the network between them and here; then check again"))
			e.unasked("the topics can't be described", tell, aboutLag)
			return
		}
		tell(aboutTopics, judgeTopics(e.flags.topics(), views, e.flags.CreateTopics))
		if leaders {
			tell(aboutLag, e.askLag(ctx, views))
		}
	})
	if leaders {
		parts.Go(func() {
			view, err := consumer.DescribeGroup(ctx, e.kafka, e.flags.Group)
			if err != nil && missing && !kafkaclient.Denied(err) {
				e.unasked("a broker is missing, which may be the one that coordinates it", tell, aboutGroup)
				return
			}
			tell(aboutGroup, judgeGroup(e.flags, view, err))
		})
	}
}

// unasked tells why some of Kafka's part was not looked at.
func (e *examination) unasked(why string, tell func(aspect int, found findings), aspects ...int) {
	for _, aspect := range aspects {
		var all findings
		switch topics := e.flags.topics(); aspect {
		case aboutTopics:
			all = ofEach(notChecked, "topic", topics, why, "")
		case aboutGroup:
			all.add(notChecked("group", e.flags.Group, why, ""))
		case aboutLag:
			topics.DeadLetter = ""
			all = ofEach(notChecked, "lag", topics, why, "")
		}
		tell(aspect, all)
	}
}

// ofEach is the same finding of each topic.
func ofEach(make func(check, subject, found, do string) finding, check string, topics event.Topics, found, do string) (all findings) {
	for _, name := range []string{topics.Live, topics.Backfill, topics.DeadLetter} {
		if name != "" {
			all.add(make(check, name, found, do))
		}
	}
	return all
}

// askLag asks how far the group is behind in the event topics, as far as it is known that they are there and may be asked.
func (e *examination) askLag(ctx context.Context, views []admin.DescribedTopic) findings {
	lags := make([]findings, len(views))
	var parts sync.WaitGroup
	for i, v := range views {
		if v.Err == nil && !v.Missing && v.Name != e.flags.DeadLetterTopic {
			parts.Go(func() {
				lag, err := admin.Lag(ctx, e.kafka, e.flags.Group, v.Name)
				lags[i] = judgeLag(v, lag, err, time.Now())
			})
		}
	}
	parts.Wait()
	return slices.Concat(lags...)
}

// askIM makes a call that changes nothing, and once more if the first may have failed for an old signature, as a worker does.
func (e *examination) askIM(ctx context.Context) findings {
	call := imCall{url: e.flags.IMURL, proxy: e.im.Proxy(), admin: e.flags.IMAdmin}
	for {
		call.sent = time.Now()
		call.answer, call.err = e.im.Post(ctx, imclient.CommandUnread, imclient.Unread{Account: e.flags.IMAdmin})
		call.came = time.Now()
		var failure *imclient.Error
		if !errors.As(call.err, &failure) || !failure.RetryWithNewSignature {
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
