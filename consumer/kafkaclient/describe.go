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

// Broker is a member of the cluster, as the cluster names it to its clients.
type Broker struct {
	Node int
	Addr string // host:port
}

// Cluster is what one broker says of the cluster.
type Cluster struct {
	Brokers    []Broker
	Controller string // its address; "": there is none at the moment
	Topics     map[string]Topic
}

// Topic is what a broker says of a topic.
type Topic struct {
	Err        error       // UnknownTopicOrPartition, or why nothing is known; nil: it is there
	Partitions []Partition // by number
	May        Operations  // what this client's user may do
}

// Partition is who keeps one partition.
type Partition struct {
	Leaderless bool
	Replicas   int
	InSync     int
}

// Describe asks for brokers and topics. What the broker does not mention is absent.
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
		if errors.Is(topic.Err, LeaderNotAvailable) { // it is there, as its partitions tell
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

// Settings are those of one topic, by name.
type Settings struct {
	Values map[string]string
	Err    error // why they are not known
}

// Settings asks for the settings of topics, by topic.
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

// MessageLimit returns a topic's max.message.bytes, or Kafka's default if it may not be read.
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

// NewTopic is a topic to be created, with the brokers' default replication.
type NewTopic struct {
	Name       string
	Partitions int
	Settings   map[string]string
}

// CreateTopic creates a topic.
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

// creationErrors returns what the controller said of each topic that it refuses.
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

// CheckCreate asks the controller what it would say to the creation of topics: with ZooKeeper no
// other broker passes that on to it. It returns the refusals, and creates nothing.
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

// PartitionCounts returns how many partitions those of the topics have that exist, as of at most 2
// s ago: see RefreshMetadata.
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

// PartitionCount returns how many partitions the topic has.
func (c *Client) PartitionCount(ctx context.Context, topic string) (int, error) {
	counts, err := c.PartitionCounts(ctx, topic)
	if err == nil && counts[topic] == 0 {
		c.RefreshMetadata()
		err = &MissingTopicError{[]string{topic}}
	}
	return counts[topic], err
}

// MissingTopicError says that topics do not exist.
type MissingTopicError struct{ Topics []string }

func (e *MissingTopicError) Error() string {
	if len(e.Topics) == 1 {
		return fmt.Sprintf("topic %q does not exist: create it, or use --create-topics",
			e.Topics[0])
	}
	return fmt.Sprintf("topics %q do not exist: create them, or use --create-topics", e.Topics)
}

// Operations are what this client's user may do with a topic or a group, a bit each. Without an
// authorizer that is everything.
type Operations int32

// The operations that a worker needs.
const (
	MayRead            Operations = 1 << 3
	MayWrite           Operations = 1 << 4
	MayDescribeConfigs Operations = 1 << 10
)

// Known reports whether the brokers said so: those before Kafka 2.3 do not.
func (o Operations) Known() bool { return o != 0 && o != math.MinInt32 }

// Has reports whether all of the operations are allowed.
func (o Operations) Has(some Operations) bool { return o&some == some }
