package stacksim

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// tap observes the broker's end of one connection: a request seen there has arrived, and a response
// is what the broker really did, even if it is lost in the network.
type tap struct {
	link       *link
	recorder   recorder
	heartbeats *heartbeats

	mu      sync.Mutex
	rest    []byte // of a request that has not completely arrived
	pending map[int32]pendingRequest
}

// recorder is notified of what a tap observes.
type recorder interface {
	// commitReceived is called before the broker has seen the commit; sent is when the client had
	// written it.
	commitReceived(member string, generation int32, topic string, partition int32, offset int64,
		sent time.Time)
	// commitAccepted is called when the broker has accepted the commit.
	commitAccepted(topic string, partition int32, offset int64, metadata string, sent time.Time)
	// joins is called for a join request, which contains the member's quota terms.
	joins(member string, r *kmsg.JoinGroupRequest)
	// assigned is called with a member's partitions in a generation.
	assigned(member string, generation int32, partitions []topicPartition)
	// letterWritten is called when a record is in the dead-letter topic.
	letterWritten(r kmsg.Record)
	// deliverResponse reports whether a response is delivered; key is 0 (produce) or 8 (commit).
	deliverResponse(l *link, key int16) bool
}

type topicPartition struct {
	topic     string
	partition int32
}

// pendingRequest is a request without a response yet.
type pendingRequest struct {
	request kmsg.Request
	sent    time.Time
}

// watched reports whether requests of this kind are decoded.
func watched(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.Produce, kmsg.OffsetCommit, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat:
		return true
	}
	return false
}

// requestBytes receives bytes that the broker has read.
func (t *tap) requestBytes(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest = append(t.rest, b...)
	for len(t.rest) >= 4 {
		size := int(binary.BigEndian.Uint32(t.rest))
		if len(t.rest) < 4+size {
			return
		}
		t.frame(t.rest[4 : 4+size])
		t.rest = t.rest[4+size:]
		if len(t.rest) == 0 {
			t.rest = nil
		}
	}
}

// frame is one whole request.
func (t *tap) frame(b []byte) {
	key, version, number := int16(binary.BigEndian.Uint16(b)),
		int16(binary.BigEndian.Uint16(b[2:])),
		int32(binary.BigEndian.Uint32(b[4:]))
	if !watched(key) {
		return
	}
	request := kmsg.RequestForKey(key)
	request.SetVersion(version)
	b = b[8:]
	if id := int16(binary.BigEndian.Uint16(b)); id > 0 {
		b = b[id:]
	}
	b = b[2:]
	if request.IsFlexible() {
		b = b[1:] // no tags: our clients send none
	}
	if request.ReadFrom(append([]byte(nil), b...)) != nil {
		panic("a request that can't be read")
	}
	t.pending[number] = pendingRequest{request, t.link.lastWritten()}
	switch r := request.(type) {
	case *kmsg.OffsetCommitRequest:
		t.heartbeats.request(r.MemberID, t.link, false)
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				t.recorder.commitReceived(r.MemberID, r.Generation, topic.Topic, p.Partition,
					p.Offset, t.link.lastWritten())
			}
		}
	case *kmsg.JoinGroupRequest:
		t.heartbeats.request(r.MemberID, t.link, true)
		t.recorder.joins(r.MemberID, r)
	case *kmsg.SyncGroupRequest:
		t.heartbeats.request(r.MemberID, t.link, false)
	case *kmsg.HeartbeatRequest:
		t.heartbeats.request(r.MemberID, t.link, false)
	}
}

