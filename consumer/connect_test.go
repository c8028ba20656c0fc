package consumer_test

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
	"markread/consumer/broker/brokertest"
)

func refused(err error) bool {
	var r *consumer.RefusedError
	return errors.As(err, &r)
}

func fixed(config *tls.Config) func() (*tls.Config, error) {
	return func() (*tls.Config, error) { return config, nil }
}

func TestAuthentication(t *testing.T) {
	for name, c := range map[string]struct {
		server  []kfake.Opt
		tls     bool
		sasl    sasl.Mechanism
		refused bool
	}{
		"plain":                     {server: []kfake.Opt{kfake.Superuser("PLAIN", "u", "p")}, sasl: mechanism(t, "plain", "u", "p")},
		"plain, wrong password":     {server: []kfake.Opt{kfake.Superuser("PLAIN", "u", "p")}, sasl: mechanism(t, "plain", "u", "x"), refused: true},
		"scram 256":                 {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-256", "u", "p")}, sasl: mechanism(t, "scram-sha-256", "u", "p")},
		"scram 512 over TLS":        {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-512", "u", "p")}, tls: true, sasl: mechanism(t, "scram-sha-512", "u", "p")},
		"scram 512, wrong user":     {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-512", "u", "p")}, sasl: mechanism(t, "scram-sha-512", "x", "p"), refused: true},
		"scram 512, broker has 256": {server: []kfake.Opt{kfake.Superuser("SCRAM-SHA-256", "u", "p")}, sasl: mechanism(t, "scram-sha-512", "u", "p"), refused: true},
		"TLS":                       {tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Bubble(t, func(t *testing.T) {
				var network kfake.VirtualNetwork
				opts := append(c.server, kfake.Ports(9092), kfake.ListenFn(network.Listen), kfake.SeedTopics(1, topics.Live, topics.DeadLetter))
				if c.sasl != nil {
					opts = append(opts, kfake.EnableSASL())
				}
				options := consumer.Options{Brokers: []string{"localhost:9092"}, Dial: network.DialContext, SASL: c.sasl, Log: zerolog.New(t.Output())}
				if c.tls {
					cert, pool := certificate(t)
					opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
					options.TLS = fixed(&tls.Config{RootCAs: pool})
				}
				cluster, err := kfake.NewCluster(opts...)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(cluster.Close)
				client, err := consumer.New(options)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(client.Close)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				used := consumer.Topics{Live: topics.Live, DeadLetter: topics.DeadLetter}
				served := false
				err = client.Consume(ctx, consumer.GroupOptions{Group: group, Topics: used}, func(ctx context.Context, g *consumer.Generation) {
					served = true
					<-ctx.Done()
				})
				if c.refused {
					if !refused(err) || served || ctx.Err() != nil {
						t.Errorf("Consume: %v", err)
					}
					if err := client.CheckTopics(ctx, used, false); !refused(err) {
						t.Errorf("CheckTopics: %v", err)
					}
					began := time.Now()
					err := client.Publisher(topics.Live).Publish(ctx, consumer.Message{Value: []byte("x")})
					if !refused(err) || time.Since(began) > 5*time.Second {
						t.Errorf("Publish: %v, after %v", err, time.Since(began))
					}
					return
				}
				if err != nil || !served {
					t.Errorf("Consume: %v, served %v", err, served)
				}
				if err := client.CheckTopics(t.Context(), used, false); err != nil { // the other of kafka-go's two stacks
					t.Errorf("CheckTopics: %v", err)
				}
			})
		})
	}
}

// Not in virtual time: the connections there have no buffer, in which an alert of TLS would have room.
func TestCertificates(t *testing.T) {
	serverCert, serverPool := certificate(t)
	clientCert, clientPool := certificate(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics.Live, topics.DeadLetter), kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clientPool,
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	for name, c := range map[string]struct {
		config  *tls.Config
		refused bool
	}{
		"both trusted":          {&tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{clientCert}}, false},
		"unknown authority":     {&tls.Config{Certificates: []tls.Certificate{clientCert}}, true},
		"no client certificate": {&tls.Config{RootCAs: serverPool}, true},
		"wrong one":             {&tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{serverCert}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.ServerName = "localhost"
			client, err := consumer.New(consumer.Options{Brokers: cluster.ListenAddrs(), TLS: fixed(c.config), Log: zerolog.New(t.Output())})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err = client.CheckTopics(ctx, consumer.Topics{Live: topics.Live, DeadLetter: topics.DeadLetter}, false)
			if refused(err) != c.refused || (err != nil) != c.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A broker that accepts connections and says nothing blocks nobody for ever, whatever is awaited from it.
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
		var log logs
		c, err := consumer.New(consumer.Options{
			Brokers: []string{"localhost:9092"}, Dial: silent, SASL: mechanism(t, "plain", "u", "p"), Log: zerolog.New(&log),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		start := time.Now()
		err = c.Consume(ctx, consumer.GroupOptions{Group: group, Topics: topics}, func(context.Context, *consumer.Generation) { t.Error("served") })
		if took := time.Since(start); err != nil || took > 6*time.Minute {
			t.Errorf("Consume returned %v after %v", err, took)
		}
		if n := strings.Count(log.String(), "no Kafka broker of --brokers can be reached"); n < 2 || n > 31 {
			t.Errorf("%d log lines in 5 minutes", n)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start = time.Now()
		if err := c.Letters(topics.DeadLetter).Write(ctx, letter(consumer.Record{})); err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("a letter: %v after %v", err, time.Since(start))
		}
		c.Close()
		time.Sleep(time.Minute) // for what was abandoned to end
	})
}

// Brokers that are frozen do not keep anybody from the one that is not.
func TestFrozenBrokers(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "frozen-") {
				ours, _ := net.Pipe()
				return ours, nil
			}
			return w.network.DialContext(ctx, network, addr)
		}
		var log logs
		client, err := consumer.New(consumer.Options{
			Brokers: []string{"frozen-1:9092", "frozen-2:9092", "frozen-3:9092", w.broker.Addr()}, Dial: dial, Log: zerolog.New(&log),
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := client.CheckTopics(w.Context(), topics, false); err != nil || time.Since(start) > 2*time.Second {
			w.Errorf("the topics: %v, after %v", err, time.Since(start))
		}
		client.Close()
		time.Sleep(time.Minute)
		if text := log.String(); text != "" {
			w.Error(text)
		}
	})
}

// Topics may be named while requests are under way, and a client may be closed. Nothing of it stays: else the
// bubble would not end.
func TestNothingStaysBehind(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		for range 20 {
			c, err := consumer.New(consumer.Options{Brokers: []string{w.broker.Addr()}, Dial: w.network.DialContext})
			if err != nil {
				w.Fatal(err)
			}
			var all sync.WaitGroup
			for _, topic := range []string{topics.Live, topics.Backfill, topics.DeadLetter, "a", "b", "c"} {
				all.Go(func() {
					p := c.Publisher(topic)
					for range 5 {
						_ = p.Publish(w.Context(), consumer.Message{Value: value(1)})
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
	for _, brokers := range [][]string{nil, {""}, {"localhost"}, {"localhost:9092", ":9092"}, {"a:1", "b:"}} {
		if _, err := consumer.New(consumer.Options{Brokers: brokers}); err == nil {
			t.Errorf("%q was accepted", brokers)
		}
	}
}

// What is usually wrong is asked.
func TestHints(t *testing.T) {
	for name, c := range map[string]struct {
		serverTLS, clientTLS bool
		hint                 string
	}{
		"plaintext to a TLS port": {true, false, "add --tls"},
		"TLS to a plaintext port": {false, true, "leave out --tls"},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Bubble(t, func(t *testing.T) {
				var network kfake.VirtualNetwork
				var log logs
				opts := []kfake.Opt{kfake.Ports(9092), kfake.ListenFn(network.Listen)}
				options := consumer.Options{Brokers: []string{"localhost:9092"}, Dial: network.DialContext, Log: zerolog.New(&log)}
				if c.serverTLS {
					cert, _ := certificate(t)
					opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
				}
				if c.clientTLS {
					options.TLS = fixed(&tls.Config{})
				}
				cluster, err := kfake.NewCluster(opts...)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(cluster.Close)
				client, err := consumer.New(options)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if err := client.CheckTopics(ctx, topics, false); err == nil || !strings.Contains(err.Error(), c.hint) {
					t.Errorf("%v\n%s", err, log.String())
				}
			})
		})
	}
}

// A broker that is away for long leaves a line each 10 s, which says how many were left out.
func TestRepeatsAreThinned(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var log logs
		refuse := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
		client, err := consumer.New(consumer.Options{Brokers: []string{"localhost:9092"}, Dial: refuse, Log: zerolog.New(&log)})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		if err := client.CheckTopics(ctx, topics, false); err == nil {
			t.Error("topics of no broker")
		}
		// Tried at 0, 0.1, 0.3, 0.7, 1.5, 3.1, 5.1, 7.1, 9.1, 11.1 s and so on.
		if text := log.String(); strings.Count(text, "\n") != 3 || strings.Count(text, `"repeated":`) != 2 || !strings.Contains(text, `"repeated":8`) {
			t.Error(text)
		}
	})
}
