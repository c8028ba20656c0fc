package batch

import "encoding/binary"

// input reads the fields of a record. After a read beyond the end, b is nil.
type input struct{ b []byte }

func (in *input) varint() int64 {
	if len(in.b) > 0 && in.b[0] < 0x80 {
		v := int64(in.b[0]>>1) ^ -int64(in.b[0]&1)
		in.b = in.b[1:]
		return v
	}
	v, n := binary.Varint(in.b)
	if n <= 0 {
		in.b = nil
		return 0
	}
	in.b = in.b[n:]
	return v
}

// blob reads bytes that follow their length; length -1 means null.
func (in *input) blob() []byte {
	n := in.varint()
	switch {
	case in.b == nil, n == -1:
		return nil
	case n < 0 || n > int64(len(in.b)):
		in.b = nil
		return nil
	}
	blob := in.b[:n:n]
	in.b = in.b[n:]
	return blob
}

// readHeaders reads n headers into the memory that follows the chunk's headers. Most records of a
// producer have the same keys, so it reuses the strings of the last record.
func (d *Decoder) readHeaders(in *input, n int) []Header {
	first := len(d.headers)
	for i := range n {
		key, value := in.blob(), in.blob()
		h := Header{Value: value}
		if i < len(d.keys) && d.keys[i].Key == string(key) {
			h.Key = d.keys[i].Key
		} else {
			h.Key = string(key)
		}
		d.headers = append(d.headers, h)
	}
	d.keys = d.headers[first:len(d.headers):len(d.headers)]
	return d.keys
}
