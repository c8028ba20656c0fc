package sandbox

import (
	"net/http"
	"time"
)

const markReadPath = "/v4/openim/admin_set_msg_read"

// markRead handles the one command that is stamped, limited, logged and made to fail.
func (s *Server) markRead(w http.ResponseWriter, r *http.Request) {
	number, inSecond := s.journal.arrive() // first of all: what comes later may wait
	defer s.journal.leave()

	faults := s.faults.Load()
	limit := s.options.Rate
	if faults.Rate > 0 {
		limit = faults.Rate
	}
	over := limit > 0 && inSecond > limit

	b, a := readBody(r)
	read := readRequest{refused: a}
	if a.ok() {
		read = parseRead(b, s.now())
	}
	var rule *Rule
	if a.ok() || a.ErrorCode == 90001 {
		// Only when the body was read to its end does the request's context end with the client,
		// which "hang" waits for.
		rule = faults.pick(number, conversation{read.report, read.peer})
	}

	carryOut := rule == nil || rule.Apply
	if carryOut || rule.Kind == KindCode {
		a = s.attempt(r, read, over, carryOut)
	} else {
		a = failure(91000, "a fault of the sandbox: not carried out")
	}
	applied := carryOut && a.ok()
	if rule != nil && rule.Kind == KindCode {
		if a.ok() {
			a = rule.answer()
		} else {
			rule = nil // the call was refused on its own account
		}
	}

	s.journal.note(number, read, applied, rule.kind())
	if !sleep(r, faults.delay(number)) {
		return // the client is gone
	}
	answered := func(status, code int) { s.journal.answered(number, status, code) }
	if rule == nil || rule.Kind == KindCode {
		answered(a.httpStatus(), a.ErrorCode) // so that who has the answer finds it in the log
		s.send(w, a)
		return
	}
	s.misbehave(w, r, rule, a, answered)
}

// attempt checks a call in the documented order and, if carryOut, moves the pointer.
func (s *Server) attempt(r *http.Request, read readRequest, over, carryOut bool) answer {
	if a := s.admit(r); !a.ok() {
		return a
	}
	switch {
	case over:
		return failure(60007, "the calls of this API exceed the frequency limit")
	case !carryOut:
		return success()
	case !read.refused.ok():
		return read.refused
	case !s.store.exists(read.report):
		return failure(90008, "Report_Account does not exist")
	case !s.store.exists(read.peer):
		return failure(90003, "Peer_Account does not exist")
	}
	if err := s.store.markRead(conversation{read.report, read.peer}, read.time); err != nil {
		return failure(91000, err.Error())
	}
	return success()
}

// sleep waits, no longer than the client does; false: the client is gone.
func sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
