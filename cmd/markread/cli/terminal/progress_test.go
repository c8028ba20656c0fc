package terminal

import (
	"testing"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// The progress line counts offsets, and never exceeds the total.
func TestProgress(t *testing.T) {
	p := NewProgress(nil, "reading")
	p.start(kafkaclient.TopicOffsets{Partitions: []kafkaclient.OffsetRange{{First: 100, End: 300},
		{First: 0, End: 1800}}})()
	if got := p.String(); got != "reading: 0 %, 0 records" {
		t.Error(got)
	}
	p.add(event.Record{Partition: 0, Offset: 199})
	p.add(event.Record{Partition: 1, Offset: 899})
	if got := p.String(); got != "reading: 50 %, 2 records" {
		t.Error(got)
	}
	p.add(event.Record{Partition: 0, Offset: 299})
	p.add(event.Record{Partition: 1, Offset: 1799})
	if got := p.String(); got != "reading: 100 %, 4 records" {
		t.Error(got)
	}
	p.start(kafkaclient.TopicOffsets{ // the next read
		Partitions: []kafkaclient.OffsetRange{{First: 300, End: 302}}})()
	p.add(event.Record{Partition: 0, Offset: 300})
	if got := p.String(); got != "reading: 50 %, 1 records" {
		t.Error(got)
	}
}
