// Package preflight finds out, before a deployment, whether a worker with a certain configuration
// would work: brokers, topics, permissions, the group, its lag, the IM server and its clock, and
// this machine. What it finds is values ([Report]); how they are shown is the caller's business.
//
// It changes nothing: it writes no record, commits no offset, makes no topic, joins no group, and
// asks the IM server only how many messages an account has not read. It ends within half a minute,
// whatever does not answer. What can't be asked because of something that is wrong is not wrong,
// too, but not checked.
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

// checkLimit bounds a whole check. What has not answered by then does not.
const checkLimit = 20 * time.Second

// Options is the configuration of the worker that is to be.
type Options struct {
	Kafka        *kafkaclient.Client
	Brokers      []string // HOST:PORT
	SASL         string   // how to authenticate; "": not
	TLS          bool
	Connection   string // how brokers are talked to, in a few words
	Topics       event.Topics
	CreateTopics bool
	Group        string
	Rate         int // calls a second; 0: no limit
	Calls        int // at the same time

	IM      *imclient.Client
	IMURL   string
	IMAdmin string

	AdminAddr         string
	Secrets           Findings          // what is odd about secrets
	SecretFiles       map[string]string // paths, by what names them
	ClientCertificate *x509.Certificate // nil: none
}

// checker is what a report is made from.
type checker struct {
	Options
	ctx      context.Context // of the whole
	mu       sync.Mutex
	findings [aspects]Findings
}

// aspects are what is asked about at the same time, in the order in which a report has them.
const (
	aboutBrokers = iota
	aboutTopics
	aboutGroup
	aboutLag
	aboutIM
	aboutMachine
	aspects
)

// Run asks everything at once, as far as one thing does not need another. When ctx ends, the report
// has what was known before.
func Run(ctx context.Context, o Options) *Report {
	e := &checker{Options: o, ctx: ctx}
	limited, cancel := context.WithTimeoutCause(ctx, checkLimit,
		fmt.Errorf("no answer within %s", checkLimit))
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { e.checkKafka(limited) })
	all.Go(func() { e.report(aboutIM, e.checkIM(limited)) })
	all.Go(func() { e.report(aboutMachine, e.checkMachine(limited)) })
	all.Wait()
	return ReportOf(time.Now(), e.findings[:]...)
}

// report notes what was found, unless it is about the interruption.
func (e *checker) report(aspect int, found Findings) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() == nil {
		e.findings[aspect] = found
	}
}

// checkKafka goes from the brokers to what they keep.
func (e *checker) checkKafka(ctx context.Context) {
	brokers := admin.DescribeBrokers(ctx, e.Kafka)
	e.report(aboutBrokers, brokerFindings(brokers, e.Connection))
	if !slices.ContainsFunc(brokers, usable) {
		e.skip("no broker can be asked", aboutTopics, aboutGroup, aboutLag)
		return
	}
	members := slices.DeleteFunc(brokers, func(b admin.DescribedBroker) bool { return !b.Listed() })
	missing := slices.ContainsFunc(members,
		func(b admin.DescribedBroker) bool { return !usable(b) })
	var parts sync.WaitGroup
	defer parts.Wait()
	leaders := slices.ContainsFunc(members, usable)
	if !leaders {
		e.skip("no broker can be asked at the address that the cluster has for it",
			aboutGroup, aboutLag)
	}
	parts.Go(func() {
		views, err := admin.DescribeTopics(ctx, e.Kafka, e.Topics, e.CreateTopics)
		if err != nil {
			e.report(aboutTopics, forEachTopic(Wrong, "topic", e.Topics,
				"it can't be described: "+causeText(err),
				"look at the brokers, and at the network between them and here; then check again"))
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
				e.skip("a broker is missing, which may be the one that coordinates it",
					aboutGroup)
				return
			}
			e.report(aboutGroup, groupFindings(e.Options, view, err))
		})
	}
}

// skip tells why some of Kafka's part was not looked at.
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

// forEachTopic is the same finding of each topic.
func forEachTopic(make func(check, subject, found, do string) Finding, check string,
	topics event.Topics,
	found, do string) (all Findings) {
	for _, name := range []string{topics.Live, topics.Backfill, topics.DeadLetter} {
		if name != "" {
			all.Add(make(check, name, found, do))
		}
	}
	return all
}

// checkLag asks how far the group is behind in the event topics that are there and may be described.
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

// checkIM makes a call that changes nothing, and once more if the first may have failed for an old
// signature, as a worker does.
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
