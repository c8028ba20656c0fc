package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/twmb/franz-go/pkg/kversion"
)

// BrokerView is one broker as it answers from here.
type BrokerView struct {
	Addr    string   // host:port
	Given   bool     // Options.Brokers names it
	Node    int      // the number of the cluster's member whose clients are told to connect to Addr; -1: they are not
	Release string   // of Kafka, by what it understands, such as "3.9" or "at least 4.4"; "": it is like none
	Lacks   []string // which requests of a worker's it does not understand as the worker makes them
	Err     error    // why it can't be talked to, a *RefusedError if somebody must change a setting; nil: it can
}

// Listed reports whether the cluster tells its clients to connect to it.
func (v BrokerView) Listed() bool { return v.Node >= 0 }

const (
	brokersAtOnce = 64
	mostBrokers   = 1000 // no cluster has more; what is no broker may list anything
	brokerTries   = 4    // of one broker that fails at once: within some 2 s
)

// InspectBrokers talks to each broker of the options, and to each that these name as members of the cluster: a client begins with the ones, and
// works with the others. One that fails is tried again, for 8 s in all. They come in the order of the options, then by address.
func (c *Client) InspectBrokers(ctx context.Context) []BrokerView {
	ctx, cancel := looking(ctx)
	defer cancel()
	var mu sync.Mutex // of views, and of each one's Node
	var views []*BrokerView
	var all sync.WaitGroup
	turns := make(chan struct{}, brokersAtOnce)
	var meet func(addr string, node int)
	meet = func(addr string, node int) {
		if i := slices.IndexFunc(views, func(v *BrokerView) bool { return v.Addr == addr }); i >= 0 {
			views[i].Node = max(views[i].Node, node)
			return
		}
		if len(views) == mostBrokers {
			return
		}
		view := &BrokerView{Addr: addr, Node: node, Given: node < 0}
		views = append(views, view)
		all.Go(func() {
			turns <- struct{}{}
			listed := c.inspectBroker(ctx, view)
			<-turns
			mu.Lock()
			defer mu.Unlock()
			for _, b := range listed {
				meet(addrOf(b), int(b.NodeID))
			}
		})
	}
	mu.Lock() // so that those of the options come first
	for _, addr := range c.options.Brokers {
		meet(addr, -1)
	}
	mu.Unlock()
	all.Wait()
	found := make([]BrokerView, len(views))
	given := 0
	for i, v := range views {
		if found[i] = *v; v.Given {
			given++
		}
	}
	slices.SortFunc(found[given:], func(a, b BrokerView) int { return cmp.Compare(a.Addr, b.Addr) })
	return found
}

// inspectBroker fills in what one broker tells, and returns the cluster's members. What fails is tried again, unless it will stay.
func (c *Client) inspectBroker(ctx context.Context, view *BrokerView) (listed []metadata.ResponseBroker) {
	pauses := newWait()
	for range brokerTries {
		listed, err := c.askBroker(ctx, view)
		if err == nil || view.Err == nil || ctx.Err() == nil { // a try that was cut off tells less than one before it
			view.Err = err
		}
		if err == nil || !retriable(err) || !pauses.sleep(ctx) {
			return listed
		}
	}
	return nil
}

func (c *Client) askBroker(ctx context.Context, view *BrokerView) (listed []metadata.ResponseBroker, err error) {
	conn, err := c.greetOne(ctx, view.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	s := c.session(conn)
	if err := s.learn(ctx); err != nil {
		return nil, err
	}
	view.Release, view.Lacks = s.release(), s.lacks()
	answer, err := s.ask(ctx, &metadata.Request{TopicNames: []string{}})
	switch {
	case errors.Is(err, errForeign):
		return nil, nil // it answers; Lacks has it
	case err != nil:
		return nil, err
	}
	return answer.(*metadata.Response).Brokers, nil
}

func addrOf(b metadata.ResponseBroker) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}

// needed are the requests that a worker makes, and the least version of each in which it can do what it is for. Their largest is what kafka-go, or
// our own message in its place, has.
var needed = []struct {
	key   protocol.ApiKey
	least int16
}{
	{protocol.Produce, 3}, // headers of records: Kafka 0.11
	{protocol.Fetch, 4},   // without aborted transactions
	{protocol.ListOffsets, 2},
	{protocol.Metadata, 4}, // without making the topics that it asks about
	{protocol.OffsetCommit, 2},
	{protocol.OffsetFetch, 1},
	{protocol.FindCoordinator, 0},
	{protocol.JoinGroup, 1},
	{protocol.Heartbeat, 0},
	{protocol.LeaveGroup, 0},
	{protocol.SyncGroup, 0},
	{protocol.DescribeConfigs, 0},
}

// session asks one broker, on a connection of its own. kafka-go's transport answers some of these requests from its memory, and which broker
// answers others is its choice.
type session struct {
	conn   net.Conn
	talk   *talk
	ranges map[protocol.ApiKey]apiversions.ApiKeyResponse
}

func (c *Client) session(conn net.Conn) *session {
	t := c.talk(conn)
	t.most = largestAnswer
	return &session{conn: conn, talk: t}
}

// largestAnswer bounds an answer about a few topics, in bytes: each partition takes some 60.
const largestAnswer = 64 << 20

// learn asks which versions of each request the broker understands.
func (s *session) learn(ctx context.Context) error {
	answer, err := s.exchange(ctx, 0, &apiversions.Request{})
	if err != nil {
		return err
	}
	s.ranges = map[protocol.ApiKey]apiversions.ApiKeyResponse{}
	for _, r := range answer.(*apiversions.Response).ApiKeys {
		s.ranges[protocol.ApiKey(r.ApiKey)] = r
	}
	return nil
}

// errForeign says that the broker does not understand a request in any version of ours.
var errForeign = errors.New("the broker does not understand this request, or no version of it that markread does")

// ask sends a request in the newest version that both sides understand.
func (s *session) ask(ctx context.Context, request protocol.Message) (protocol.Message, error) {
	key := request.ApiKey()
	r, ok := s.ranges[key]
	if version := key.SelectVersion(r.MinVersion, r.MaxVersion); ok && version >= r.MinVersion && version <= r.MaxVersion {
		return s.exchange(ctx, version, request)
	}
	return nil, fmt.Errorf("%s: %w", key, errForeign)
}

func (s *session) exchange(ctx context.Context, version int16, request protocol.Message) (protocol.Message, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) }) // ends a read or write under way
	defer stop()
	answer, err := s.talk.exchange(version, request)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

// exactly is a guess that is none, or nearly so.
var exactly = regexp.MustCompile(`^((?:at least )?)v(\d+(?:\.\d+)+)$`)

// release tells which Kafka it is.
func (s *session) release() string {
	var versions kversion.Versions
	for key, r := range s.ranges {
		versions.SetMaxKeyVersion(int16(key), r.MaxVersion)
	}
	if m := exactly.FindStringSubmatch(versions.VersionGuess()); m != nil {
		return m[1] + m[2]
	}
	return ""
}

// lacks names what of the needed requests the broker does not understand any more, or not yet.
func (s *session) lacks() (names []string) {
	for _, n := range needed {
		r, ok := s.ranges[n.key]
		if !ok || r.MaxVersion < n.least || r.MinVersion > n.key.MaxVersion() {
			names = append(names, n.key.String())
		}
	}
	return names
}
