package consumer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
)

// kafka-go's own message for the answer to a fetch drops two things of each batch of records: the time when
// the broker has appended it, and its last offset. Registering ours replaces it in the process:
// kafka.Client.Fetch must not be used.
func init() {
	protocol.Register(&fetchRequest{}, &fetchResponse{})
}

// Version 4 (Kafka 0.11) is the first that can filter aborted transactions.
type fetchRequest struct {
	ReplicaID       int32                 `kafka:"min=v4,max=v11"`
	MaxWaitTime     int32                 `kafka:"min=v4,max=v11"`
	MinBytes        int32                 `kafka:"min=v4,max=v11"`
	MaxBytes        int32                 `kafka:"min=v4,max=v11"`
	IsolationLevel  int8                  `kafka:"min=v4,max=v11"`
	SessionID       int32                 `kafka:"min=v7,max=v11"`
	SessionEpoch    int32                 `kafka:"min=v7,max=v11"`
	Topics          []fetchTopic          `kafka:"min=v4,max=v11"`
	ForgottenTopics []fetchForgottenTopic `kafka:"min=v7,max=v11"`
	RackID          string                `kafka:"min=v11,max=v11"`
}

type fetchTopic struct {
	Topic      string           `kafka:"min=v4,max=v11"`
	Partitions []fetchPartition `kafka:"min=v4,max=v11"`
}

type fetchPartition struct {
	Partition          int32 `kafka:"min=v4,max=v11"`
	CurrentLeaderEpoch int32 `kafka:"min=v9,max=v11"`
	FetchOffset        int64 `kafka:"min=v4,max=v11"`
	LogStartOffset     int64 `kafka:"min=v5,max=v11"`
	PartitionMaxBytes  int32 `kafka:"min=v4,max=v11"`
}

type fetchForgottenTopic struct {
	Topic      string  `kafka:"min=v7,max=v11"`
	Partitions []int32 `kafka:"min=v7,max=v11"`
}

func (*fetchRequest) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Broker makes the transport send it to the leader of the partition, of which there is one in a request.
func (r *fetchRequest) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	name, number := r.Topics[0].Topic, r.Topics[0].Partitions[0].Partition
	topic, ok := cluster.Topics[name]
	if !ok {
		return protocol.Broker{}, protocol.NewErrNoTopic(name)
	}
	partition, ok := topic.Partitions[number]
	if !ok {
		return protocol.Broker{}, protocol.NewErrNoPartition(name, number)
	}
	leader, ok := cluster.Brokers[partition.Leader]
	if !ok {
		return protocol.Broker{}, protocol.NewErrNoLeader(name, number)
	}
	return leader, nil
}

type fetchResponse struct {
	ThrottleTimeMs int32                `kafka:"min=v4,max=v11"`
	ErrorCode      int16                `kafka:"min=v7,max=v11"`
	SessionID      int32                `kafka:"min=v7,max=v11"`
	Topics         []fetchTopicResponse `kafka:"min=v4,max=v11"`
}

type fetchTopicResponse struct {
	Topic      string                   `kafka:"min=v4,max=v11"`
	Partitions []fetchPartitionResponse `kafka:"min=v4,max=v11"`
}

type fetchPartitionResponse struct {
	Partition            int32                `kafka:"min=v4,max=v11"`
	ErrorCode            int16                `kafka:"min=v4,max=v11"`
	HighWatermark        int64                `kafka:"min=v4,max=v11"`
	LastStableOffset     int64                `kafka:"min=v4,max=v11"`
	LogStartOffset       int64                `kafka:"min=v5,max=v11"`
	AbortedTransactions  []abortedTransaction `kafka:"min=v4,max=v11"`
	PreferredReadReplica int32                `kafka:"min=v11,max=v11"`
	Records              recordSet            `kafka:"min=v4,max=v11"`
}

type abortedTransaction struct {
	ProducerID  int64 `kafka:"min=v4,max=v11"`
	FirstOffset int64 `kafka:"min=v4,max=v11"`
}

