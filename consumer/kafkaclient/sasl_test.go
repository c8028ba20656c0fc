package kafkaclient_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

const canaryPassword = "canary-pa55word"

// An error does not quote an invalid password, and printing the options does not show one.
func TestPasswordsAreNotPrinted(t *testing.T) {
	for _, name := range []string{"scram-sha-256", "scram-sha-512"} {
		for _, odd := range []string{"\n", "\t", "\u0000", "\u0627a"} {
			m, err := kafkaclient.SASL(name, "u", brokertest.Password(canaryPassword+odd))
			if err == nil || m != nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s with %q: %v, %v", name, odd, m, err)
			}
		}
	}
	for _, name := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		options := kafkaclient.Options{SASL: brokertest.Mechanism(t, name, "u", canaryPassword)}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if text := fmt.Sprintf(verb, options); strings.Contains(text, canaryPassword[:8]) ||
				strings.Contains(text, fmt.Sprintf("%x", canaryPassword[:8])) {
				t.Errorf("%s of %s: %s", verb, name, text)
			}
		}
	}
}

// A broker that refuses a password may quote it: no error or log line shows it.
func TestPasswordQuotedByBrokerIsNotLogged(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		cluster := newCluster(t, kfake.Ports(9092), kfake.ListenFn(network.Listen),
			kfake.SeedTopics(1, brokertest.Topics.Live, brokertest.Topics.DeadLetter),
			kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", canaryPassword))
		var quoted atomic.Int32
		cluster.ControlKey(kmsg.SASLAuthenticate.Int16(),
			func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				request := r.(*kmsg.SASLAuthenticateRequest)
				response := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				response.ErrorCode = kerr.SaslAuthenticationFailed.Code
				response.ErrorMessage = kmsg.StringPtr("refused: " + string(request.SASLAuthBytes))
				if strings.Contains(*response.ErrorMessage, canaryPassword) {
					quoted.Add(1)
				}
				return response, nil, true
			})
		var log brokertest.Logs
		client := newClient(t, kafkaclient.Options{
			Brokers: []string{"localhost:9092"}, Dial: network.DialContext,
			SASL: brokertest.Mechanism(t, "plain", "u", canaryPassword), Log: zerolog.New(&log),
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		used := event.Topics{Live: brokertest.Topics.Live, DeadLetter: brokertest.Topics.DeadLetter}
		for what, err := range map[string]error{
			"CheckTopics": admin.CheckTopics(ctx, client, used, false),
			"Consume": consumer.Consume(ctx, client,
				consumer.GroupOptions{Group: brokertest.Group, Topics: used},
				func(context.Context, *consumer.Generation) {}),
			"Publish": client.Publisher(brokertest.Topics.Live).
				Publish(ctx, event.Message{Value: []byte("x")}),
			"Write": deadletter.NewWriter(client, brokertest.Topics.DeadLetter).
				Write(ctx, brokertest.DeadLetter(event.Record{})),
		} {
			if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "canary") {
				t.Errorf("%s: %v", what, err)
			}
			if what != "Write" && !kafkaclient.IsRefused(err) {
				t.Errorf("%s: not a RefusedError: %v", what, err)
			}
		}
		if quoted.Load() < 4 || strings.Contains(log.String(), "canary") {
			t.Errorf("quoted %d times; the log: %s", quoted.Load(), log.String())
		}
	})
}
