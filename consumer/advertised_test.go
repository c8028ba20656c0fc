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
	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// advertise makes the broker return metadata with one node, at another address, and leader (-1:
// none) as the leader of all partitions.
func advertise(w *brokertest.World, host string, node, leader int32) {
	w.Helper()
	brokertest.Respond(w, kmsg.Metadata, func(r kmsg.Request, a *kmsg.MetadataResponse) {
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

// requests are operations that a user waits for and that only one specific broker can answer. (Any
// broker can describe topics: admin.CheckTopics needs only the addresses in --brokers.)
var requests = map[string]func(ctx context.Context, c *kafkaclient.Client) error{
	"publish": func(ctx context.Context, c *kafkaclient.Client) error {
		return c.Publisher(brokertest.Topics.Live).Publish(ctx, event.Message{Value: []byte("{}")})
	},
	"offsets": func(ctx context.Context, c *kafkaclient.Client) error {
		e, err := c.TopicOffsets(ctx, brokertest.Topics.DeadLetter)
		if err != nil {
			return err
		}
		return e.Partitions[0].Err
	},
	"lag": func(ctx context.Context, c *kafkaclient.Client) error {
		_, err := admin.Lag(ctx, c, brokertest.Group, brokertest.Topics.Live)
		return err
	},
	"group": func(ctx context.Context, c *kafkaclient.Client) error {
		_, err := consumer.DescribeGroup(ctx, c, brokertest.Group)
		return err
	},
	"brokers": func(ctx context.Context, c *kafkaclient.Client) error {
		views := admin.DescribeBrokers(ctx, c)
		return views[len(views)-1].Err
	},
}

// unreachable returns a dial function that can't reach some hosts.
func unreachable(w *brokertest.World) func(ctx context.Context, network, addr string) (net.Conn,
	error) {
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
			return w.Network.DialContext(ctx, network, addr)
		}
		return nil, failed
	}
}

// A reachable broker may advertise an unreachable address. Each error names the address, and that
// it comes from the cluster's configuration, not from the command line.
func TestAdvertisedAddressThatCannotBeReached(t *testing.T) {
	const from = "advertised.listeners, not from --brokers"
	for host, want := range map[string]string{
		"kafka":    "no such host; the name is from the broker's " + from,
		"refused":  "connection refused; the address is from the broker's " + from,
		"10.0.0.7": "context deadline exceeded; the address is from the broker's " + from,
		"10.0.0.8": "the address is from the broker's " + from,
	} {
		for name, request := range requests {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				advertise(w, host, 0, 0)
				c := w.ClientOver(unreachable(w))
				ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
				defer cancel()
				err := request(ctx, c)
				var located *kafkaclient.UnreachableError
				if !errors.As(err, &located) || located.Broker != host+":9092" {
					w.Errorf("%s at %s: %v", name, host, err)
				}
				for _, part := range []string{"kafka broker " + host + ":9092: ", want,
					"change advertised.listeners", "kafka:9092 or localhost:9092"} {
					if !strings.Contains(err.Error(), part) {
						w.Errorf("%s at %s: %v, want %q", name, host, err, part)
					}
				}
				c.Close()
				time.Sleep(time.Minute) // until abandoned requests end
			})
		}
	}
}

// A request without a response is blamed on an address only while the address is unreachable.
func TestReachedAddressIsNotBlamed(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		var known atomic.Bool
		away := unreachable(w)
		c := w.ClientOver(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if known.Load() && addr == "kafka:9092" {
				addr = w.Broker.Addr()
			}
			return away(ctx, network, addr)
		})
		advertise(w, "kafka", 0, 0)
		var located *kafkaclient.UnreachableError
		_, err := consumer.DescribeGroup(w.Context(), c, brokertest.Group)
		if !errors.As(err, &located) {
			w.Errorf("out of reach: %v", err)
		}
		known.Store(true)
		if _, err := consumer.DescribeGroup(w.Context(), c, brokertest.Group); err != nil {
			w.Errorf("in reach: %v", err)
		}
		brokertest.Respond(w, kmsg.DescribeGroups,
			func(kmsg.Request, *kmsg.DescribeGroupsResponse) { time.Sleep(time.Minute) })
		_, err = consumer.DescribeGroup(w.Context(), c, brokertest.Group)
		if err == nil || errors.As(err, &located) {
			w.Errorf("frozen: %v", err)
		}
		c.Close()
		time.Sleep(3 * time.Minute)
	})
}

