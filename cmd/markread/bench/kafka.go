package bench

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker"
)

const partitions = 12

// runBroker is the role of the embedded broker.
func runBroker(ctx context.Context, stdout io.Writer) error {
	b, err := broker.Start(broker.Options{Partitions: partitions})
	if err != nil {
		return err
	}
	defer b.Close()
	fmt.Fprintln(stdout, "listening on", b.Addr())
	<-ctx.Done()
	return nil
}

// kafkaSide is the Kafka of one row, with a topic for it.
type kafkaSide struct {
	brokers []string
	broker  *process // nil: it runs already
	client  *kgo.Client
	topic   string
	created []string
}

// startKafka starts a broker, unless there is one, and creates the row's topic.
func (b *bench) startKafka(ctx context.Context, row string) (k *kafkaSide, err error) {
	k = &kafkaSide{brokers: b.Brokers, topic: fmt.Sprintf("bench-%s-%d", row, time.Now().Unix())}
	if len(k.brokers) == 0 {
		if k.broker, err = start(ctx, b.self, "broker", job{}); err != nil {
			return nil, err
		}
		addr, err := k.broker.line(ctx, `listening on (\S+)`)
		if err != nil {
			k.close()
			return nil, err
		}
		k.brokers = []string{addr}
	}
	k.client, err = kgo.NewClient(kgo.SeedBrokers(k.brokers...), kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(200_000), kgo.ProducerBatchMaxBytes(900_000))
	if err == nil {
		err = k.create(ctx, k.topic)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// create creates a topic. The broker chooses its replication.
func (k *kafkaSide) create(ctx context.Context, topic string) error {
	request := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, -1
	request.Topics = append(request.Topics, t)
	response, err := request.RequestWith(ctx, k.client)
	if err != nil {
		return err
	}
	k.created = append(k.created, topic)
	return kerr.ErrorForCode(response.Topics[0].ErrorCode)
}

// close stops the broker, or deletes the topics of one that continues.
func (k *kafkaSide) close() {
	if k.broker != nil {
		defer k.broker.stop()
	} else if len(k.created) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		request := kmsg.NewPtrDeleteTopicsRequest()
		for _, topic := range k.created {
			t := kmsg.NewDeleteTopicsRequestTopic()
			t.Topic = &topic
			request.Topics = append(request.Topics, t)
			request.TopicNames = append(request.TopicNames, topic)
		}
		_, _ = request.RequestWith(ctx, k.client) // they can be deleted by hand
	}
	if k.client != nil {
		k.client.Close()
	}
}

// oldest is the read time of the first event of each topic.
var oldest = time.Now().Add(-time.Hour).Unix()

// record returns event i of n over a number of conversations. Each conversation's read times grow
// with the events' positions, and the last ones are an hour after the first.
func record(topic string, i, n, conversations int) *kgo.Record {
	report, peer := account(i%conversations), account(i%conversations+50_000_000)
	value := make([]byte, 0, 96)
	value = append(value, `{"Report_Account":"`...)
	value = append(value, report...)
	value = append(value, `","Peer_Account":"`...)
	value = append(value, peer...)
	value = append(value, `","MsgReadTime":"`...)
	value = strconv.AppendInt(value, oldest+int64(i)*3600/int64(n), 10)
	value = append(value, `"}`...)
	return &kgo.Record{Topic: topic, Key: []byte(report + "|" + peer), Value: value}
}

// account returns the name of a user, such as u01234567.
func account(i int) string {
	digits := strconv.Itoa(100_000_000 + i)
	return "u" + digits[1:]
}

// produce produces n events over a number of conversations, in order.
func (k *kafkaSide) produce(ctx context.Context, topic string, n, conversations int) error {
	failed := make(chan error, 1)
	for i := range n {
		k.client.Produce(ctx, record(topic, i, n, conversations), func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := k.client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