// response receives a response that the broker writes, always a complete one. It returns false if
// the client does not get it.
func (t *tap) response(b []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	number := int32(binary.BigEndian.Uint32(b[4:]))
	a, ok := t.pending[number]
	if !ok {
		return true
	}
	delete(t.pending, number)
	b = b[8:]
	response := a.request.ResponseKind()
	if response.IsFlexible() {
		b = b[1:]
	}
	if response.ReadFrom(append([]byte(nil), b...)) != nil {
		panic("a response that can't be read")
	}
	done := false
	switch response := response.(type) {
	case *kmsg.OffsetCommitResponse:
		done = t.committed(a, response)
	case *kmsg.ProduceResponse:
		done = t.produced(a.request.(*kmsg.ProduceRequest), response)
	case *kmsg.SyncGroupResponse:
		request := a.request.(*kmsg.SyncGroupRequest)
		t.synced(request, response)
		t.heartbeats.response(request.MemberID, t.link, false, response.ErrorCode, a.sent)
	case *kmsg.JoinGroupResponse:
		t.heartbeats.response(a.request.(*kmsg.JoinGroupRequest).MemberID, t.link, true,
			response.ErrorCode, a.sent)
	case *kmsg.HeartbeatResponse:
		t.heartbeats.response(a.request.(*kmsg.HeartbeatRequest).MemberID, t.link, false,
			response.ErrorCode, a.sent)
	}
	return !done || t.recorder.deliverResponse(t.link, a.request.Key())
}

func (t *tap) committed(a pendingRequest, response *kmsg.OffsetCommitResponse) (done bool) {
	codes := map[topicPartition]int16{}
	for _, topic := range response.Topics {
		for _, p := range topic.Partitions {
			codes[topicPartition{topic.Topic, p.Partition}] = p.ErrorCode
		}
	}
	for _, topic := range a.request.(*kmsg.OffsetCommitRequest).Topics {
		for _, p := range topic.Partitions {
			// With 7, REQUEST_TIMED_OUT, kfake nevertheless does the work.
			if code := codes[topicPartition{topic.Topic, p.Partition}]; code == 0 || code == 7 {
				metadata := ""
				if p.Metadata != nil {
					metadata = *p.Metadata
				}
				t.recorder.commitAccepted(topic.Topic, p.Partition, p.Offset, metadata, a.sent)
				done = true
			}
		}
	}
	return done
}

func (t *tap) produced(request *kmsg.ProduceRequest, response *kmsg.ProduceResponse) (done bool) {
	for i, topic := range request.Topics {
		if topic.Topic != topics.DeadLetter {
			continue
		}
		for k, p := range topic.Partitions {
			// 7 and 20, NOT_ENOUGH_REPLICAS_AFTER_APPEND: the record is nevertheless in the log.
			if code := response.Topics[i].Partitions[k].ErrorCode; code != 0 && code != 7 &&
				code != 20 {
				continue
			}
			done = true
			for _, r := range recordsOf(p.Records) {
				t.recorder.letterWritten(r)
			}
		}
	}
	return done
}

// recordsOf reads an uncompressed batch.
func recordsOf(b []byte) (records []kmsg.Record) {
	var batch kmsg.RecordBatch
	if batch.ReadFrom(b) != nil {
		panic("a batch that can't be read")
	}
	for rest := batch.Records; len(rest) > 0; {
		length, n := binary.Varint(rest)
		var r kmsg.Record
		if r.ReadFrom(rest[:n+int(length)]) != nil {
			panic("a record that can't be read")
		}
		records = append(records, r)
		rest = rest[n+int(length):]
	}
	return records
}

func (t *tap) synced(request *kmsg.SyncGroupRequest, response *kmsg.SyncGroupResponse) {
	if response.ErrorCode != 0 {
		return
	}
	var assignment kmsg.ConsumerMemberAssignment
	if len(response.MemberAssignment) > 0 && assignment.ReadFrom(response.MemberAssignment) != nil {
		panic("an assignment that can't be read")
	}
	var list []topicPartition
	for _, topic := range assignment.Topics {
		for _, p := range topic.Partitions {
			list = append(list, topicPartition{topic.Topic, p})
		}
	}
	t.recorder.assigned(request.MemberID, request.Generation, list)
}