// It is not blamed on an unknown name in --brokers when another broker was reached instead.
func TestUnknownNameInBrokersIsNotBlamed(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		c, err := kafkaclient.New(kafkaclient.Options{
			Brokers: []string{"kafka:9092", w.Broker.Addr()}, Dial: unreachable(w),
		})
		if err != nil {
			w.Fatal(err)
		}
		brokertest.Respond(w, kmsg.DescribeGroups,
			func(kmsg.Request, *kmsg.DescribeGroupsResponse) { time.Sleep(time.Minute) })
		for range 10 { // the names are tried in random order
			var located *kafkaclient.UnreachableError
			if _, err := consumer.DescribeGroup(w.Context(), c, brokertest.Group); err == nil ||
				errors.As(err, &located) {
				w.Errorf("frozen: %v", err)
			}
		}
		c.Close()
		time.Sleep(time.Hour)
	})
}

// A worker waits for the address, and logs that from time to time.
func TestWorkerWaitsForAnAdvertisedAddress(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		var log brokertest.Logs
		var known atomic.Bool
		away := unreachable(w)
		c, err := kafkaclient.New(kafkaclient.Options{
			Brokers: []string{w.Broker.Addr()}, Log: zerolog.New(&log),
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if known.Load() && addr == "kafka:9092" {
					addr = w.Broker.Addr()
				}
				return away(ctx, network, addr)
			},
		})
		if err != nil {
			w.Fatal(err)
		}
		advertise(w, "kafka", 0, 0)
		m := join(w, c)
		time.Sleep(61 * time.Second)
		lines := log.Lines("can't connect to a Kafka broker")
		if len(lines) == 0 || len(lines) > 7 {
			w.Errorf("%d lines in a minute", len(lines))
		}
		for _, line := range lines {
			do, _ := line["do"].(string)
			if line["broker"] != "kafka:9092" || !strings.Contains(do,
				"the broker's advertised.listeners") || line["level"] != "warn" {
				w.Errorf("%v", line)
			}
		}
		if m.ended() || m.generation() != nil {
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

// An error about a name from --brokers says that the name is from there.
func TestUnknownNameInBrokers(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		c, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{"kafka:9092"},
			Dial: unreachable(w), Log: zerolog.New(w.Output())})
		if err != nil {
			w.Fatal(err)
		}
		err = c.Ping(w.Context())
		if err == nil || strings.Contains(err.Error(), "advertised") ||
			strings.Count(err.Error(), "kafka broker kafka:9092: ") != 1 ||
			!strings.Contains(err.Error(), "no such host; correct the name in --brokers") {
			w.Error(err)
		}
		// A broker that advertises its name in another spelling still counts as given in --brokers.
		advertise(w, "KAFKA", 0, 0)
		c, err = kafkaclient.New(kafkaclient.Options{
			Brokers: []string{"kafka:9092", w.Broker.Addr()}, Dial: unreachable(w),
			Log: zerolog.New(w.Output()),
		})
		if err != nil {
			w.Fatal(err)
		}
		for _, v := range admin.DescribeBrokers(w.Context(), c) {
			if v.Err != nil && strings.Contains(v.Err.Error(), "advertised") {
				w.Error(v.Err)
			}
		}
		c.Close()
		time.Sleep(time.Minute)
	})
}

// Each request to a partition without a leader returns that as its error.
func TestNoLeader(t *testing.T) {
	for _, name := range []string{"publish", "offsets"} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			advertise(w, "localhost", 1, -1)
			c, start := w.Client(), time.Now()
			err := requests[name](w.Context(), c)
			// an election takes less time
			if took := time.Since(start); took < 7*time.Second || took > 15*time.Second {
				w.Errorf("%s: ended after %v", name, took)
			}
			if err == nil || !strings.Contains(err.Error(), "no leader for the partition: ") ||
				!strings.Contains(err.Error(), "--unavailable-partitions") ||
				strings.Contains(err.Error(), "kafka.(*Client)") ||
				strings.Contains(err.Error(), "election") {
				w.Errorf("%s: %v", name, err)
			}
			if want := brokertest.Topics.Live + "/0"; name == "publish" &&
				!strings.Contains(err.Error(), want) {
				w.Errorf("%v, want %q", err, want)
			}
			c.Close()
			time.Sleep(time.Minute)
		})
	}
}
