package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// open returns a stream of the decompressed payload.
func (d *Decoder) open(codec int, payload []byte) (io.Reader, error) {
	if codec != d.codec { // one decompressor at a time: each may have a window of megabytes
		if d.zs != nil {
			d.zs.Close()
		}
		d.codec, d.gz, d.zs, d.lz, d.sn = codec, nil, nil, nil, snappyReader{}
	}
	d.src.Reset(payload)
	switch codec {
	case codecGzip:
		if d.gz == nil {
			d.gz = new(gzip.Reader)
		}
		return d.gz, d.gz.Reset(&d.src)
	case codecSnappy:
		d.sn = snappyReader{src: payload, out: d.sn.out[:0]}
		if bytes.HasPrefix(payload, xerial) && len(payload) >= xerialHeader {
			d.sn.src, d.sn.chunked = payload[xerialHeader:], true
		}
		return &d.sn, nil
	case codecLZ4:
		if d.lz == nil {
			d.lz = lz4.NewReader(nil)
		}
		d.lz.Reset(&lz4Source{from: &d.src})
		return d.lz, nil
	case codecZstd:
		return d.zstd(payload)
	}
	return nil, fmt.Errorf("compression codec %d is unknown", codec)
}

// lz4Source refuses frames of LZ4's legacy format, which Kafka never had: the library recurses for
// each magic number that follows another, and a batch of nothing else would overflow the stack.
type lz4Source struct {
	from  *bytes.Reader
	magic int // how many magic numbers came one after the other; a checksum may look like one
}

func (s *lz4Source) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if n != 4 || binary.LittleEndian.Uint32(b) != 0x184C2102 {
		s.magic = 0
	} else if s.magic++; s.magic > 1 {
		return 0, errors.New("lz4: a frame of the legacy format")
	}
	return n, err
}

// maxWindow is what RFC 8878 (3.1.1.1.2) recommends every decoder of zstd to support.
const maxWindow = 8 << 20

func (d *Decoder) zstd(payload []byte) (io.Reader, error) {
	if d.zs == nil {
		var err error
		// Concurrency 1 decodes in the caller's goroutine, block by block.
		d.zs, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
	}
	return d.zs, d.zs.Reset(d.limitWindow(payload))
}

// limitWindow returns a zstd frame with a window of at most maxWindow. Producers at the highest
// compression levels ask for up to 128 MiB, for batches of a few KB, and a decoder allocates what
// a frame asks for. Matches further back, which only a batch of more than that can have, fail.
//
// RFC 8878, 3.1.1.1: magic number (4 bytes), descriptor (1), window descriptor (1, absent in a
// single segment, whose window is its content), and so on. No checksum covers them.
func (d *Decoder) limitWindow(frame []byte) io.Reader {
	const (
		singleSegment = 1 << 5
		largest       = 13 << 3 // 2^(10+13) bytes
	)
	head := bytes.Clone(frame[:min(len(frame), 6)])
	d.src.Reset(frame[len(head):])
	switch {
	case len(head) < 6 || binary.LittleEndian.Uint32(head) != 0xFD2FB528:
	case head[4]&singleSegment == 0:
		head[5] = min(head[5], largest)
	case head[4]>>6 >= 2: // 4 or 8 bytes of content size: it may be beyond maxWindow
		head[4] &^= singleSegment
		head = append(head[:5], largest, head[5])
	}
	return io.MultiReader(bytes.NewReader(head), &d.src)
}

// maxSnappy is the most that one block of snappy may hold: more than a batch of Kafka's default
// max.message.bytes can, for a byte of snappy gives at most 21.3.
const maxSnappy = 32 << 20

const xerialHeader = 16 // magic, two versions

var (
	xerial    = []byte("\x82SNAPPY\x00")
	errSnappy = errors.New("snappy: corrupt input")
)

// snappyReader decodes snappy in either framing: a raw block, or the chunks of snappy-java
// ("xerial"), which Java producers write.
type snappyReader struct {
	src     []byte // what was not decoded yet
	chunked bool
	out     []byte // the current block, decoded
	read    int    // of it
}

func (s *snappyReader) Read(p []byte) (int, error) {
	for s.read == len(s.out) {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out[s.read:])
	s.read += n
	return n, nil
}

// next decodes the next block.
func (s *snappyReader) next() error {
	if len(s.src) == 0 {
		return io.EOF
	}
	block := s.src
	if s.src = nil; s.chunked {
		if len(block) < 4 {
			return errSnappy
		}
		n := int64(binary.BigEndian.Uint32(block))
		if block = block[4:]; n > int64(len(block)) {
			return errSnappy
		}
		block, s.src = block[:n], block[n:]
	}
	switch size, err := snappy.DecodedLen(block); {
	case err != nil || size > 22*len(block): // checked before so much is allocated
		return errSnappy
	case size > maxSnappy:
		return fmt.Errorf("snappy: a block of %d bytes, more than %d", size, maxSnappy)
	}
	var err error
	s.read = 0
	if s.out, err = snappy.Decode(s.out[:cap(s.out)], block); err != nil {
		return errSnappy
	}
	return nil
}
