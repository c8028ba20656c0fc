package sandbox

import "time"

// window is an exact log of the arrivals of the last second: a ring of times, in nanoseconds since some start, oldest at head.
type window struct {
	ring []int64
	head int
	n    int
	most int // the largest n ever
}

// arrive takes an arrival at t, not before any earlier one, and returns how many came in (t - 1 s, t], itself included. As
// every window of one second that holds some arrivals can be moved back until it ends with the last of them, the largest
// of these numbers is the largest number in any window. It can't tell more than maxWindow apart.
func (w *window) arrive(t int64) int {
	w.forget(t)
	if w.n == len(w.ring) {
		w.grow()
	}
	w.ring[(w.head+w.n)%len(w.ring)] = t
	w.n++
	w.most = max(w.most, w.n)
	return w.n
}

// forget drops what came a second or more before t. Two arrivals exactly 1.000 s apart share no window [t, t + 1 s).
func (w *window) forget(t int64) {
	for w.n > 0 && t-w.ring[w.head] >= int64(time.Second) {
		w.drop()
	}
}

func (w *window) drop() {
	w.head = (w.head + 1) % len(w.ring)
	w.n--
}

// grow makes room for one more: twice the ring, or, at the bound, the oldest place.
func (w *window) grow() {
	if len(w.ring) >= maxWindow {
		w.drop()
		return
	}
	bigger := make([]int64, max(64, 2*len(w.ring)))
	k := copy(bigger, w.ring[w.head:])
	copy(bigger[k:], w.ring[:w.head])
	w.ring, w.head = bigger, 0
}
