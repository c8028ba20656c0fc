package sandbox

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
)

// conversation is one side of a C2C conversation: what report has read of peer's messages.
type conversation struct{ report, peer string }

// conversationState is the state of a conversation. Read messages are not kept.
type conversationState struct {
	read       int64 // the pointer, in seconds since 1970
	hasPointer bool  // there is a pointer
	unread     []int64
}

// readPointer is one conversation in GET /sandbox/read-time and /sandbox/read-times.
type readPointer struct {
	Report   string `json:"report"`
	Peer     string `json:"peer"`
	ReadTime *int64 `json:"read_time"`
	Unread   int    `json:"unread"`
}

var (
	errFull      = errors.New("the sandbox is full")
	errMalformed = errors.New("not 1 to 32 bytes of printable ASCII")
)

// store holds the accounts and the conversations.
type store struct {
	open             bool
	admin            string
	maxAccounts      int
	maxConversations int

	mu           sync.Mutex
	accounts     map[string]struct{}
	states       map[conversation]conversationState
	totals       map[string]int // unread messages of an account; no entry: none
	unread       int            // of all accounts
	pointerCount int            // conversations with a pointer
}

func newStore(open bool, admin string) *store {
	return &store{
		open:             open,
		admin:            admin,
		maxAccounts:      maxAccounts,
		maxConversations: maxConversations,
		accounts:         map[string]struct{}{},
		states:           map[conversation]conversationState{},
		totals:           map[string]int{},
	}
}

// wellFormed is the rule that all documents agree on, with the wider of their two character sets.
func wellFormed(account string) bool {
	if account == "" || len(account) > maxAccountBytes {
		return false
	}
	for i := range len(account) {
		if account[i] < 0x20 || account[i] > 0x7e {
			return false
		}
	}
	return true
}

func (s *store) add(account string) error {
	if !wellFormed(account) {
		return errMalformed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.accounts[account]; !known && len(s.accounts) >= s.maxAccounts {
		return errFull
	}
	s.accounts[account] = struct{}{}
	return nil
}

func (s *store) exists(account string) bool {
	if account == s.admin {
		return true
	}
	if s.open && wellFormed(account) && !strings.HasPrefix(account, "nobody") {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.accounts[account]
	return known
}

// markRead moves a pointer forward to t, never back; messages at or before it become read.
func (s *store) markRead(c conversation, t int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, known := s.states[c]
	if !known && len(s.states) >= s.maxConversations {
		return errFull
	}
	if !st.hasPointer {
		st.hasPointer = true
		s.pointerCount++
	}
	st.read = max(st.read, t)
	before := len(st.unread)
	st.unread = slices.DeleteFunc(st.unread, func(message int64) bool { return message <= st.read })
	if len(st.unread) == 0 {
		st.unread = nil // free the memory of an idle conversation
	}
	s.count(c.report, len(st.unread)-before)
	s.states[c] = st
	return nil
}

// deliver adds a message from c.peer to c.report. If the pointer already covers it, it is read.
func (s *store) deliver(c conversation, t int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, known := s.states[c]
	if st.hasPointer && t <= st.read {
		return nil
	}
	if s.unread >= maxUnreadTotal || !known && len(s.states) >= s.maxConversations {
		return errFull
	}
	st.unread = append(st.unread, t)
	s.count(c.report, 1)
	if len(st.unread) > maxUnread {
		oldest := slices.Index(st.unread, slices.Min(st.unread))
		st.unread = slices.Delete(st.unread, oldest, oldest+1)
		s.count(c.report, -1)
	}
	s.states[c] = st
	return nil
}

// count updates the sums. The caller holds the lock.
func (s *store) count(account string, change int) {
	if change == 0 {
		return
	}
	s.unread += change
	if n := s.totals[account] + change; n > 0 {
		s.totals[account] = n
	} else {
		delete(s.totals, account)
	}
}

// pointer returns a conversation; an unknown one is empty.
func (s *store) pointer(c conversation) readPointer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return view(c, s.states[c])
}

// total returns the unread messages of an account in all its conversations.
func (s *store) total(account string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals[account]
}

// pointers returns every conversation that has a pointer, sorted.
func (s *store) pointers() []readPointer {
	s.mu.Lock()
	list := make([]readPointer, 0, s.pointerCount)
	for c, st := range s.states {
		if st.hasPointer {
			list = append(list, view(c, st))
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b readPointer) int {
		return cmp.Or(strings.Compare(a.Report, b.Report), strings.Compare(a.Peer, b.Peer))
	})
	return list
}

func (s *store) sizes() (marked, unread, accounts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pointerCount, s.unread, len(s.accounts)
}

func view(c conversation, st conversationState) readPointer {
	p := readPointer{Report: c.report, Peer: c.peer, Unread: len(st.unread)}
	if st.hasPointer {
		p.ReadTime = &st.read
	}
	return p
}
