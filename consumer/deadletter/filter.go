package deadletter

import (
	"time"

	"markread/consumer/event"
)

// Filter says which letters somebody asks for. The zero value is for all.
type Filter struct {
	Class, Code string // "": any
	// the accounts of the event; of one that is none as far as they can be read. "": any
	Report, Peer string
	Since, Until time.Time   // when it failed, both ends included; zero: any
	IDs          map[ID]bool // nil: any
}

// matches reports whether the filter is for a letter.
func (f *Filter) matches(r event.Record, kind event.Kind, failedAt time.Time) bool {
	switch {
	case f.IDs != nil && !f.IDs[IDOf(r)],
		f.Class != "" && f.Class != kind.Class,
		f.Code != "" && f.Code != kind.Code,
		!f.Since.IsZero() && failedAt.Before(f.Since),
		!f.Until.IsZero() && failedAt.After(f.Until):
		return false
	case f.Report == "" && f.Peer == "":
		return true
	}
	fields := event.ParseLenient(r.Value)
	return isAccount(fields.Report, f.Report) && isAccount(fields.Peer, f.Peer)
}

func isAccount(account *string, want string) bool {
	return want == "" || account != nil && *account == want
}
