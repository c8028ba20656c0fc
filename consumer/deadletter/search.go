package deadletter

import (
	"cmp"
	"hash/maphash"
	"iter"
	"slices"
	"time"

	"markread/consumer/event"
)

// accounts are hashes of the accounts of a dead letter's event; 0: none that can be read. A chance
// collision, which is negligible, would only show a dead letter of another account.
type accounts struct{ report, peer uint64 }

// KeepAccounts makes Add keep 16 bytes more for each dead letter, so that Search can compare
// accounts. It must be called before the first Add.
func (x *Index) KeepAccounts() { x.accounts = map[int][]accounts{} }

func (x *Index) accountsOf(r event.Record) (a accounts) {
	fields := event.ParseLenient(r.Value)
	if fields.Report != nil {
		a.report = x.hash(*fields.Report)
	}
	if fields.Peer != nil {
		a.peer = x.hash(*fields.Peer)
	}
	return a
}

func (x *Index) hash(account string) uint64 {
	return max(1, maphash.String(x.seeds[0], account))
}

// Search is the result of Index.Search: dead letters that match a filter. It is invalid after the
// next Add.
type Search struct {
	index  *Index
	filter Filter
}

// Search looks up the dead letters that match a filter, in an index whose own filter matches all.
// To look up accounts it needs KeepAccounts. Times are compared in microseconds.
func (x *Index) Search(filter Filter) Search { return Search{x, filter} }

// all returns the matching dead letters, by partition and offset.
func (s Search) all() iter.Seq[*Entry] {
	f, x := &s.filter, s.index
	var want accounts
	if f.Report != "" {
		want.report = x.hash(f.Report)
	}
	if f.Peer != "" {
		want.peer = x.hash(f.Peer)
	}
	kinds := make([]bool, len(x.kinds))
	for i, k := range x.kinds {
		kinds[i] = (f.Class == "" || f.Class == k.Class) && (f.Code == "" || f.Code == k.Code)
	}
	// not as time.Time: this runs for each dead letter of the topic
	since, until := int64(0), int64(1<<63-1)
	if !f.Since.IsZero() {
		since = f.Since.UnixMicro()
	}
	if !f.Until.IsZero() {
		until = f.Until.UnixMicro()
	}
	return func(yield func(*Entry) bool) {
		for partition, letters := range x.partitions {
			for i := range letters {
				l := &letters[i]
				if !kinds[l.kind] || l.failedAt < since || l.failedAt > until ||
					f.IDs != nil && !f.IDs[l.ID] {
					continue
				}
				if want != (accounts{}) {
					has := x.accounts[partition][i]
					if want.report != 0 && want.report != has.report ||
						want.peer != 0 && want.peer != has.peer {
						continue
					}
				}
				if !yield(l) {
					return
				}
			}
		}
	}
}

// Counts is Index.Counts of the dead letters found, in all states.
func (s Search) Counts() []Count {
	counts := make([]Count, len(s.index.kinds))
	for l := range s.all() {
		counts[l.kind].Kind = s.index.kinds[l.kind]
		counts[l.kind].add(l)
	}
	return sortCounts(counts)
}

// Newest returns the newest n dead letters found in one of the states, newest first, without the
// first skip of them. It needs memory for 2*(skip+n) entries.
func (s Search) Newest(skip, n int, states ...State) []Entry {
	var newest []Entry
	keep := skip + n
	shorten := func() {
		slices.SortFunc(newest, func(a, b Entry) int { return byFailure(&b, &a) })
		newest = newest[:min(keep, len(newest))]
	}
	for l := range s.all() {
		if !slices.Contains(states, l.State) {
			continue
		}
		if newest = append(newest, *l); len(newest) == 2*keep {
			shorten()
		}
	}
	shorten()
	return newest[min(skip, len(newest)):]
}

// Find returns all dead letters found in one of the states, oldest first.
func (s Search) Find(states ...State) (found []Entry) {
	for l := range s.all() {
		if slices.Contains(states, l.State) {
			found = append(found, *l)
		}
	}
	slices.SortFunc(found, func(a, b Entry) int { return byFailure(&a, &b) })
	return found
}

// byFailure orders by the time of the failure, oldest first.
func byFailure(a, b *Entry) int {
	return cmp.Or(cmp.Compare(a.failedAt, b.failedAt), a.ID.Compare(b.ID))
}

// Reader returns another store of the topic. It lists what s has found, concurrently with s.
func (s *Store) Reader() *Store {
	return &Store{Topic: s.Topic, Name: s.Name, partitions: s.partitions}
}

// FailedAt returns when the event of a dead letter failed, rounded down to a microsecond.
func (l *Entry) FailedAt() time.Time { return time.UnixMicro(l.failedAt).UTC() }
