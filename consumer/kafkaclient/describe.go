package kafkaclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// The settings of a topic that matter to a worker.
const (
	CleanupPolicy   = "cleanup.policy"
	RetentionMs     = "retention.ms"
	RetentionBytes  = "retention.bytes"
	MaxMessageBytes = "max.message.bytes"
	MinInSync       = "min.insync.replicas"
	TimestampType   = "message.timestamp.type"
)

// DefaultMessageBytes is Kafka's default of max.message.bytes.
const DefaultMessageBytes = 1048588

// Broker is a member of the cluster, with the address that the cluster advertises to clients.
type Broker struct {
	Node int
	Addr string // host:port
}

// Cluster describes the cluster, as one broker reports it.
type Cluster struct {
	Brokers    []Broker
	Controller string // its address; "": none at the moment
	Topics     map[string]Topic
}

// Topic describes a topic, as a broker reports it.
type Topic struct {
	// UnknownTopicOrPartition, or why nothing is known; nil: the topic exists
	Err        error
	Partitions []Partition // by number
	May        Operations  // what this client's user is allowed to do
}

// Partition describes the replicas of one partition.
type Partition struct {
	Leaderless bool
	Replicas   int
	InSync     int
}

// Describe requests the brokers and topics. A topic that the broker does not return is absent.
func (s *Session) Describe(ctx context.Context, topics []string) (Cluster, error) {
	response, err := s.roundTrip(ctx,
		&metadata.Request{TopicNames: topics, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return Cluster{}, err
	}
	r := response.(*metadata.Response)
	cluster := Cluster{Topics: map[string]Topic{}}
	for _, b := range r.Brokers {
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		cluster.Brokers = append(cluster.Brokers, Broker{int(b.NodeID), addr})
		if b.NodeID == r.ControllerID {
			cluster.Controller = addr
		}
	}
	for _, t := range r.Topics {
		topic := Topic{Err: BrokerError(t.ErrorCode), May: Operations(t.TopicAuthorizedOperations)}
		// the topic exists: its partitions say which leader is missing
		if errors.Is(topic.Err, kafka.LeaderNotAvailable) {
			topic.Err = nil
		}
		slices.SortFunc(t.Partitions, func(a, b metadata.ResponsePartition) int {
			return cmp.Compare(a.PartitionIndex, b.PartitionIndex)
		})
		for _, p := range t.Partitions {
			topic.Partitions = append(topic.Partitions,
				Partition{Leaderless: p.LeaderID < 0, Replicas: len(p.ReplicaNodes),
					InSync: len(p.IsrNodes)})
		}
		cluster.Topics[t.Name] = topic
	}
	return cluster, nil
}

// Settings are the settings of one topic, by name.
type Settings struct {
	Values map[string]string
	Err    error // why they are unknown
}

// Settings requests settings of topics, and returns them by topic.
func (s *Session) Settings(ctx context.Context, topics []string,
	names ...string) (map[string]Settings, error) {
	settings := map[string]Settings{}
	if len(topics) == 0 {
		return settings, nil
	}
	request := &describeconfigs.Request{}
	for _, topic := range topics {
		request.Resources = append(request.Resources, describeconfigs.RequestResource{
			ResourceType: int8(kafka.ResourceTypeTopic), ResourceName: topic, ConfigNames: names,
		})
	}
	response, err := s.roundTrip(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, r := range response.(*describeconfigs.Response).Resources {
		values := map[string]string{}
		for _, e := range r.ConfigEntries {
			values[e.ConfigName] = e.ConfigValue
		}
		settings[r.ResourceName] = Settings{values, BrokerError(r.ErrorCode)}
	}
	return settings, nil
}

// MessageLimit returns a topic's max.message.bytes, or Kafka's default if it can't be read.
func (c *Client) MessageLimit(ctx context.Context, topic string) int {
	ctx, cancel := context.WithTimeout(ctx, listOffsetsTimeout)
	defer cancel()
	if s, err := c.OpenSession(ctx, ""); err == nil {
		defer s.Close()
		settings, _ := s.Settings(ctx, []string{topic}, MaxMessageBytes)
		if n, err := strconv.Atoi(settings[topic].Values[MaxMessageBytes]); err == nil {
			return n
		}
	}
	return DefaultMessageBytes
}

// Forever is the retention of a topic that keeps its records.
const Forever = time.Duration(math.MaxInt64)

// RetentionOf returns, by its settings, how long a topic keeps its records; false if that is not
// known. retention.bytes may delete them earlier.
func RetentionOf(settings map[string]string) (time.Duration, bool) {
	ms, err := strconv.ParseInt(settings[RetentionMs], 10, 64)
	policy, known := settings[CleanupPolicy]
	switch {
	case err != nil:
		return 0, false
	case ms < 0, ms > Forever.Milliseconds(), known && !strings.Contains(policy, "delete"):
		return Forever, true
	}
	return time.Duration(ms) * time.Millisecond, true
}

// Retention requests how long topics keep their records, and retries transient failures until ctx
// ends. A topic whose settings the user may not read is missing in the result.
func (c *Client) Retention(ctx context.Context, topics ...string) (map[string]time.Duration,
	error) {
	retention := map[string]time.Duration{}
	err := c.Retry(ctx, "reading the topics' retention", func() error {
		ctx, cancel := context.WithTimeout(ctx, listOffsetsTimeout)
		defer cancel()
		s, err := c.OpenSession(ctx, "")
		if err != nil {
			return err
		}
		defer s.Close()
		settings, err := s.Settings(ctx, topics, RetentionMs, CleanupPolicy)
		for topic, found := range settings {
			if kept, known := RetentionOf(found.Values); known {
				retention[topic] = kept
			}
			if found.Err != nil && !Denied(found.Err) {
				err = cmp.Or(err, found.Err)
			}
		}
		return err
	})
	return retention, err
}

// NewTopic is a topic to create, with the brokers' default replication.
type NewTopic struct {
	Name       string
	Partitions int
	Settings   map[string]string
}

// CreateTopic sends one request to create a topic.
func (c *Client) CreateTopic(ctx context.Context, t NewTopic) error {
	response, err := request[*createtopics.Response](ctx, c, RequestTimeout, createRequest(t))
	if err != nil {
		return clarify(err)
	}
	return creationErrors(response)[t.Name]
}

func createRequest(topics ...NewTopic) *createtopics.Request {
	r := &createtopics.Request{TimeoutMs: int32(RequestTimeout.Milliseconds())}
	for _, t := range topics {
		topic := createtopics.RequestTopic{Name: t.Name, NumPartitions: int32(t.Partitions),
			ReplicationFactor: -1}
		for name, value := range t.Settings {
			topic.Configs = append(topic.Configs,
				createtopics.RequestConfig{Name: name, Value: value})
		}
		r.Topics = append(r.Topics, topic)
	}
	return r
}

// creationErrors returns the controller's error for each topic; nil if it accepts the topic.
func creationErrors(response protocol.Message) map[string]error {
	refused := map[string]error{}
	for _, t := range response.(*createtopics.Response).Topics {
		err := BrokerError(t.ErrorCode)
		if err != nil && t.ErrorMessage != "" && !Denied(err) {
			err = fmt.Errorf("%w: %.200s", err, t.ErrorMessage)
		}
		refused[t.Name] = err
	}
	return refused
}

// CheckCreate returns the errors that the controller would return for creating topics, by topic. It
// creates nothing. With ZooKeeper, no other broker forwards this request to the controller.
func (c *Client) CheckCreate(ctx context.Context, controller string,
	topics []NewTopic) (map[string]error, error) {
	if controller == "" {
		return nil, errors.New("the cluster has no controller at the moment")
	}
	s, err := c.OpenSession(ctx, controller)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	request := createRequest(topics...)
	request.ValidateOnly = true
	if s.versions[request.ApiKey()].MaxVersion < 1 { // version 0 would create them
		return nil, ErrUnsupported
	}
	response, err := s.roundTrip(ctx, request)
	if err != nil {
		return nil, err
	}
	refused := creationErrors(response)
	maps.DeleteFunc(refused, func(_ string, err error) bool {
		return err == nil || errors.Is(err, TopicAlreadyExists) // created meanwhile
	})
	return refused, nil
}

// PartitionCounts returns the number of partitions of each topic that exists. The counts may be up
// to 2 s old: see RefreshMetadata.
func (c *Client) PartitionCounts(ctx context.Context, topics ...string) (map[string]int, error) {
	response, err := c.api().Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, clarify(err)
	}
	counts := map[string]int{}
	for _, t := range response.Topics {
		if len(t.Partitions) > 0 {
			counts[t.Name] = len(t.Partitions)
		}
	}
	return counts, nil
}

// PartitionCount returns a topic's number of partitions, or a *MissingTopicError.
func (c *Client) PartitionCount(ctx context.Context, topic string) (int, error) {
	counts, err := c.PartitionCounts(ctx, topic)
	if err == nil && counts[topic] == 0 {
		c.RefreshMetadata()
		err = &MissingTopicError{[]string{topic}}
	}
	return counts[topic], err
}

// MissingTopicError reports topics that do not exist.
type MissingTopicError struct{ Topics []string }

func (e *MissingTopicError) Error() string {
	if len(e.Topics) == 1 {
		return fmt.Sprintf("topic %q does not exist: create it, or use --create-topics",
			e.Topics[0])
	}
	return fmt.Sprintf("topics %q do not exist: create them, or use --create-topics", e.Topics)
}

// Operations are the operations that this client's user may perform on a topic or a group, one bit
// each. Without an authorizer all are allowed.
type Operations int32

// The operations that a worker needs.
const (
	MayRead            Operations = 1 << 3
	MayWrite           Operations = 1 << 4
	MayDescribeConfigs Operations = 1 << 10
)

// Known reports whether the brokers returned the operations. Brokers before Kafka 2.3 do not.
func (o Operations) Known() bool { return o != 0 && o != math.MinInt32 }

// Has reports whether all the given operations are allowed.
func (o Operations) Has(some Operations) bool { return o&some == some }
