package backfill

import (
	"bytes"
	"compress/gzip"

	"github.com/klauspost/compress/zstd"
)

func gzipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // can't fail: writes to memory
	_ = w.Close()
	return b.Bytes()
}

func zstded(text string) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll([]byte(text), nil)
}

// stateFor returns the state of a new run over the inputs.
func stateFor(inputs []Input) State {
	s := State{Version: stateVersion}
	for _, in := range inputs {
		s.Inputs = append(s.Inputs, in.Identity)
	}
	return s
}
