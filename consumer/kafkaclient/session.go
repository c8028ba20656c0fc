package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Session asks one broker, on its own connection: kafka-go's transport answers some of these
// requests from memory, and chooses the broker for others.
type Session struct {
	conn     *protocolConn
	versions map[protocol.ApiKey]apiversions.ApiKeyResponse // versions that the broker understands
}

// Close ends the session.
func (s *Session) Close() { s.conn.conn.Close() }

// ErrUnsupported says that the broker does not understand a request in any version of ours.
var ErrUnsupported = errors.New(
	"the broker does not understand this request, or no version of it that markread does")

// roundTrip sends a request in the newest version that both sides understand.
func (s *Session) roundTrip(ctx context.Context, request protocol.Message) (protocol.Message, error) {
	key := request.ApiKey()
	r, ok := s.versions[key]
	if version := key.SelectVersion(r.MinVersion, r.MaxVersion); ok && version >= r.MinVersion &&
		version <= r.MaxVersion {
		return s.conn.roundTripWithin(ctx, RequestTimeout, version, request)
	}
	return nil, fmt.Errorf("%s: %w", key, ErrUnsupported)
}

// Release tells which Kafka it is.
func (s *Session) Release() string {
	var versions kversion.Versions
	for key, r := range s.versions {
		versions.SetMaxKeyVersion(int16(key), r.MaxVersion)
	}
	if m := exactVersion.FindStringSubmatch(versions.VersionGuess()); m != nil {
		return m[1] + m[2]
	}
	return ""
}

// Unsupported names what of the needed requests the broker does not understand any more, or not yet.
func (s *Session) Unsupported() (names []string) {
	for _, n := range requiredRequests {
		r, ok := s.versions[n.key]
		if !ok || r.MaxVersion < n.least || r.MinVersion > n.key.MaxVersion() {
			names = append(names, n.key.String())
		}
	}
	return names
}

// OpenSession returns a session with a broker; "": with the one of the options that answers first.
func (c *Client) OpenSession(ctx context.Context, broker string) (s *Session, err error) {
	var conn net.Conn
	if broker == "" {
		conn, err = c.race(ctx, c.connect)
	} else {
		conn, err = c.connectDiagnosed(ctx, broker)
	}
	if err != nil {
		return nil, err
	}
	s = &Session{c.newProtocolConn(conn), map[protocol.ApiKey]apiversions.ApiKeyResponse{}}
	response, err := s.conn.roundTripWithin(ctx, RequestTimeout, 0, &apiversions.Request{})
	if err != nil {
		s.Close()
		return nil, err
	}
	for _, r := range response.(*apiversions.Response).ApiKeys {
		s.versions[protocol.ApiKey(r.ApiKey)] = r
	}
	return s, nil
}

// requiredRequests are the requests that a worker makes, and the least version in which each does what it is
// for. The largest version is what kafka-go, or our own message in its place, has.
var requiredRequests = []struct {
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

// exactVersion is a guess that is none, or nearly so.
var exactVersion = regexp.MustCompile(`^((?:at least )?)v(\d+(?:\.\d+)+)$`)
