package consumer_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// renewalTest is a broker with authentication or TLS, a member, and a producer that keeps
// publishing.
type renewalTest struct {
	*brokertest.World
	line     brokertest.CuttableDialer
	options  kafkaclient.Options // the member's
	log      brokertest.Logs
	client   *kafkaclient.Client
	member   *member
	producer *kgo.Client
	sent     int64
}

// runRenewalTest starts a broker, calls setup, lets a member join, and calls test. Then it checks
// that the member received all events in one generation.
func runRenewalTest(t *testing.T, broker []kfake.Opt, producer []kgo.Opt, setup,
	test func(r *renewalTest)) {
	t.Helper()
	brokertest.Bubble(t, func(t *testing.T) {
		r := &renewalTest{World: &brokertest.World{T: t}}
		cluster, err := kfake.NewCluster(append(broker, kfake.NumBrokers(1), kfake.Ports(9092),
			kfake.ListenFn(r.Network.Listen),
			kfake.SeedTopics(1, brokertest.Topics.Live, brokertest.Topics.Backfill,
				brokertest.Topics.DeadLetter))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		r.Cluster, r.line.Dial = cluster, r.Network.DialContext
		r.options = kafkaclient.Options{Brokers: []string{"localhost:9092"},
			Dial: r.line.DialContext, Log: zerolog.New(&r.log)}
		setup(r)
		client, err := kafkaclient.New(r.options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		r.client = client
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := r.Network.DialContext(ctx, network, addr)
			if err == nil && r.options.TLS != nil {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			}
			return conn, err
		}
		r.producer, err = kgo.NewClient(append(producer, kgo.SeedBrokers("localhost:9092"),
			kgo.Dialer(dial), kgo.DefaultProduceTopic(brokertest.Topics.Live))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.producer.Close)
		r.member = join(r.World, client)
		test(r)
		if got := r.member.delivered(brokertest.Topics.Live, 0); !slices.Equal(got,
			offsets(0, r.sent)) {
			t.Errorf("%d events were delivered, want %d", len(got), r.sent)
		}
		if n := r.member.generationCount(); n != 1 {
			t.Errorf("%d generations, want 1; the log:\n%s", n, r.log.String())
		}
		r.member.leave()
	})
}

func (r *renewalTest) publish() {
	r.Helper()
	if err := r.producer.ProduceSync(r.Context(),
		&kgo.Record{Value: brokertest.Value(int(r.sent))}).FirstErr(); err != nil {
		r.Fatal(err)
	}
	r.sent++
}

// When an authentication has expired, a broker closes the connection at the next request. The
// client authenticates again before that.
func TestAuthenticationThatExpires(t *testing.T) {
	const lifetime = 10 * time.Second
	broker := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "10000"})}
	producer := []kgo.Opt{kgo.SASL(plain.Auth{User: "u", Pass: "p"}.AsMechanism())}
	var killed atomic.Int32
	runRenewalTest(t, broker, producer, func(r *renewalTest) {
		r.options.SASL = brokertest.Mechanism(t, "plain", "u", "p")
		r.line.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := r.Network.DialContext(ctx, network, addr)
			return &expiringConn{Conn: conn, end: time.Now().Add(lifetime), killed: &killed}, err
		}
	}, func(r *renewalTest) {
		authentications := r.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate},
			Observe: true, Count: -1})
		publisher := r.client.Publisher(brokertest.Topics.Live)
		for range 120 {
			r.publish()
			if err := publisher.Publish(r.Context(),
				event.Message{Value: brokertest.Value(int(r.sent))}); err != nil {
				r.Fatal(err)
			}
			r.sent++
			time.Sleep(time.Second)
		}
		if n := authentications.Hits(); n < 24 { // two connections at least, each a dozen times
			r.Errorf("authenticated %d times in 2 minutes: too few for this test", n)
		}
		if n := killed.Load(); n > 0 || strings.Contains(r.log.String(), `"warn"`) {
			r.Errorf("the broker closed the connection %d times; the log:\n%s", n, r.log.String())
		}
	})
}

// expiringConn closes a connection like a broker when the client's authentication has expired:
// kfake returns a session lifetime, but does not enforce it.
type expiringConn struct {
	net.Conn
	end    time.Time
	killed *atomic.Int32
}

