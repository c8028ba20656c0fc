package kafkaclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kfake"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

func newClient(t *testing.T, options kafkaclient.Options) *kafkaclient.Client {
	t.Helper()
	c, err := kafkaclient.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func staticTLS(config *tls.Config) func() (*tls.Config, error) {
	return func() (*tls.Config, error) { return config, nil }
}

func TestAuthentication(t *testing.T) {
	for name, c := range map[string]struct {
		server  []kfake.Opt
		tls     bool
		sasl    sasl.Mechanism
		refused bool
	}{
		"plain": {server: []kfake.Opt{kfake.Superuser("PLAIN", "u", "p")},
			sasl: brokertest.Mechanism(t, "plain", "u", "p")},
		"plain, wrong password": {server: []kfake.Opt{kfake.Superuser("PLAIN", "u", "p")},
			sasl: brokertest.Mechanism(t, "plain", "u", "x"), refused: true},
		"scram 256": {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-256", "u",
			"p")}, sasl: brokertest.Mechanism(t, "scram-sha-256", "u", "p")},
		"scram 512 over TLS": {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-512", "u",
			"p")}, tls: true, sasl: brokertest.Mechanism(t, "scram-sha-512", "u", "p")},
		"scram 512, wrong user": {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-512", "u",
			"p")}, sasl: brokertest.Mechanism(t, "scram-sha-512", "x", "p"), refused: true},
		"scram 512, broker has 256": {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-256", "u",
			"p")}, sasl: brokertest.Mechanism(t, "scram-sha-512", "u", "p"), refused: true},
		"TLS": {tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Bubble(t, func(t *testing.T) {
				var network kfake.VirtualNetwork
				opts := append(c.server, kfake.Ports(9092), kfake.ListenFn(network.Listen),
					kfake.SeedTopics(1, brokertest.Topics.Live, brokertest.Topics.DeadLetter))
				if c.sasl != nil {
					opts = append(opts, kfake.EnableSASL())
				}
				options := kafkaclient.Options{Brokers: []string{"localhost:9092"},
					Dial: network.DialContext, SASL: c.sasl, Log: zerolog.New(t.Output())}
				if c.tls {
					cert, pool := brokertest.Certificate(t)
					opts = append(opts,
						kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
					options.TLS = staticTLS(&tls.Config{RootCAs: pool})
				}
				newCluster(t, opts...)
				client := newClient(t, options)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				used := event.Topics{Live: brokertest.Topics.Live,
					DeadLetter: brokertest.Topics.DeadLetter}
				served := false
				err := consumer.Consume(ctx, client, consumer.GroupOptions{Group: brokertest.Group,
					Topics: used}, func(ctx context.Context, g *consumer.Generation) {
					served = true
					<-ctx.Done()
				})
				if c.refused {
					if !kafkaclient.IsRefused(err) || served || ctx.Err() != nil {
						t.Errorf("Consume: %v", err)
					}
					if err := admin.CheckTopics(ctx, client, used,
						false); !kafkaclient.IsRefused(err) {
						t.Errorf("CheckTopics: %v", err)
					}
					began := time.Now()
					err := client.Publisher(brokertest.Topics.Live).
						Publish(ctx, event.Message{Value: []byte("x")})
					if !kafkaclient.IsRefused(err) || time.Since(began) > 5*time.Second {
						t.Errorf("Publish: %v, after %v", err, time.Since(began))
					}
					return
				}
				if err != nil || !served {
					t.Errorf("Consume: %v, served %v", err, served)
				}
				// kafka-go's other network stack
				if err := admin.CheckTopics(t.Context(), client, used, false); err != nil {
					t.Errorf("CheckTopics: %v", err)
				}
			})
		})
	}
}

