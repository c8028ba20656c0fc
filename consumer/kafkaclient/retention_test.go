package kafkaclient_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/kafkaclient"
)

func TestRetentionOf(t *testing.T) {
	for name, c := range map[string]struct {
		ms, policy string
		want       time.Duration
		known      bool
	}{
		"a week":              {"604800000", "delete", 7 * 24 * time.Hour, true},
		"nothing is kept":     {"0", "delete", 0, true},
		"forever":             {"-1", "delete", kafkaclient.Forever, true},
		"longer than we know": {"9223372036854775807", "delete", kafkaclient.Forever, true},
		"compacted":           {"604800000", "compact", kafkaclient.Forever, true},
		"both":                {"604800000", "compact,delete", 7 * 24 * time.Hour, true},
		"not known":           {"", "delete", 0, false},
		"not a number":        {"a week", "delete", 0, false},
	} {
		got, known := kafkaclient.RetentionOf(map[string]string{
			kafkaclient.RetentionMs: c.ms, kafkaclient.CleanupPolicy: c.policy})
		if got != c.want || known != c.known {
			t.Errorf("%s: %v, %t; want %v, %t", name, got, known, c.want, c.known)
		}
	}
}

// A transient failure is retried; a topic whose settings the user may not read is missing.
func TestRetention(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		live, backfill := brokertest.Topics.Live, brokertest.Topics.Backfill
		got, err := w.Client().Retention(w.Context(), live, backfill)
		if err != nil || len(got) != 2 || got[live] != 24*time.Hour || got[backfill] != got[live] {
			t.Fatalf("%v, %v", got, err)
		}
		codes := []int16{kerr.RequestTimedOut.Code, kerr.RequestTimedOut.Code,
			kerr.TopicAuthorizationFailed.Code}
		brokertest.Respond(w, kmsg.DescribeConfigs,
			func(r kmsg.Request, a *kmsg.DescribeConfigsResponse) {
				for _, asked := range r.(*kmsg.DescribeConfigsRequest).Resources {
					topic := kmsg.NewDescribeConfigsResponseResource()
					topic.ResourceType, topic.ResourceName = asked.ResourceType, asked.ResourceName
					if asked.ResourceName == live {
						topic.ErrorCode, codes = codes[0], codes[1:]
					} else {
						week := "604800000"
						kept := kmsg.NewDescribeConfigsResponseResourceConfig()
						kept.Name, kept.Value = kafkaclient.RetentionMs, &week
						topic.Configs = append(topic.Configs, kept)
					}
					a.Resources = append(a.Resources, topic)
				}
			})
		got, err = w.Client().Retention(w.Context(), live, backfill)
		if err != nil || len(got) != 1 || got[backfill] != 7*24*time.Hour || len(codes) != 0 {
			t.Errorf("%v, %v; codes left %v", got, err, codes)
		}
	})
}
