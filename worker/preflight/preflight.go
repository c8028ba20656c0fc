// Package preflight checks, before a deployment, whether a worker with a certain configuration
// would work. It checks brokers, topics, permissions, the group, its lag, the IM server and its
// clock, and this machine. The result is values ([Report]); it does not print them.
//
// It changes nothing: it writes no record, commits no offset, creates no topic, joins no group, and
// asks the IM server only for the number of unread messages of an account. It ends within half a
// minute, even if nothing responds. A check that is impossible because another one failed is
// reported as not checked, not as wrong.
package preflight

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
)

// checkLimit limits the whole check. A server that has not responded by then counts as not
// responding.
const checkLimit = 20 * time.Second

// Options is the configuration of the worker to check.
type Options struct {
	Kafka        *kafkaclient.Client
	Brokers      []string // HOST:PORT
	SASL         string   // the mechanism; "": no authentication
	TLS          bool
	Connection   string // authentication and TLS, in a few words
	Topics       event.Topics
	CreateTopics bool
	Group        string
	Rate         int // calls a second; 0: no limit
	Calls        int // the largest number of calls in flight

	IM      *imclient.Client
	IMURL   string
	IMAdmin string

	AdminAddr         string
	Secrets           Findings          // warnings about secrets
	SecretFiles       map[string]string // paths, by the flag or variable that names them
	ClientCertificate *x509.Certificate // nil: none
}

// checker collects the findings of a report.
type checker struct {
	Options
	ctx      context.Context // of the whole
	mu       sync.Mutex
	findings [aspects]Findings
}

// The aspects are checked concurrently. A report has them in this order.
const (
	aboutBrokers = iota
	aboutTopics
	aboutGroup
	aboutLag
	aboutIM
	aboutMachine
	aspects
)

// Run makes all checks, concurrently unless one needs another. If ctx ends, the report has the
// findings from before.
func Run(ctx context.Context, o Options) *Report {
	e := &checker{Options: o, ctx: ctx}
	limited, cancel := context.WithTimeoutCause(ctx, checkLimit,
		fmt.Errorf("no response within %s", checkLimit))
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { e.checkKafka(limited) })
	all.Go(func() { e.report(aboutIM, e.checkIM(limited)) })
	all.Go(func() { e.report(aboutMachine, e.checkMachine(limited)) })
	all.Wait()
	return ReportOf(time.Now(), e.findings[:]...)
}

// report records the findings of an aspect, unless ctx has ended: then they are only about that.
func (e *checker) report(aspect int, found Findings) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() == nil {
		e.findings[aspect] = found
	}
}

// checkKafka checks the brokers, then the topics, the group and its lag.
func (e *checker) checkKafka(ctx context.Context) {
	brokers := admin.DescribeBrokers(ctx, e.Kafka)
	e.report(aboutBrokers, brokerFindings(brokers, e.Connection))
	if !slices.ContainsFunc(brokers, usable) {
		e.skip("no broker is usable", aboutTopics, aboutGroup, aboutLag)
		return
	}
	members := slices.DeleteFunc(brokers, func(b admin.DescribedBroker) bool { return !b.Listed() })
	missing := slices.ContainsFunc(members,
		func(b admin.DescribedBroker) bool { return !usable(b) })
	var parts sync.WaitGroup
	defer parts.Wait()
	leaders := slices.ContainsFunc(members, usable)
	if !leaders {
		e.skip("no broker is usable at its advertised address", aboutGroup, aboutLag)
	}
	parts.Go(func() {
		views, err := admin.DescribeTopics(ctx, e.Kafka, e.Topics, e.CreateTopics)
		if err != nil {
			e.report(aboutTopics, forEachTopic(Wrong, "topic", e.Topics,
				"it can't be described: "+causeText(err),
				"check the brokers, and the network between them and this machine; then check "+
					"again"))
			e.skip("the topics can't be described", aboutLag)
			return
		}
		e.report(aboutTopics, topicFindings(e.Topics, views, e.CreateTopics))
		if leaders {
			e.report(aboutLag, e.checkLag(ctx, views))
		}
	})
	if leaders {
		parts.Go(func() {
			view, err := consumer.DescribeGroup(ctx, e.Kafka, e.Group)
			if err != nil && missing && !kafkaclient.Denied(err) {
				e.skip("a broker is missing, which may be the one that coordinates it", aboutGroup)
				return
			}
			e.report(aboutGroup, groupFindings(e.Options, view, err))
		})
	}
}

// skip reports why some aspects of Kafka were not checked.
func (e *checker) skip(why string, aspects ...int) {
	for _, aspect := range aspects {
		var all Findings
		switch topics := e.Topics; aspect {
		case aboutTopics:
			all = forEachTopic(NotChecked, "topic", topics, why, "")
		case aboutGroup:
			all = Findings{NotChecked("group", e.Group, why, "")}
		case aboutLag:
			topics.DeadLetter = ""
			all = forEachTopic(NotChecked, "lag", topics, why, "")
		}
		e.report(aspect, all)
	}
}

// forEachTopic returns the same finding for each topic.
func forEachTopic(make func(check, subject, found, do string) Finding, check string,
	topics event.Topics, found, do string) (all Findings) {
	for _, name := range []string{topics.Live, topics.Backfill, topics.DeadLetter} {
		if name != "" {
			all.Add(make(check, name, found, do))
		}
	}
	return all
}

// checkLag checks the group's lag in the event topics that exist and can be described.
func (e *checker) checkLag(ctx context.Context, views []admin.DescribedTopic) Findings {
	lags := make([]Findings, len(views))
	var parts sync.WaitGroup
	for i, v := range views {
		if v.Err == nil && !v.Missing && v.Name != e.Topics.DeadLetter {
			parts.Go(func() {
				lag, err := admin.Lag(ctx, e.Kafka, e.Group, v.Name)
				lags[i] = lagFindings(v, lag, err, time.Now())
			})
		}
	}
	parts.Wait()
	return slices.Concat(lags...)
}

// checkIM makes a call that changes nothing. Like a worker, it repeats the call with a new
// signature if it may have failed because of an old one.
func (e *checker) checkIM(ctx context.Context) Findings {
	call := Call{URL: e.IMURL, proxy: e.IM.Proxy(), admin: e.IMAdmin}
	for {
		call.Sent = time.Now()
		call.Answer, call.Err = e.IM.Post(ctx, imclient.CommandUnread,
			imclient.Unread{Account: e.IMAdmin})
		call.Received = time.Now()
		var failure *imclient.Error
		if !errors.As(call.Err, &failure) || !failure.RetryWithNewSignature {
			return CallFindings(call)
		}
	}
}
