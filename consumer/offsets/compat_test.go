package offsets_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"markread/consumer/offsets"
)

// Metadata committed by an older version is decoded correctly.
//
// Workers of commit 4a19850 (`markread run --rate 0 --attempts 200`) wrote
// testdata/commits-4a19850.ndjson on the embedded broker: one worker read three partitions and was
// killed, a second inherited its commits and was killed, then a third. The IM server was
// `markread sandbox`. It returned 90994 for some readers and, at the end of the last partition,
// sent no response for others; that partition also has transaction markers. "known" is the output
// of the decoder of that commit, verified against the log and the server's responses:
// offset:attempts for an unfinished event, first-last for finished ones.
func TestMetadataOfAnOlderVersion(t *testing.T) {
	text, err := os.ReadFile("testdata/commits-4a19850.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var c struct {
			Offset, Fingerprint, At int64
			Metadata, Known         string
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		tracker := offsets.New(c.Offset, c.Offset)
		if err := tracker.Inherit(c.Metadata); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		last, at, ok := tracker.Fingerprint()
		if last != c.Fingerprint || at.UnixMilli() != c.At || !ok {
			t.Errorf("%s: the fingerprint is of %d at %d, %t", line, last, at.UnixMilli(), ok)
		}
		var known []string
		first, total := int64(-1), int64(0) // of a run of finished events; of all runs
		for offset := c.Offset; offset <= last+2; offset++ {
			_, attempts, finished := tracker.Add(offset, time.Time{})
			switch {
			case finished && first < 0:
				first = offset
			case !finished && first >= 0:
				known = append(known, fmt.Sprintf("%d-%d", first, offset-1))
				first, total = -1, total+offset-first
			}
			if attempts > 0 {
				known = append(known, fmt.Sprintf("%d:%d", offset, attempts))
			}
		}
		if got := strings.Join(known, " "); got != c.Known {
			t.Errorf("%s: %s", line, got)
		}
		commit := offsets.Commit{Offset: c.Offset, Metadata: c.Metadata}
		if n := commit.Finished(last + 1); n != total {
			t.Errorf("%s: %d have finished, want %d", line, n, total)
		}
	}
}
