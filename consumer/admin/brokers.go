package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"markread/consumer/kafkaclient"
)

// DescribedBroker is one broker as it answers from here.
type DescribedBroker struct {
	Addr  string // host:port
	Given bool   // Options.Brokers names it
	// the number of the cluster's member whose clients are told to connect to Addr; -1: they are
	// not
	Node int
	// of Kafka, by what it understands, such as "3.9" or "at least 4.4"; "": it is like none
	Release string
	Lacks   []string // which requests of a worker's it does not understand as the worker makes them
	// why it can't be talked to, a *RefusedError if somebody must change a setting; nil: it can
	Err error
}

// Listed reports whether the cluster tells its clients to connect to it.
func (v DescribedBroker) Listed() bool { return v.Node >= 0 }

const (
	brokersAtOnce = 64
	mostBrokers   = 1000 // no cluster has more; what is no broker may list anything
	brokerTries   = 4    // of one broker that fails at once: within some 2 s
)

// DescribeBrokers talks to each broker of the options, and to each that these list as members of
// the cluster, for 8 s. They come in the order of the options, then by address.
func DescribeBrokers(ctx context.Context, c *kafkaclient.Client) []DescribedBroker {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	var mu sync.Mutex // of views, and of each one's Node
	var views []*DescribedBroker
	var all sync.WaitGroup
	turns := make(chan struct{}, brokersAtOnce)
	var meet func(addr string, node int)
	meet = func(addr string, node int) {
		if i := slices.IndexFunc(views,
			func(v *DescribedBroker) bool { return v.Addr == addr }); i >= 0 {
			views[i].Node = max(views[i].Node, node)
			return
		}
		if len(views) == mostBrokers {
			return
		}
		view := &DescribedBroker{Addr: addr, Node: node, Given: node < 0}
		views = append(views, view)
		all.Go(func() {
			turns <- struct{}{}
			listed := describeBroker(ctx, c, view)
			<-turns
			mu.Lock()
			defer mu.Unlock()
			for _, b := range listed {
				meet(b.Addr, b.Node)
			}
		})
	}
	mu.Lock() // so that those of the options come first
	for _, addr := range c.Options.Brokers {
		meet(addr, -1)
	}
	mu.Unlock()
	all.Wait()
	var found []DescribedBroker
	for _, v := range views {
		found = append(found, *v)
	}
	first := slices.IndexFunc(found, func(v DescribedBroker) bool { return !v.Given })
	if first >= 0 {
		slices.SortFunc(found[first:],
			func(a, b DescribedBroker) int { return cmp.Compare(a.Addr, b.Addr) })
	}
	return found
}

// describeBroker fills in what one broker says, and returns the cluster's members. What fails is
// tried again, unless it will stay.
func describeBroker(ctx context.Context, c *kafkaclient.Client,
	view *DescribedBroker) (listed []kafkaclient.Broker) {
	pauses := kafkaclient.NewBackoff()
	for range brokerTries {
		listed, err := askBroker(ctx, c, view)
		// a try that was cut off says less than one before it
		if err == nil || view.Err == nil || ctx.Err() == nil {
			view.Err = err
		}
		if err == nil || !kafkaclient.Retriable(err) || !pauses.Sleep(ctx) {
			return listed
		}
	}
	return nil
}

func askBroker(ctx context.Context, c *kafkaclient.Client,
	view *DescribedBroker) (listed []kafkaclient.Broker, err error) {
	s, err := c.OpenSession(ctx, view.Addr)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	view.Release, view.Lacks = s.Release(), s.Lacks()
	cluster, err := s.Describe(ctx, []string{})
	if errors.Is(err, kafkaclient.ErrNotUnderstood) {
		return nil, nil // it answers; Lacks has it
	}
	return cluster.Brokers, err
}
