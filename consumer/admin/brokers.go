package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"markread/consumer/kafkaclient"
)

// DescribedBroker describes one broker, as it responds to this client.
type DescribedBroker struct {
	Addr       string // host:port
	Configured bool   // Options.Brokers names it
	// the ID of the cluster member that advertises Addr; -1: none does
	Node int
	// of Kafka, by the supported requests, such as "3.9" or "at least 4.4"; "": it matches none
	Release     string
	Unsupported []string // requests of a worker that it does not support as the worker sends them
	// why it can't be used; a *RefusedError if somebody has to change a setting; nil: it can
	Err error
}

// Listed reports whether the cluster advertises the broker to its clients.
func (v DescribedBroker) Listed() bool { return v.Node >= 0 }

const (
	parallelBrokers = 64
	maxBrokers      = 1000 // no cluster has more; a server that is not a broker may list any number
	brokerAttempts  = 4    // for one broker that fails immediately: within about 2 s
)

// DescribeBrokers describes each broker of the options, and each cluster member that these list,
// within 8 s. The result is in the order of the options, then by address.
func DescribeBrokers(ctx context.Context, c *kafkaclient.Client) []DescribedBroker {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	var mu sync.Mutex // guards described, and the Node of each element
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
	mu.Lock() // so that the brokers of the options come first
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

// describeBroker describes one broker with retries, and returns the cluster's members.
func describeBroker(ctx context.Context, c *kafkaclient.Client,
	broker *DescribedBroker) (listed []kafkaclient.Broker) {
	wait := kafkaclient.NewBackoff()
	for range brokerAttempts {
		listed, err := describeBrokerOnce(ctx, c, broker)
		// the error of an interrupted attempt is less specific than the previous one
		if err == nil || broker.Err == nil || ctx.Err() == nil {
			broker.Err = err
		}
		if err == nil || !kafkaclient.Retriable(err) || !wait.Sleep(ctx) {
			return listed
		}
	}
	return nil
}

// describeBrokerOnce is one attempt of describeBroker.
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
		return nil, nil // it responds; Unsupported has the request
	}
	return cluster.Brokers, err
}