func (*fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

// recordSet is the batches of an answer. kafka-go decodes their records; their headers are read here.
type recordSet struct {
	batches []recordBatch
	err     error // why there are no batches, or no more of them
}

type recordBatch struct {
	batchHeader
	records protocol.RecordReader
}

// batchHeader is what stands before the records of a batch, and need not be decompressed.
type batchHeader struct {
	base, last int64 // its offsets: it also occupies those of records that compaction has removed
	producer   int64 // -1: none
	attributes protocol.Attributes
	appended   int64 // when the broker has appended it, in milliseconds; -1: the records have times of their own
	count      int   // of records that are left; -1: not known
}

const (
	logAppendTime   protocol.Attributes = 1 << 3
	batchOverhead                       = 8 + 4 // base offset, size of what follows
	batchHeaderSize                     = 61
	messageHeader                       = 26 // of the formats before, with a timestamp
)

// parseHeader reads the header of the batch that b begins with, and returns the size of the whole batch. The last
// one of an answer may be cut off: then it is an error.
func parseHeader(b []byte) (h batchHeader, size int, err error) {
	if len(b) < messageHeader {
		return h, 0, io.ErrUnexpectedEOF
	}
	size = batchOverhead + int(int32(binary.BigEndian.Uint32(b[8:])))
	if size < messageHeader || size > len(b) {
		return h, 0, io.ErrUnexpectedEOF
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
	h = batchHeader{base: at(0), last: at(0), producer: -1, appended: -1, count: -1}
	if magic := b[16]; magic < 2 { // a message, or several that are compressed: then the offset is that of the last
		h.attributes = protocol.Attributes(b[17])
		if magic == 1 && h.attributes&logAppendTime != 0 {
			h.appended = at(18)
		}
		return h, size, nil
	}
	if size < batchHeaderSize {
		return h, 0, io.ErrUnexpectedEOF
	}
	h.attributes = protocol.Attributes(binary.BigEndian.Uint16(b[21:]))
	h.last += int64(int32(binary.BigEndian.Uint32(b[23:])))
	if h.attributes&logAppendTime != 0 {
		h.appended = at(35) // the largest time of the batch
	}
	h.producer = at(43)
	h.count = int(int32(binary.BigEndian.Uint32(b[57:])))
	if h.count < 0 || int64(h.count) > h.last-h.base+1 {
		return h, 0, fmt.Errorf("%d records at the offsets %d to %d", h.count, h.base, h.last)
	}
	return h, size, nil
}

// ReadFrom reads the batches from kafka-go's decoder of an answer. What is wrong with them is no error of the
// connection: it is kept in err.
func (s *recordSet) ReadFrom(r io.Reader) (int64, error) {
	*s = recordSet{}
	var prefix [4]byte
	if n, err := io.ReadFull(r, prefix[:]); err != nil {
		return int64(n), err
	}
	size := int64(int32(binary.BigEndian.Uint32(prefix[:])))
	if size <= 0 {
		return 4, nil
	}
	raw := bytes.NewBuffer(make([]byte, 0, 4+min(size, fetchBytes)+bytes.MinRead)) // a size may lie
	raw.Write(prefix[:])
	n, err := raw.ReadFrom(io.LimitReader(r, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		s.decode(raw.Bytes())
	}
	return 4 + n, err
}

// decode reads the batches in raw, which begins with the size of what follows. kafka-go panics at headers that
// lie, so it gets what comes before the first of them.
func (s *recordSet) decode(raw []byte) {
	var headers []batchHeader
	end := 4
	for end < len(raw) {
		h, size, err := parseHeader(raw[end:])
		if err != nil {
			s.err = fmt.Errorf("a batch of records: %w", err)
			break
		}
		headers = append(headers, h)
		end += size
	}
	if len(headers) == 0 {
		return
	}
	binary.BigEndian.PutUint32(raw, uint32(end-4))
	var set protocol.RecordSet
	if _, err := set.ReadFrom(bytes.NewBuffer(raw[:end])); err != nil {
		s.err = err
		return
	}
	var readers []protocol.RecordReader // one for each batch, up to the first that can't be read
	if stream, ok := set.Records.(*protocol.RecordStream); ok {
		readers = stream.Records
	}
	for i, reader := range readers[:min(len(readers), len(headers))] {
		s.batches = append(s.batches, recordBatch{headers[i], reader})
	}
}

var (
	_ protocol.BrokerMessage = (*fetchRequest)(nil)
	_ io.ReaderFrom          = (*recordSet)(nil)
)
