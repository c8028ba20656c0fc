package offsets

import (
	"testing"
	"time"
)

func TestFinished(t *testing.T) {
	tr := New(100, 100)
	at := time.UnixMilli(1_700_000_000_000)
	var refs []uint64
	for offset := range int64(20) {
		n, _, _ := tr.Add(100+offset, at)
		refs = append(refs, n)
	}
	for _, i := range []int{3, 4, 5, 10, 19} {
		tr.Finish(refs[i])
	}
	tr.Attempted(refs[7], 2) // does not count as finished
	c, _ := tr.Commit(4000)
	for end, want := range map[int64]int64{0: 0, 100: 0, 103: 0, 104: 1, 106: 3, 109: 3, 111: 4,
		120: 5, 1000: 5} {
		if got := c.Finished(end); got != want {
			t.Errorf("to %d: %d, want %d", end, got, want)
		}
	}
	for _, c := range []Commit{{Offset: -1, Metadata: c.Metadata}, {Offset: 100},
		{Offset: 100, Metadata: "another program's"}} {
		if got := c.Finished(1000); got != 0 {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
