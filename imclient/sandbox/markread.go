package sandbox

import (
	"net/http"
	"time"
)

const markReadPath = "/v4/openim/admin_set_msg_read"

// markRead handles the only command that is stamped, limited and logged, and that has faults.
func (s *Server) markRead(w http.ResponseWriter, r *http.Request) {
	number, inSecond := s.journal.arrive() // before everything else, which may block
	defer s.journal.finish()

	faults := s.faults.Load()
	limit := s.options.Rate
	if faults.Rate > 0 {
		limit = faults.Rate
	}
	overLimit := limit > 0 && inSecond > limit

	b, a := readBody(r)
	read := readRequest{refusal: a}
	if a.ok() {
		read = parseRead(b, s.now())
	}
	var rule *Rule
	if a.ok() || a.ErrorCode == 90001 {
		// The request's context ends with the client, for which "hang" waits, only if the body was
		// read to its end.
		rule = faults.match(number, conversation{read.report, read.peer})
	}

	apply := rule == nil || rule.Apply
	if apply || rule.Kind == KindCode {
		a = s.execute(r, read, overLimit, apply)
	} else {
		a = failure(91000, "a fault of the sandbox: not applied")
	}
	applied := apply && a.ok()
	if rule != nil && rule.Kind == KindCode {
		if a.ok() {
			a = rule.response()
		} else {
			rule = nil // the call was refused for its own reason
		}
	}

	s.journal.record(number, read, applied, rule.kind())
	if !sleep(r, faults.delay(number)) {
		return // the client has disconnected
	}
	recordResponse := func(status, code int) { s.journal.recordResponse(number, status, code) }
	if rule == nil || rule.Kind == KindCode {
		// before the client can have it, so that the log has it, too
		recordResponse(a.httpStatus(), a.ErrorCode)
		s.send(w, a)
		return
	}
	s.serveWireFault(w, r, rule, a, recordResponse)
}

// execute checks a call in the documented order and, if apply is set, moves the pointer.
func (s *Server) execute(r *http.Request, read readRequest, overLimit, apply bool) response {
	if a := s.authenticate(r); !a.ok() {
		return a
	}
	switch {
	case overLimit:
		return failure(60007, "the calls of this API exceed the frequency limit")
	case !apply:
		return success()
	case !read.refusal.ok():
		return read.refusal
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

// sleep waits for d; it returns false early if the client disconnects.
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
