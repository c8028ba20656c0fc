package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// command returns the handler of a command; do executes it for an authenticated request.
func (s *Server) command(do func(body) response) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := s.authenticate(r)
		if a.ok() {
			var b body
			if b, a = readBody(r); a.ok() {
				a = do(b)
			}
		}
		s.send(w, a)
	}
}

func (s *Server) sendMessage(b body) response {
	t := s.now().Unix()
	from, fromAnswer := s.options.Admin, success()
	if b.has("From_Account") {
		from, fromAnswer = b.account("From_Account", 90008)
	}
	to, toAnswer := b.account("To_Account", 90003)
	if a := firstRefusal(fromAnswer, toAnswer); !a.ok() {
		return a
	}
	if !s.store.exists(from) {
		return failure(90008, "From_Account does not exist")
	}
	if !s.store.exists(to) {
		return failure(90003, "To_Account does not exist")
	}
	random, ok := b.integer("MsgRandom")
	if !ok || random < 0 || random > 1<<32-1 {
		return failure(90005, "MsgRandom is missing or not an unsigned 32-bit integer")
	}
	var elements []struct{ MsgType, MsgContent json.RawMessage }
	if json.Unmarshal(b["MsgBody"], &elements) != nil || len(elements) == 0 {
		return failure(90007, "MsgBody is missing or not an array of elements")
	}
	for _, e := range elements {
		if e.MsgType == nil || e.MsgContent == nil {
			return failure(90002, "an element of MsgBody has no MsgType or no MsgContent")
		}
	}
	if err := s.store.deliver(conversation{report: to, peer: from}, t); err != nil {
		return failure(91000, err.Error())
	}
	number, ok := b.integer("MsgSeq")
	if !ok {
		number = int64(s.serial.Add(1))
	}
	a := success()
	a.MsgTime = t
	a.MsgKey = fmt.Sprintf("%d_%d_%d", number, random, t)
	return a
}

func (s *Server) countUnread(b body) response {
	account, a := b.account("To_Account", 90003)
	if !a.ok() {
		return a
	}
	if !s.store.exists(account) {
		return failure(90003, "To_Account does not exist")
	}
	if b.has("Peer_Account") {
		return failure(90001, "the sandbox counts the messages of all peers together")
	}
	total := s.store.total(account)
	a.AllUnread = &total
	return a
}

func (s *Server) importAccount(b body) response {
	account, a := b.account("UserID", 70402)
	if !a.ok() {
		return a
	}
	switch err := s.store.add(account); {
	case errors.Is(err, errFull):
		return failure(70398, "the app has reached its limit of accounts")
	case err != nil:
		return failure(70402, "UserID: "+err.Error())
	}
	return a
}

func (s *Server) kick(b body) response {
	account, a := b.account("UserID", 70402)
	if !a.ok() {
		return a
	}
	if !s.store.exists(account) {
		return failure(70107, "the account was not imported")
	}
	if err := s.sigs.kick(account, s.now()); err != nil {
		return failure(91000, err.Error())
	}
	return a
}
