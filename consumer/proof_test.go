package consumer

import (
	"testing"
	"time"
	"unsafe"
)

// A proof is as old as that clock says which says more: the monotonic one stands still while the machine is suspended, and the wall clock can
// be set.
func TestProofAgeByBothClocks(t *testing.T) {
	for name, c := range map[string]struct{ monotonic, wall, want time.Duration }{
		"both agree":               {2 * time.Second, 2 * time.Second, 2 * time.Second},
		"suspended for an hour":    {2 * time.Second, time.Hour, time.Hour},
		"the wall clock set back":  {20 * time.Second, -time.Hour, 20 * time.Second},
		"the wall clock set ahead": {time.Second, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Generation{proof: ago(t, c.monotonic, c.wall)}
			if age := g.ProofAge(); age < c.want || age > c.want+time.Minute {
				t.Errorf("the proof is %v old, want %v", age, c.want)
			}
		})
	}
}

// ago returns a time that was so long ago by the two clocks. No function of package time makes one.
func ago(t *testing.T, monotonic, wall time.Duration) time.Time {
	t.Helper()
	now := time.Now()
	at := now.Add(-wall)
	parts := (*struct {
		wall uint64
		ext  int64 // the monotonic reading
		loc  *time.Location
	})(unsafe.Pointer(&at))
	parts.ext += int64(wall - monotonic)
	if now.Sub(at) != monotonic || now.Round(0).Sub(at.Round(0)) != wall {
		t.Fatal("package time keeps its two readings in another way now")
	}
	return at
}
