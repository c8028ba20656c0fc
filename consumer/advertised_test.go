package consumer_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
)

// advertise has the broker tell its clients that there is one node, at another address, and which
// (-1: none) leads all partitions.
func (w *world) advertise(host string, node, leader int32) {
	w.Helper()
	answer(w, kmsg.Metadata, func(r kmsg.Request, a *kmsg.MetadataResponse) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = node, host, 9092
		a.Brokers = append(a.Brokers, b)
		for _, asked := range r.(*kmsg.MetadataRequest).Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = asked.Topic
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Leader, p.Replicas, p.ISR = leader, []int32{0}, []int32{0}
			if leader < 0 {
				p.ErrorCode = kerr.LeaderNotAvailable.Code
			}
			topic.Partitions = append(topic.Partitions, p)
			a.Topics = append(a.Topics, topic)
		}
	})
}

// lookups are what a person may wait for: each asks something of the broker that has it.
var lookups = map[string]func(ctx context.Context, c *consumer.Client) error{
	"publish": func(ctx context.Context, c *consumer.Client) error {
		return c.Publisher(topics.Live).Publish(ctx, consumer.Message{Value: []byte("{}")})
	},
	"check topics": func(ctx context.Context, c *consumer.Client) error { return c.CheckTopics(ctx, topics, false) },
	"keeps letters": func(ctx context.Context, c *consumer.Client) error {
		return c.KeepsLetters(ctx, topics.DeadLetter)
	},
	"extent": func(ctx context.Context, c *consumer.Client) error {
		e, err := c.Extent(ctx, topics.DeadLetter)
		if err != nil {
			return err
		}
		return e.Partitions[0].Err
	},
	"lag": func(ctx context.Context, c *consumer.Client) error {
		_, err := c.Lag(ctx, group, topics.Live)
		return err
	},
	"group": func(ctx context.Context, c *consumer.Client) error {
		_, err := c.DescribeGroup(ctx, group)
		return err
	},
	"brokers": func(ctx context.Context, c *consumer.Client) error {
		views := c.InspectBrokers(ctx)
		return views[len(views)-1].Err
	},
}

// unreachable is a dial function for which some hosts are not there.
func unreachable(w *world) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		failed := &net.OpError{Op: "dial", Net: network}
		switch host, _, _ := net.SplitHostPort(addr); host {
		case "kafka":
			failed.Err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		case "refused":
			failed.Err = syscall.ECONNREFUSED
		case "10.0.0.7":
			<-ctx.Done()
			return nil, ctx.Err()
		case "10.0.0.8": // a proxy, say
			ours, theirs := net.Pipe()
			theirs.Close()
			return ours, nil
		default:
			return w.network.DialContext(ctx, network, addr)
		}
		return nil, failed
	}
}

// A broker that can be reached may send its clients to an address that can't: each failure says
// which, and that the cluster's configuration has it, not the command line.
func TestAdvertisedAddressThatCannotBeReached(t *testing.T) {
	const from = "advertised.listeners, not from --brokers"
	for host, want := range map[string]string{
		"kafka":    "no such host; the name is from the broker's " + from,
		"refused":  "connection refused; the address is from the broker's " + from,
		"10.0.0.7": "context deadline exceeded; the address is from the broker's " + from,
		"10.0.0.8": "the address is from the broker's " + from,
	} {
		for name, look := range lookups {
			inWorld(t, 1, func(w *world) {
				w.advertise(host, 0, 0)
				c := w.clientOver(unreachable(w))
				ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
				defer cancel()
				err := look(ctx, c)
				var located *consumer.UnreachableError
				if !errors.As(err, &located) || located.Broker != host+":9092" {
					w.Errorf("%s at %s: %v", name, host, err)
				}
				for _, part := range []string{"kafka broker " + host + ":9092: ", want, "change advertised.listeners", "kafka:9092 or localhost:9092"} {
					if !strings.Contains(err.Error(), part) {
						w.Errorf("%s at %s: %v, want %q", name, host, err, part)
					}
				}
				c.Close()
				time.Sleep(time.Minute) // for what was abandoned to end
			})
		}
	}
}

// A request that nobody answers is explained by an address only as long as that can't be reached.
func TestReachedAddressExplainsNothing(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		var known atomic.Bool
		away := unreachable(w)
		c := w.clientOver(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if known.Load() && addr == "kafka:9092" {
				addr = w.broker.Addr()
			}
			return away(ctx, network, addr)
		})
		w.advertise("kafka", 0, 0)
		var located *consumer.UnreachableError
		_, err := c.DescribeGroup(w.Context(), group)
		if !errors.As(err, &located) {
			w.Errorf("out of reach: %v", err)
		}
		known.Store(true)
		if _, err := c.DescribeGroup(w.Context(), group); err != nil {
			w.Errorf("in reach: %v", err)
		}
		answer(w, kmsg.DescribeGroups, func(kmsg.Request, *kmsg.DescribeGroupsResponse) { time.Sleep(time.Minute) })
		_, err = c.DescribeGroup(w.Context(), group)
		if err == nil || errors.As(err, &located) {
			w.Errorf("frozen: %v", err)
		}
		c.Close()
		time.Sleep(3 * time.Minute)
	})
}

