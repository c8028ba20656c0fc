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

// Session sends requests to one broker, on its own connection: kafka-go's transport serves some of
// these requests from its cache, and chooses the broker for others.
type Session struct {
	conn     *protocolConn
	versions map[protocol.ApiKey]apiversions.ApiKeyResponse // that the broker supports
}

// Close closes the session's connection.
func (s *Session) Close() { s.conn.conn.Close() }

// ErrUnsupported reports that the broker supports no version of a request that markread supports.
var ErrUnsupported = errors.New(
	"the broker does not support this request, or no version of it that markread supports")

// roundTrip sends a request in the newest version that both sides support.
func (s *Session) roundTrip(ctx context.Context, request protocol.Message) (protocol.Message,
	error) {
	key := request.ApiKey()
	r, ok := s.versions[key]
	if version := key.SelectVersion(r.MinVersion, r.MaxVersion); ok && version >= r.MinVersion &&
		version <= r.MaxVersion {
		return s.conn.roundTripWithin(ctx, RequestTimeout, version, request)
	}
	return nil, fmt.Errorf("%s: %w", key, ErrUnsupported)
}

// Release returns the broker's Kafka release, judging by the request versions that it supports,
// such as "3.9" or "at least 4.4"; "": they match no release.
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

// Unsupported names the required requests that the broker does not support any more, or not yet.
func (s *Session) Unsupported() (names []string) {
	for _, n := range requiredRequests {
		r, ok := s.versions[n.key]
		if !ok || r.MaxVersion < n.least || r.MinVersion > n.key.MaxVersion() {
			names = append(names, n.key.String())
		}
	}
	return names
}

// OpenSession opens a session with a broker; "": the one of the options that responds first.
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

// requiredRequests are the requests that a worker sends, each with the lowest version that is
// sufficient. The highest version is kafka-go's, or the one of our own message that replaces it.
var requiredRequests = []struct {
	key   protocol.ApiKey
	least int16
}{
	{protocol.Produce, 3}, // headers of records: Kafka 0.11
	{protocol.Fetch, 4},   // lists aborted transactions
	{protocol.ListOffsets, 2},
	{protocol.Metadata, 4}, // does not create the topics that it names
	{protocol.OffsetCommit, 2},
	{protocol.OffsetFetch, 1},
	{protocol.FindCoordinator, 0},
	{protocol.JoinGroup, 1},
	{protocol.Heartbeat, 0},
	{protocol.LeaveGroup, 0},
	{protocol.SyncGroup, 0},
	{protocol.DescribeConfigs, 0},
}

// exactVersion matches a guess that names one release, or the lowest possible one.
var exactVersion = regexp.MustCompile(`^((?:at least )?)v(\d+(?:\.\d+)+)$`)
