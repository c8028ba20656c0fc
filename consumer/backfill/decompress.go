package backfill

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow bounds the memory for decompression. zstd's levels up to 19 need no more; --ultra
// and --long do.
const maxZstdWindow = 8 << 20

var (
	gzipMagic = []byte("\x1f\x8b")
	zstdMagic = []byte("\x28\xb5\x2f\xfd")
)

// decompress detects compression by the first bytes, not by the name, and returns the content.
func (s *source) decompress() (io.Reader, error) {
	in := bufio.NewReaderSize(s.raw, 256<<10)
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, withoutPath(err)
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, decompressError("gzip", err)
		}
		z.Multistream(false)
		s.compressed = &compressed{name: "gzip", unit: "member"}
		s.compressed.content = &gzipMembers{in, z, s.compressed}
	case bytes.Equal(head, zstdMagic),
		// a skippable frame, as pzstd writes it
		len(head) == 4 && head[0]&0xf0 == 0x50 && string(head[1:]) == "\x2a\x4d\x18":
		read := &tailReader{in: in}
		z, err := zstd.NewReader(read, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, decompressError("zstd", err)
		}
		file := s.close
		s.close = func() { z.Close(); file() }
		s.compressed = &compressed{name: "zstd", unit: "frame"}
		s.compressed.content = &zstdFrames{read, z, s.compressed}
	default:
		return in, nil
	}
	return s.compressed, nil
}

// compressed reads the content of a compressed input.
type compressed struct {
	name, unit string
	content    io.Reader
	rest       io.Reader // bytes after the last unit that are not a unit; nil: none
}

func (c *compressed) Read(b []byte) (int, error) {
	n, err := c.content.Read(b)
	if err != nil && err != io.EOF {
		err = decompressError(c.name, err)
	}
	return n, err
}

// trailingRow reads rest to its end and returns its beginning as a row, with the reason as a
// *badRow. If there is no rest, or it was returned before, the text is nil and the error is io.EOF.
// If reading fails, the text is nil and the error is that failure.
func (c *compressed) trailingRow() (text []byte, err error) {
	if c == nil || c.rest == nil {
		return nil, io.EOF
	}
	text, err = io.ReadAll(io.LimitReader(c.rest, keptRowBytes))
	more := int64(0)
	if err == nil {
		more, err = io.Copy(io.Discard, c.rest)
	}
	if err != nil {
		return nil, withoutPath(err)
	}
	c.rest = nil
	bytes := "1 byte follows"
	if n := int64(len(text)) + more; n > 1 {
		bytes = fmt.Sprintf("%d bytes follow", n)
	}
	return text, &badRow{fmt.Errorf("%s the last %s %s and can't be decompressed: "+
		"was something appended to the file, or a part of it overwritten?", bytes, c.name, c.unit)}
}

// gzipMembers reads the members of a gzip file one after the other, and skips the zeros that tapes
// and some programs write after the last one.
type gzipMembers struct {
	in    *bufio.Reader
	z     *gzip.Reader
	input *compressed
}

func (m *gzipMembers) Read(b []byte) (int, error) {
	n, err := m.z.Read(b)
	if err != io.EOF {
		return n, err
	}
	head, err := m.in.Peek(len(gzipMagic))
	for ; len(head) > 0 && head[0] == 0; head, err = m.in.Peek(len(gzipMagic)) {
		_, _ = m.in.Discard(1) // can't fail: the byte is buffered
	}
	switch {
	case len(head) == 0 || err != nil && err != io.EOF:
		return n, err
	case !bytes.Equal(head, gzipMagic):
		m.input.rest = m.in
		return n, io.EOF
	}
	err = m.z.Reset(m.in)
	m.z.Multistream(false)
	return n, err
}

// zstdFrames reads the frames of a zstd file.
type zstdFrames struct {
	in    *tailReader
	z     *zstd.Decoder
	input *compressed
}

// Read ends where no frame follows. The decoder reads no further than the four bytes of the magic
// number.
func (f *zstdFrames) Read(b []byte) (int, error) {
	n, err := f.z.Read(b)
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch):
		if left := f.in.last[:len(zstdMagic)-f.in.zeros]; len(left) > 0 {
			f.input.rest = io.MultiReader(bytes.NewReader(left), f.in.in)
		}
		err = io.EOF
	case err != nil && f.in.zeros > 0: // the zeros were read as part of a frame
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// tailReader remembers the last bytes that were read, as many as a magic number has. After the end
// it supplies as many zeros: for the decoder fewer bytes than a magic number are a truncated frame,
// but followed by zeros they are a wrong magic number, like longer garbage.
type tailReader struct {
	in    io.Reader
	last  []byte
	zeros int // zeros that were supplied
}

func (t *tailReader) Read(b []byte) (int, error) {
	n, err := t.in.Read(b)
	if n == 0 && err == io.EOF && t.zeros < len(zstdMagic) {
		n, err = min(len(b), len(zstdMagic)-t.zeros), nil
		clear(b[:n])
		t.zeros += n
	}
	t.last = append(t.last, b[max(0, n-len(zstdMagic)):n]...)
	t.last = t.last[max(0, len(t.last)-len(zstdMagic)):]
	return n, err
}

func decompressError(compression string, err error) error {
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fmt.Errorf("decompression needs more memory than allowed (--long or --ultra): "+
			"zstd -dc --long=31 FILE | markread backfill - (%w)", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: the file is truncated; was it copied completely? (%w)",
			compression, err)
	}
	return fmt.Errorf("%s: the file is damaged: %w", compression, err)
}
