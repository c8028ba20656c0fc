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

// open returns a stream of the decompressed payload. It is nil if the payload is not compressed.
func (d *Decoder) open(codec int, payload []byte) (io.Reader, error) {
	if codec != d.codec { // keep one decompressor: each may have a window of megabytes
		if d.zs != nil {
			d.zs.Close()
		}
		d.codec, d.gz, d.zs, d.lz, d.sn = codec, nil, nil, nil, snappyReader{}
	}
	switch codec {
	case codecNone:
		return nil, nil
	case codecGzip:
		return d.gzip(payload)
	case codecSnappy:
		return d.snappy(payload), nil
	case codecLZ4:
		return d.lz4(payload), nil
	case codecZstd:
		return d.zstd(payload)
	default:
		return nil, fmt.Errorf("compression codec %d is unknown", codec)
	}
}

func (d *Decoder) gzip(payload []byte) (io.Reader, error) {
	if d.gz == nil {
		d.gz = new(gzip.Reader)
	}
	d.src.Reset(payload)
	return d.gz, d.gz.Reset(&d.src)
}

func (d *Decoder) lz4(payload []byte) io.Reader {
	if d.lz == nil {
		d.lz = lz4.NewReader(nil)
	}
	d.src.Reset(payload)
	d.lz.Reset(&lz4Source{from: &d.src})
	return d.lz
}