// In real time: virtual connections have no buffer to hold a TLS alert.
func TestCertificates(t *testing.T) {
	serverCert, serverPool := brokertest.Certificate(t)
	clientCert, clientPool := brokertest.Certificate(t)
	cluster := newCluster(t, kfake.NumBrokers(1),
		kfake.SeedTopics(1, brokertest.Topics.Live, brokertest.Topics.DeadLetter),
		kfake.TLS(&tls.Config{
			Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs: clientPool,
		}))
	for name, c := range map[string]struct {
		config  *tls.Config
		refused bool
	}{
		"both trusted": {&tls.Config{RootCAs: serverPool,
			Certificates: []tls.Certificate{clientCert}}, false},
		"unknown authority":     {&tls.Config{Certificates: []tls.Certificate{clientCert}}, true},
		"no client certificate": {&tls.Config{RootCAs: serverPool}, true},
		"wrong certificate": {&tls.Config{RootCAs: serverPool,
			Certificates: []tls.Certificate{serverCert}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.ServerName = "localhost"
			client := newClient(t, kafkaclient.Options{Brokers: cluster.ListenAddrs(),
				TLS: staticTLS(c.config), Log: zerolog.New(t.Output())})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := admin.CheckTopics(ctx, client, event.Topics{Live: brokertest.Topics.Live,
				DeadLetter: brokertest.Topics.DeadLetter}, false)
			if kafkaclient.IsRefused(err) != c.refused || (err != nil) != c.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A broker that accepts connections and sends nothing blocks no caller forever.
func TestSilentBroker(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		silent := func(ctx context.Context, network, addr string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				b := make([]byte, 1024)
				for {
					if _, err := theirs.Read(b); err != nil {
						return
					}
				}
			}()
			return ours, nil
		}
		var log brokertest.Logs
		c := newClient(t, kafkaclient.Options{
			Brokers: []string{"localhost:9092"}, Dial: silent,
			SASL: brokertest.Mechanism(t, "plain", "u", "p"), Log: zerolog.New(&log),
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		start := time.Now()
		err := consumer.Consume(ctx, c, consumer.GroupOptions{Group: brokertest.Group,
			Topics: brokertest.Topics},
			func(context.Context, *consumer.Generation) { t.Error("served") })
		if took := time.Since(start); err != nil || took > 6*time.Minute {
			t.Errorf("Consume returned %v after %v", err, took)
		}
		if n := strings.Count(log.String(), "no broker in --brokers is reachable"); n < 2 ||
			n > 31 {
			t.Errorf("%d log lines in 5 minutes", n)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start = time.Now()
		if err := deadletter.NewWriter(c, brokertest.Topics.DeadLetter).
			Write(ctx, brokertest.DeadLetter(event.Record{})); err == nil ||
			time.Since(start) > 10*time.Second {
			t.Errorf("a dead letter: %v after %v", err, time.Since(start))
		}
		c.Close()
		time.Sleep(time.Minute) // until abandoned requests end
	})
}

// Frozen brokers don't delay a client that also has a healthy one.
func TestFrozenBrokers(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "frozen-") {
				ours, _ := net.Pipe()
				return ours, nil
			}
			return w.Network.DialContext(ctx, network, addr)
		}
		var log brokertest.Logs
		client := newClient(w.T, kafkaclient.Options{
			Brokers: []string{"frozen-1:9092", "frozen-2:9092", "frozen-3:9092", w.Broker.Addr()},
			Dial:    dial, Log: zerolog.New(&log),
		})
		start := time.Now()
		if err := admin.CheckTopics(w.Context(), client, brokertest.Topics, false); err != nil ||
			time.Since(start) > 2*time.Second {
			w.Errorf("the topics: %v, after %v", err, time.Since(start))
		}
		client.Close()
		time.Sleep(time.Minute)
		if text := log.String(); text != "" {
			w.Error(text)
		}
	})
}

// Topics may be added, and a client closed, while requests are in flight. No connection or
// goroutine remains: otherwise the bubble would not end.
func TestCloseLeaksNothing(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		for range 20 {
			c := newClient(w.T, kafkaclient.Options{Brokers: []string{w.Broker.Addr()},
				Dial: w.Network.DialContext})
			var all sync.WaitGroup
			for _, topic := range []string{brokertest.Topics.Live, brokertest.Topics.Backfill,
				brokertest.Topics.DeadLetter, "a", "b", "c"} {
				all.Go(func() {
					p := c.Publisher(topic)
					for range 5 {
						_ = p.Publish(w.Context(), event.Message{Value: brokertest.Value(1)})
					}
				})
			}
			all.Go(c.Close)
			all.Wait()
		}
		time.Sleep(time.Minute)
	})
}

func TestWrongOptions(t *testing.T) {
	for _, brokers := range [][]string{nil, {""}, {"localhost"}, {"localhost:9092", ":9092"},
		{"a:1", "b:"}} {
		if _, err := kafkaclient.New(kafkaclient.Options{Brokers: brokers}); err == nil {
			t.Errorf("%q was accepted", brokers)
		}
	}
}

// A client and a broker that disagree about TLS get the matching remedy.
func TestTLSMismatchIsDiagnosed(t *testing.T) {
	for name, c := range map[string]struct {
		serverTLS, clientTLS bool
		hint                 string
	}{
		"plaintext to a TLS port": {true, false, "add --tls"},
		"TLS to a plaintext port": {false, true, "omit --tls"},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Bubble(t, func(t *testing.T) {
				var network kfake.VirtualNetwork
				var log brokertest.Logs
				opts := []kfake.Opt{kfake.Ports(9092), kfake.ListenFn(network.Listen)}
				options := kafkaclient.Options{Brokers: []string{"localhost:9092"},
					Dial: network.DialContext, Log: zerolog.New(&log)}
				if c.serverTLS {
					cert, _ := brokertest.Certificate(t)
					opts = append(opts,
						kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
				}
				if c.clientTLS {
					options.TLS = staticTLS(&tls.Config{})
				}
				newCluster(t, opts...)
				client := newClient(t, options)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if err := admin.CheckTopics(ctx, client, brokertest.Topics, false); err == nil ||
					!strings.Contains(err.Error(), c.hint) {
					t.Errorf("%v\n%s", err, log.String())
				}
			})
		})
	}
}

// An unreachable broker is logged once per 10 s, with the number of suppressed lines.
func TestRepeatedLinesAreThrottled(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var log brokertest.Logs
		refuse := func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("refused")
		}
		client := newClient(t, kafkaclient.Options{Brokers: []string{"localhost:9092"},
			Dial: refuse, Log: zerolog.New(&log)})
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		if err := admin.CheckTopics(ctx, client, brokertest.Topics, false); err == nil {
			t.Error("found topics without a broker")
		}
		// Tried at 0, 0.1, 0.3, 0.7, 1.5, 3.1, 5.1, 7.1, 9.1, 11.1 s and so on.
		if text := log.String(); strings.Count(text, "\n") != 3 ||
			strings.Count(text, `"repeated":`) != 2 || !strings.Contains(text, `"repeated":8`) {
			t.Error(text)
		}
	})
}