// Nor is it explained by a wrong name in --brokers where another broker was reached instead.
func TestGivenNameExplainsNothing(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		c, err := consumer.New(consumer.Options{
			Brokers: []string{"kafka:9092", w.broker.Addr()}, Dial: unreachable(w),
		})
		if err != nil {
			w.Fatal(err)
		}
		answer(w, kmsg.DescribeGroups, func(kmsg.Request, *kmsg.DescribeGroupsResponse) { time.Sleep(time.Minute) })
		for range 10 { // the names are tried in random order
			var located *consumer.UnreachableError
			if _, err := c.DescribeGroup(w.Context(), group); err == nil || errors.As(err, &located) {
				w.Errorf("frozen: %v", err)
			}
		}
		c.Close()
		time.Sleep(time.Hour)
	})
}

// A worker waits for the address, and says so now and then.
func TestWorkerWaitsForAnAdvertisedAddress(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		var log logs
		var known atomic.Bool
		away := unreachable(w)
		c, err := consumer.New(consumer.Options{
			Brokers: []string{w.broker.Addr()}, Log: zerolog.New(&log),
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if known.Load() && addr == "kafka:9092" {
					addr = w.broker.Addr()
				}
				return away(ctx, network, addr)
			},
		})
		if err != nil {
			w.Fatal(err)
		}
		w.advertise("kafka", 0, 0)
		m := w.join(c)
		time.Sleep(61 * time.Second)
		lines := log.lines("can't connect to a Kafka broker")
		if len(lines) == 0 || len(lines) > 7 {
			w.Errorf("%d lines in a minute", len(lines))
		}
		for _, line := range lines {
			do, _ := line["do"].(string)
			if line["broker"] != "kafka:9092" || !strings.Contains(do, "the broker's advertised.listeners") || line["level"] != "warn" {
				w.Errorf("%v", line)
			}
		}
		if m.gone() || m.generation() != nil {
			w.Error("it did not wait")
		}
		known.Store(true)
		time.Sleep(10 * time.Second)
		if g := m.generation(); g == nil || len(g.Assigned()) != 2 {
			w.Error("it did not join when the name was known")
		}
		m.leave()
		c.Close()
		time.Sleep(time.Minute)
	})
}

// A name of the command line is said to be that.
func TestGivenNameThatIsUnknown(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		c, err := consumer.New(consumer.Options{Brokers: []string{"kafka:9092"}, Dial: unreachable(w), Log: zerolog.New(w.Output())})
		if err != nil {
			w.Fatal(err)
		}
		err = c.Reach(w.Context())
		if err == nil || strings.Contains(err.Error(), "advertised") || strings.Count(err.Error(), "kafka broker kafka:9092: ") != 1 ||
			!strings.Contains(err.Error(), "no such host; correct the name in --brokers") {
			w.Error(err)
		}
		// Of two, the one that is advertised in another spelling is still given.
		w.advertise("KAFKA", 0, 0)
		c, err = consumer.New(consumer.Options{
			Brokers: []string{"kafka:9092", w.broker.Addr()}, Dial: unreachable(w), Log: zerolog.New(w.Output()),
		})
		if err != nil {
			w.Fatal(err)
		}
		for _, v := range c.InspectBrokers(w.Context()) {
			if v.Err != nil && strings.Contains(v.Err.Error(), "advertised") {
				w.Error(v.Err)
			}
		}
		c.Close()
		time.Sleep(time.Minute)
	})
}

// A partition without a leader is called that, whatever asks for it.
func TestNoLeader(t *testing.T) {
	for _, name := range []string{"publish", "extent"} {
		inWorld(t, 1, func(w *world) {
			w.advertise("localhost", 1, -1)
			c, start := w.client(), time.Now()
			err := lookups[name](w.Context(), c)
			if took := time.Since(start); took < 7*time.Second || took > 15*time.Second { // an election takes less
				w.Errorf("%s: ended after %v", name, took)
			}
			if err == nil || !strings.Contains(err.Error(), "no leader for the partition: ") || !strings.Contains(err.Error(), "--unavailable-partitions") ||
				strings.Contains(err.Error(), "kafka.(*Client)") || strings.Contains(err.Error(), "election") {
				w.Errorf("%s: %v", name, err)
			}
			if want := topics.Live + "/0"; name == "publish" && !strings.Contains(err.Error(), want) {
				w.Errorf("%v, want %q", err, want)
			}
			c.Close()
			time.Sleep(time.Minute)
		})
	}
}
