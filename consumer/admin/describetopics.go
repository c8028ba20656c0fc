package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// DeadLetterOverhead is what a dead letter may need beyond the record that it is about, in bytes.
const DeadLetterOverhead = event.LetterOverhead

// DescribedTopic is one topic as the brokers describe it.
type DescribedTopic struct {
	Name       string
	Missing    bool
	Refused    error                  // with Missing: why it could not be made; nil: it could, or that was not asked
	Err        error                  // why nothing is known of it; see Denied
	Partitions []DescribedPartition   // by number
	May        kafkaclient.Operations // what the user may do
	Settings   map[string]string      // nil: not known
	Unknown    error                  // why Settings are not known
}

// there reports whether the topic is known to be.
func (v DescribedTopic) there() bool { return v.Err == nil && !v.Missing }

// DescribedPartition is who keeps one partition.
type DescribedPartition struct {
	Leaderless bool
	Replicas   int
	InSync     int
}

// DescribeTopics describes the topics, in the order of Topics, without making any. With create it also asks whether those that are missing could
// be made as CheckTopics makes them. It tries for 8 s. What is known by then is there: an error says that nothing is.
func DescribeTopics(ctx context.Context, c *kafkaclient.Client, topics event.Topics, create bool) (views []DescribedTopic, err error) {
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	err = c.Retry(ctx, "describing the topics", func() error {
		latest, err := describeTopics(ctx, c, topics, create)
		if latest != nil {
			views = latest
		}
		return err
	})
	if views != nil {
		return views, nil
	}
	return nil, err
}

