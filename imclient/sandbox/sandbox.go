package sandbox

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"markread/imclient"
)

// Options describe the simulated application.
type Options struct {
	// AppID is the only SDKAppID that exists.
	AppID int64
	// Admin is the only account that may call the API; it exists.
	Admin string
	// Key is the application's secret. With a zero Key no signature is valid.
	Key imclient.Secret
	// Rate is how many calls of admin_set_msg_read any window of one second may have; further ones
	// get 60007. 0 or less, and above 262,144: no limit.
	Rate int
	// OpenAccounts: every well-formed account exists, except names that begin with "nobody".
	// Otherwise only imported accounts exist.
	OpenAccounts bool
}

// Server is the sandbox. It is ready after New, has no goroutines, and needs no closing. It is safe
// for concurrent use.
type Server struct {
	options Options
	journal *journal
	store   *store
	sigs    *signatures
	faults  atomic.Pointer[activeFaults]
	routes  map[string]http.HandlerFunc
	serial  atomic.Uint32 // for messages without a MsgSeq
}

// New returns a server whose only account is the admin.
func New(options Options) *Server {
	s := &Server{
		options: options,
		journal: newJournal(),
		store:   newStore(options.OpenAccounts, options.Admin),
		sigs:    newSignatures(options.Key),
	}
	s.faults.Store(&activeFaults{})
	s.routes = map[string]http.HandlerFunc{
		markReadPath:                           s.markRead,
		"/v4/openim/sendmsg":                   s.command(s.sendMessage),
		"/v4/openim/get_c2c_unread_msg_num":    s.command(s.countUnread),
		"/v4/im_open_login_svc/account_import": s.command(s.importAccount),
		"/v4/im_open_login_svc/kick":           s.command(s.kick),
		"/sandbox":                             localOnly(http.MethodGet, s.page),
		"/sandbox/stats":                       localOnly(http.MethodGet, s.getStats),
		"/sandbox/arrivals":                    localOnly(http.MethodGet, s.getArrivals),
		"/sandbox/read-time":                   localOnly(http.MethodGet, s.getReadTime),
		"/sandbox/read-times":                  localOnly(http.MethodGet, s.getReadTimes),
		"/sandbox/faults":                      localOnly("", s.handleFaults),
	}
	return s
}

// ServeHTTP responds to one request: a command of the API or one of the sandbox's own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if route := s.routes[strings.TrimSuffix(r.URL.Path, "/")]; route != nil {
		route(w, r)
		return
	}
	const info = "the sandbox has no such command; GET /sandbox shows its state"
	s.send(w, failure(60009, info))
}

// Import creates accounts. It stops at the first malformed one, or when a million exist.
func (s *Server) Import(accounts ...string) error {
	for _, account := range accounts {
		if err := s.store.add(account); err != nil {
			return fmt.Errorf("import account %q: %w", truncate(account), err)
		}
	}
	return nil
}

// ReadTime returns the time, in seconds since 1970, up to which report has read peer's messages;
// false: no call has set it yet.
func (s *Server) ReadTime(report, peer string) (int64, bool) {
	p := s.store.pointer(conversation{report, peer})
	if p.ReadTime == nil {
		return 0, false
	}
	return *p.ReadTime, true
}

// Unread returns how many of peer's messages report has not read.
func (s *Server) Unread(report, peer string) int {
	return s.store.pointer(conversation{report, peer}).Unread
}

// Stats returns the totals since New.
func (s *Server) Stats() Stats {
	stats := s.journal.stats()
	stats.Conversations, stats.Unread, stats.Accounts = s.store.sizes()
	return stats
}

// Arrivals returns the calls of admin_set_msg_read in the order of their arrival, at most the last
// 262,144.
func (s *Server) Arrivals() []Arrival { return s.journal.newest(maxArrivals) }

// now returns the server's time: the machine's plus the faults' skew.
func (s *Server) now() time.Time { return time.Now().Add(s.faults.Load().Skew) }