func (m *expiringConn) Write(b []byte) (int, error) {
	if time.Now().After(m.end) {
		m.killed.Add(1)
		m.Close()
	}
	return m.Conn.Write(b)
}

// A password may change while a worker runs. Each new connection uses the current one.
func TestRenewedPassword(t *testing.T) {
	const user = "worker"
	var current atomic.Pointer[string]
	use := func(password string) { current.Store(&password) }
	use("first")
	broker := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "admin", "p"),
		kfake.Superuser("SCRAM-SHA-256", user, "first")}
	producer := []kgo.Opt{kgo.SASL(plain.Auth{User: "admin", Pass: "p"}.AsMechanism())}
	runRenewalTest(t, broker, producer, func(r *renewalTest) {
		m, err := kafkaclient.SASL("scram-sha-256", user,
			func() (string, error) { return *current.Load(), nil })
		if err != nil {
			t.Fatal(err)
		}
		r.options.SASL = m
	}, func(r *renewalTest) {
		time.Sleep(5 * time.Second)
		for i := range 20 {
			next := "password-" + string(rune('a'+i))
			r.setPassword(user, next)
			r.line.Cut(false)
			r.publish()
			time.Sleep(3 * time.Second) // refused meanwhile
			use(next)
			began := time.Now()
			for int64(len(r.member.delivered(brokertest.Topics.Live, 0))) < r.sent {
				if time.Since(began) > 5*time.Second {
					r.Fatalf("rotation %d: no events 5 s after the new password was set", i)
				}
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(3 * time.Second) // long enough for a heartbeat
		}
		if !strings.Contains(r.log.String(), "--sasl-user") {
			r.Error("the log does not say what was wrong")
		}
	})
}

func (r *renewalTest) setPassword(user, password string) {
	r.Helper()
	salt := []byte("0123456789abcdef")
	salted, err := pbkdf2.Key(sha256.New, password, salt, 4096, sha256.Size)
	if err != nil {
		r.Fatal(err)
	}
	request := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	upsert := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	upsert.Name, upsert.Mechanism, upsert.Iterations, upsert.Salt, upsert.SaltedPassword = user, 1,
		4096, salt, salted
	request.Upsertions = append(request.Upsertions, upsert)
	answer, err := request.RequestWith(r.Context(), r.producer)
	if err != nil || answer.Results[0].ErrorCode != 0 {
		r.Fatalf("set the password: %v, %+v", err, answer)
	}
}

// Certificates may change while a worker runs, and so may the authority that signs them.
func TestRenewedCertificates(t *testing.T) {
	// these connections have no buffer: sending the alert about an untrusted certificate blocks
	// until the handshake's deadline
	const blocked = 5 * time.Second
	var server atomic.Pointer[tls.Certificate]
	var trusted atomic.Pointer[x509.CertPool]
	renew := func() *x509.CertPool {
		certificate, pool := brokertest.Certificate(t)
		server.Store(&certificate)
		return pool
	}
	broker := []kfake.Opt{
		kfake.TLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return server.Load(), nil
		}})}
	runRenewalTest(t, broker, nil, func(r *renewalTest) {
		trusted.Store(renew())
		r.options.TLS = func() (*tls.Config, error) {
			return &tls.Config{RootCAs: trusted.Load()},
				nil
		}
	}, func(r *renewalTest) {
		time.Sleep(5 * time.Second)
		for i := range 20 {
			pool := renew()
			r.line.Cut(false)
			r.publish()
			time.Sleep(3 * time.Second) // distrusted meanwhile
			trusted.Store(pool)
			began := time.Now()
			for int64(len(r.member.delivered(brokertest.Topics.Live, 0))) < r.sent {
				if time.Since(began) > 5*time.Second+blocked {
					r.Fatalf("rotation %d: no events %v after the new authority was set; the "+
						"log:\n%s", i, time.Since(began), r.log.String())
				}
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(3 * time.Second) // long enough for a heartbeat
		}
		if !strings.Contains(r.log.String(), "--tls-ca") {
			r.Error("the log does not say what was wrong")
		}
	})
}