// describeTopics returns what it has found out, and why it could not find out the rest.
func describeTopics(ctx context.Context, c *kafkaclient.Client, topics event.Topics, create bool) ([]DescribedTopic, error) {
	s, err := c.OpenSession(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Conn.Close()
	views, cluster, err := describe(ctx, s, topics.All())
	if err != nil {
		return nil, err
	}
	err = readSettings(ctx, s, views)
	if create {
		err = cmp.Or(err, tryCreate(ctx, c, cluster, topics, views))
	}
	return views, err
}

// describe asks for topics, and what this user may do with them: a view of each, in that order.
func describe(ctx context.Context, s *kafkaclient.Session, topics []string) ([]DescribedTopic, *metadata.Response, error) {
	answer, err := s.Ask(ctx, &metadata.Request{TopicNames: topics, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return nil, nil, err
	}
	cluster := answer.(*metadata.Response)
	views := make([]DescribedTopic, len(topics))
	for i, name := range topics {
		views[i] = topicView(name, cluster)
	}
	return views, cluster, nil
}

func topicView(name string, cluster *metadata.Response) DescribedTopic {
	view := DescribedTopic{Name: name}
	i := slices.IndexFunc(cluster.Topics, func(t metadata.ResponseTopic) bool { return t.Name == name })
	if i < 0 {
		view.Err = fmt.Errorf("topic %q: the broker did not describe it", name)
		return view
	}
	t := cluster.Topics[i]
	switch err := kafkaclient.BrokerError(t.ErrorCode); {
	case errors.Is(err, kafka.UnknownTopicOrPartition):
		view.Missing = true
	case t.ErrorCode != 0 && !errors.Is(err, kafka.LeaderNotAvailable): // then it is there, as its partitions tell
		view.Err = err
	}
	view.May = kafkaclient.Operations(t.TopicAuthorizedOperations)
	slices.SortFunc(t.Partitions, func(a, b metadata.ResponsePartition) int { return int(a.PartitionIndex) - int(b.PartitionIndex) })
	for _, p := range t.Partitions {
		view.Partitions = append(view.Partitions, DescribedPartition{Leaderless: p.LeaderID < 0, Replicas: len(p.ReplicaNodes), InSync: len(p.IsrNodes)})
	}
	return view
}

// readSettings asks for the settings of the topics that are there. The error is in the views, too.
func readSettings(ctx context.Context, s *kafkaclient.Session, views []DescribedTopic) error {
	request := &describeconfigs.Request{}
	for _, v := range views {
		if v.there() {
			request.Resources = append(request.Resources, describeconfigs.RequestResource{
				ResourceType: int8(kafka.ResourceTypeTopic), ResourceName: v.Name,
				ConfigNames: []string{kafkaclient.CleanupPolicy, kafkaclient.RetentionMs, kafkaclient.RetentionBytes, kafkaclient.MaxMessageBytes, kafkaclient.MinInSync, kafkaclient.TimestampType},
			})
		}
	}
	if len(request.Resources) == 0 {
		return nil
	}
	answer, err := s.Ask(ctx, request)
	if err != nil {
		for i := range views {
			views[i].Unknown = err
		}
		return err
	}
	for _, r := range answer.(*describeconfigs.Response).Resources {
		i := slices.IndexFunc(views, func(v DescribedTopic) bool { return v.Name == r.ResourceName })
		switch {
		case i < 0:
		case r.ErrorCode != 0:
			views[i].Unknown = kafkaclient.BrokerError(r.ErrorCode)
		default:
			views[i].Settings = map[string]string{}
			for _, e := range r.ConfigEntries {
				views[i].Settings[e.ConfigName] = e.ConfigValue
			}
		}
	}
	return nil
}

// tryCreate asks the controller what it would say to making the missing topics. It makes none. The error is in the views, too.
func tryCreate(ctx context.Context, c *kafkaclient.Client, cluster *metadata.Response, topics event.Topics, views []DescribedTopic) error {
	request := &createtopics.Request{TimeoutMs: int32(kafkaclient.RequestTimeout.Milliseconds()), ValidateOnly: true}
	for _, v := range views {
		if !v.Missing {
			continue
		}
		t := createtopics.RequestTopic{Name: v.Name, NumPartitions: createdPartitions, ReplicationFactor: -1}
		if v.Name == topics.DeadLetter {
			for _, e := range letterSettings(cmp.Or(LargestEvent(topics, views), kafkaclient.DefaultMessageBytes)) {
				t.Configs = append(t.Configs, createtopics.RequestConfig{Name: e.ConfigName, Value: e.ConfigValue})
			}
		}
		request.Topics = append(request.Topics, t)
	}
	if len(request.Topics) == 0 {
		return nil
	}
	answer, err := askController(ctx, c, cluster, request)
	passing := err // what may be another the next time
	for i := range views {
		v := &views[i]
		if !v.Missing {
			continue
		}
		if v.Refused = err; err != nil {
			continue
		}
		for _, t := range answer.Topics {
			err := kafkaclient.BrokerError(t.ErrorCode)
			if t.Name == v.Name && err != nil && !errors.Is(err, kafka.TopicAlreadyExists) { // made meanwhile
				v.Refused = err
				if t.ErrorMessage != "" && !kafkaclient.Denied(err) {
					v.Refused = fmt.Errorf("%w: %.200s", err, t.ErrorMessage)
				}
			}
		}
		if v.Refused != nil && kafkaclient.Retriable(v.Refused) {
			passing = v.Refused
		}
	}
	return passing
}

// LargestEvent is the most that any of the event topics takes in a batch, in bytes; 0: not known.
func LargestEvent(topics event.Topics, views []DescribedTopic) (largest int) {
	for _, v := range views {
		if n, err := strconv.Atoi(v.Settings[kafkaclient.MaxMessageBytes]); err == nil && v.Name != topics.DeadLetter {
			largest = max(largest, n)
		}
	}
	return largest
}

// askController sends a request to the controller, which with ZooKeeper no other broker passes it on to.
func askController(ctx context.Context, c *kafkaclient.Client, cluster *metadata.Response, request *createtopics.Request) (*createtopics.Response, error) {
	i := slices.IndexFunc(cluster.Brokers, func(b metadata.ResponseBroker) bool { return b.NodeID == cluster.ControllerID })
	if i < 0 {
		return nil, errors.New("the cluster has no controller at the moment")
	}
	conn, err := c.Connect(ctx, addrOf(cluster.Brokers[i]))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	controller := c.NewSession(conn)
	if err := controller.Learn(ctx); err != nil {
		return nil, err
	}
	if controller.Ranges[request.ApiKey()].MaxVersion < 1 { // version 0 would make them
		return nil, kafkaclient.ErrNotUnderstood
	}
	answer, err := controller.Ask(ctx, request)
	if err != nil {
		return nil, err
	}
	return answer.(*createtopics.Response), nil
}
