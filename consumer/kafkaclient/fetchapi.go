package kafkaclient

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"markread/consumer/batch"
)

// fetchExchange is a fetch whose response this package reads. kafka-go finds the leader and the
// connection, and calls RawExchange. Its own code trusts record lengths that anyone may have
// written, and drops each batch's append time and last offset.
type fetchExchange struct {
	fetch.Request
	clientID string
	version  int16 // of the request, which kafka-go negotiated with the broker
	lease    *lease
	progress func() // called while the response arrives
}

// Required records the version. kafka-go calls it to decide whether to call RawExchange.
func (x *fetchExchange) Required(versions map[protocol.ApiKey]int16) bool {
	x.version = versions[protocol.Fetch]
	return true
}

// fetchResponse is the response for one partition.
type fetchResponse struct {
	HighWatermark int64
	LogStart      int64 // -1: old brokers don't return it
	aborted       []abortedTransaction
	Records       []byte
	buffer        []byte       // the memory of Records
	large         *batch.Batch // instead of Records: a batch that is too large to be kept
	unreadBytes   int64        // bytes of records that were not read, for lack of memory
	damage        error        // of large
	errorCode     kafka.Error  // 0: none
}

type abortedTransaction struct{ producer, firstOffset int64 }

// ApiKey is required by kafka-go's protocol.Message.
func (*fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

// fetchCorrelation is the correlation ID of each fetch: a connection has one request at a time.
const fetchCorrelation = 1

// RawExchange sends the request and reads the response to its end. An error closes the connection;
// a broker's error code is in the response.
func (x *fetchExchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if x.version < 4 { // Kafka 0.11
		return nil, errors.New("the broker is older than Kafka 0.11: it can't list aborted " +
			"transactions")
	}
	if conn, ok := rw.(net.Conn); ok {
		progress := x.progress
		x.progress = func() {
			progress()
			_ = conn.SetDeadline(time.Now().Add(RequestTimeout))
		}
		_ = conn.SetDeadline(time.Now().Add(fetchWait + RequestTimeout))
		defer func() { _ = conn.SetDeadline(time.Time{}) }()
	}
	if err := protocol.WriteRequest(rw, x.version, fetchCorrelation, x.clientID,
		&x.Request); err != nil {
		return nil, err
	}
	in := input{from: rw, left: 4, progress: x.progress}
	in.left = int64(in.int32())
	if id := in.int32(); in.err == nil && id != fetchCorrelation {
		return nil, fmt.Errorf("the response belongs to request %d, not to %d", id,
			fetchCorrelation)
	}
	x.progress()
	r, errorCode := x.read(&in)
	in.discard(in.left)
	if in.err != nil {
		return nil, fmt.Errorf("response to a fetch: %w", in.err)
	}
	r.errorCode = errorCode
	return r, nil
}

// read reads the response's fields, in the order of Kafka's protocol documentation.
func (x *fetchExchange) read(in *input) (r *fetchResponse, errorCode kafka.Error) {
	r = &fetchResponse{HighWatermark: -1, LogStart: -1}
	in.int32() // throttle time
	if x.version >= 7 {
		if code := in.int16(); code != 0 {
			return r, kafka.Error(code)
		}
		in.int32() // session
	}
	in.one("topics")
	in.discard(int64(in.int16())) // the topic's name
	in.one("partitions")
	in.int32() // the partition's number
	if code := in.int16(); code != 0 {
		return r, kafka.Error(code)
	}
	r.HighWatermark = in.int64()
	in.int64() // last stable offset
	if x.version >= 5 {
		r.LogStart = in.int64()
	}
	for n := in.int32(); n > 0 && in.err == nil; n-- {
		r.aborted = append(r.aborted, abortedTransaction{in.int64(), in.int64()})
	}
	if x.version >= 11 {
		in.int32() // preferred replica
	}
	size := int64(in.int32())
	switch {
	case in.err != nil, size <= 0:
	case size > in.left:
		in.err = fmt.Errorf("%d bytes of records in the last %d bytes of it", size, in.left)
	case size > MaxBatch:
		b, err := batch.ParseLarge(io.LimitReader(in, size))
		if in.err == nil && err != nil {
			r.damage = err
		}
		r.large = &b
	case !x.lease.tryAcquire(size):
		r.unreadBytes = size
	default:
		r.buffer = in.bytes(x.lease.memory.buffers.get(size))
		r.Records = r.buffer
	}
	slices.SortFunc(r.aborted,
		func(a, b abortedTransaction) int { return cmp.Compare(a.firstOffset, b.firstOffset) })
	return r, 0
}

// input reads a response of left bytes. After the first error it reads only zeros.
type input struct {
	from       io.Reader
	left       int64
	progress   func()
	unreported int64 // bytes since the last call of progress
	err        error
	buf        [8]byte
}

// stepBytes is how many bytes of a response must be read to count as progress.
const stepBytes = 256 << 10

func (in *input) Read(b []byte) (n int, err error) {
	if in.err != nil || in.left <= 0 {
		return 0, cmp.Or(in.err, io.EOF)
	}
	if n, err = in.from.Read(b[:min(int64(len(b)), in.left)]); n == 0 {
		in.err = err
	}
	in.left -= int64(n)
	if in.unreported += int64(n); in.unreported >= stepBytes {
		in.unreported = 0
		in.progress()
	}
	return n, in.err
}

// bytes fills b.
func (in *input) bytes(b []byte) []byte {
	if _, err := io.ReadFull(in, b); err != nil {
		clear(b)
		in.err = cmp.Or(in.err, io.ErrUnexpectedEOF)
	}
	return b
}

func (in *input) int16() int16 { return int16(binary.BigEndian.Uint16(in.bytes(in.buf[:2]))) }
func (in *input) int32() int32 { return int32(binary.BigEndian.Uint32(in.bytes(in.buf[:4]))) }
func (in *input) int64() int64 { return int64(binary.BigEndian.Uint64(in.bytes(in.buf[:8]))) }

// one reads the length of a list that must have one element.
func (in *input) one(name string) {
	if n := in.int32(); in.err == nil && n != 1 {
		in.err = fmt.Errorf("the response to a fetch of one partition has %d %s", n, name)
	}
}

// discard skips n bytes.
func (in *input) discard(n int64) {
	if skipped, _ := io.CopyN(io.Discard, in, n); skipped != n {
		in.err = cmp.Or(in.err, io.ErrUnexpectedEOF)
	}
}

var _, _ = protocol.BrokerMessage(&fetchExchange{}), protocol.RawExchanger(&fetchExchange{})