// lz4Source refuses frames of LZ4's legacy format, which Kafka has never used. The library recurses
// for each magic number that follows another one: a batch of nothing but magic numbers would
// overflow the stack, which kills the process.
type lz4Source struct {
	from  *bytes.Reader
	magic int // how many magic numbers in a row; a checksum may look like one
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

// maxWindow, in bytes, is what RFC 8878 (3.1.1.1.2) recommends all decoders to support.
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

// limitWindow returns the zstd frame with a window of at most maxWindow. Producers at the highest
// compression levels request up to 128 MiB, even for batches of a few KB, and a decoder allocates
// what a frame requests. Matches further back than maxWindow fail to decode; only a batch that is
// larger than maxWindow can have them.
//
// RFC 8878, 3.1.1.1: magic number (4 bytes), descriptor (1), window descriptor (1, absent in a
// single segment, whose window is its content), and so on. No checksum covers them.
func (d *Decoder) limitWindow(frame []byte) io.Reader {
	const (
		singleSegment = 1 << 5
		largest       = 13 << 3 // 2^(10+13) bytes
	)
	head := bytes.Clone(frame[:min(len(frame), 6)])
	rest := frame[len(head):]
	if len(head) < 6 || binary.LittleEndian.Uint32(head) != 0xFD2FB528 {
		d.src.Reset(frame)
		return &d.src
	}
	sizeFlag := head[4] >> 6
	switch {
	case head[4]&singleSegment == 0:
		head[5] = min(head[5], largest)
	case sizeFlag >= 2: // 4 or 8 bytes of content size: it may be beyond maxWindow
		head[4] &^= singleSegment
		head = append(head[:5], largest, head[5])
	}
	d.src.Reset(rest)
	return io.MultiReader(bytes.NewReader(head), &d.src)
}

// snappyReader decodes snappy in either framing: a raw block, or the chunks of snappy-java
// ("xerial"), which Java producers write.
type snappyReader struct {
	src     []byte // not decoded yet
	chunked bool
	block   []byte // the rest of the current block, not decoded yet
	left    int    // decoded bytes that the block still has according to its header
	literal int    // bytes of a literal that are not copied yet
	out     []byte // decoded: the last bytes, for matches, then the unread bytes
	read    int    // where in out the unread bytes begin
}

const (
	snappyWhole  = 1 << 20 // a block of at most this many decoded bytes is decoded in one step
	snappyWindow = 4 << 20 // how far a match may reach back: the largest block of any known encoder
	snappyStep   = 64 << 10
)

var (
	xerial    = []byte("\x82SNAPPY\x00")
	errSnappy = errors.New("snappy: corrupt input")
)

func (d *Decoder) snappy(payload []byte) io.Reader {
	s := &d.sn
	*s = snappyReader{src: payload, out: s.out[:0]}
	const xerialHeader = 16 // magic, two versions
	if bytes.HasPrefix(payload, xerial) && len(payload) >= xerialHeader {
		s.src, s.chunked = payload[xerialHeader:], true
	}
	return s
}

func (s *snappyReader) Read(p []byte) (int, error) {
	for s.read == len(s.out) {
		var err error
		if s.left > 0 {
			err = s.decode()
		} else {
			err = s.next()
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out[s.read:])
	s.read += n
	return n, nil
}

// next starts the next block.
func (s *snappyReader) next() error {
	if len(s.src) == 0 {
		return io.EOF
	}
	block := s.src
	if s.chunked {
		if len(s.src) < 4 {
			return errSnappy
		}
		n := int64(binary.BigEndian.Uint32(s.src))
		if n > int64(len(s.src)-4) {
			return errSnappy
		}
		block, s.src = s.src[4:4+n], s.src[4+n:]
	} else {
		s.src = nil
	}
	size, n := binary.Uvarint(block)
	if n <= 0 || size > 1<<32-1 {
		return errSnappy
	}
	if size <= snappyWhole {
		if cap(s.out) < int(size) {
			s.out = make([]byte, max(int(size), snappyStep))
		}
		out, err := snappy.Decode(s.out[:cap(s.out)], block)
		s.out, s.read = out, 0
		return err
	}
	s.out, s.read = s.out[:0], 0
	s.block, s.left, s.literal = block[n:], int(size), 0
	return nil
}

// decode decodes the next part of the block. Source of the tags: github.com/google/snappy,
// format_description.txt.
func (s *snappyReader) decode() error {
	if len(s.out) > 2*snappyWindow { // all of it has been read
		s.out = s.out[:copy(s.out, s.out[len(s.out)-snappyWindow:])]
	}
	s.read = len(s.out)
	for s.left > 0 && len(s.out)-s.read < snappyStep {
		if s.literal > 0 {
			n := min(s.literal, snappyStep)
			s.out = append(s.out, s.block[:n]...)
			s.block, s.literal, s.left = s.block[n:], s.literal-n, s.left-n
			continue
		}
		length, offset, ok := s.tag()
		if !ok || length > s.left || offset > len(s.out) {
			return errSnappy
		}
		if offset == 0 {
			if length > len(s.block) {
				return errSnappy
			}
			s.literal = length
			continue
		}
		s.left -= length
		for from := len(s.out) - offset; length > 0; { // the match may reach into what it produces
			n := min(length, len(s.out)-from)
			s.out = append(s.out, s.out[from:from+n]...)
			from, length = from+n, length-n
		}
	}
	if s.left == 0 && (len(s.block) > 0 || s.literal > 0) {
		return errSnappy
	}
	return nil
}

// tag reads the next tag of the block: a literal (offset 0) or a match. ok is false if the tag is
// invalid.
func (s *snappyReader) tag() (length, offset int, ok bool) {
	if len(s.block) == 0 {
		return 0, 0, false
	}
	t := int(s.block[0])
	extra := 0
	switch t & 3 {
	case 0:
		if length = t>>2 + 1; length > 60 {
			extra = length - 60
		}
	case 1:
		extra = 1
	case 2:
		extra = 2
	case 3:
		extra = 4
	}
	if len(s.block) < 1+extra {
		return 0, 0, false
	}
	n := 0
	for i := extra; i > 0; i-- {
		n = n<<8 | int(s.block[i])
	}
	s.block = s.block[1+extra:]
	switch t & 3 {
	case 0:
		if extra > 0 {
			length = n + 1
		}
		return length, 0, true
	case 1:
		length, offset = t>>2&7+4, t>>5<<8|n
	default:
		length, offset = t>>2+1, n
	}
	return length, offset, offset > 0
}
