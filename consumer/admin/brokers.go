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
	Addr       string // host:port
	Configured bool   // Options.Brokers names it
	// the number of the cluster's member whose clients are told to connect to Addr; -1: they are
	// not
	Node int
	// of Kafka, by what it understands, such as "3.9" or "at least 4.4"; "": it is like none
	Release     string
	Unsupported []string // which requests of a worker's it does not understand as the worker makes them
	// why it can't be talked to, a *RefusedError if somebody must change a setting; nil: it can
	Err error
}

// Listed reports whether the cluster tells its clients to connect to it.
func (v DescribedBroker) Listed() bool { return v.Node >= 0 }

const (
	parallelBrokers = 64
	maxBrokers      = 1000 // no cluster has more; what is no broker may list anything
	brokerAttempts  = 4    // of one broker that fails at once: within some 2 s
)

// DescribeBrokers talks to each broker of the options, and to each that these list as members of
// the cluster, for 8 s. They come in the order of the options, then by address.
func DescribeBrokers(ctx context.Context, c *kafkaclient.Client) []DescribedBroker {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	var mu sync.Mutex // of views, and of each one's Node
	var described []*DescribedBroker
	var all sync.WaitGroup
	slots := make(chan struct{}, parallelBrokers)
	var visit func(addr string, node int)
	visit = func(addr string, node int) {
		if i := slices.IndexFunc(described,
			func(v *DescribedBroker) bool { return v.Addr == addr }); i >= 0 {
			described[i].Node = max(described[i].Node, node)
			return
		}
		if len(described) == maxBrokers {
			return
		}
		broker := &DescribedBroker{Addr: addr, Node: node, Configured: node < 0}
		described = append(described, broker)
		all.Go(func() {
			slots <- struct{}{}
			listed := describeBroker(ctx, c, broker)
			<-slots
			mu.Lock()
			defer mu.Unlock()
			for _, b := range listed {
				visit(b.Addr, b.Node)
			}
		})
	}
	mu.Lock() // so that those of the options come first
	for _, addr := range c.Options.Brokers {
		visit(addr, -1)
	}
	mu.Unlock()
	all.Wait()
	var found []DescribedBroker
	for _, v := range described {
		found = append(found, *v)
	}
	first := slices.IndexFunc(found, func(v DescribedBroker) bool { return !v.Configured })
	if first >= 0 {
		slices.SortFunc(found[first:],
			func(a, b DescribedBroker) int { return cmp.Compare(a.Addr, b.Addr) })
	}
	return found
}

// describeBroker fills in what one broker says, and returns the cluster's members. What fails is
// tried again, unless it will stay.
func describeBroker(ctx context.Context, c *kafkaclient.Client,
	broker *DescribedBroker) (listed []kafkaclient.Broker) {
	wait := kafkaclient.NewBackoff()
	for range brokerAttempts {
		listed, err := describeBrokerOnce(ctx, c, broker)
		// a try that was cut off says less than one before it
		if err == nil || broker.Err == nil || ctx.Err() == nil {
			broker.Err = err
		}
		if err == nil || !kafkaclient.Retriable(err) || !wait.Sleep(ctx) {
			return listed
		}
	}
	return nil
}

func describeBrokerOnce(ctx context.Context, c *kafkaclient.Client,
	broker *DescribedBroker) (listed []kafkaclient.Broker, err error) {
	s, err := c.OpenSession(ctx, broker.Addr)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	broker.Release, broker.Unsupported = s.Release(), s.Unsupported()
	cluster, err := s.Describe(ctx, []string{})
	if errors.Is(err, kafkaclient.ErrUnsupported) {
		return nil, nil // it answers; Lacks has it
	}
	return cluster.Brokers, err
}
