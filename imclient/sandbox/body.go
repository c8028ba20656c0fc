package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// body is a request's JSON object. Names are case-sensitive, and if a name is repeated, the last
// one counts; therefore it is not decoded into a struct.
type body map[string]json.RawMessage

// readBody reads and parses a request's body. It reads a body of legal size to its end: only then
// does net/http detect that a client disconnects.
func readBody(r *http.Request) (body, response) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	if err != nil {
		return nil, failure(60002, "the body can't be read")
	}
	if len(text) > maxBodyBytes {
		return nil, failure(93000, "the body has more than 12 KB")
	}
	var b body
	if err := json.Unmarshal(text, &b); err != nil || b == nil {
		return nil, failure(90001, "Fail to Parse json data of body, Please check it")
	}
	return b, success()
}

// has reports whether a field is present and not null.
func (b body) has(field string) bool {
	text, ok := b[field]
	return ok && string(text) != "null"
}

// account returns the account id in a field; if it is absent, the response has the given code.
func (b body) account(field string, code int) (string, response) {
	if !b.has(field) {
		return "", failure(code, field+" is missing")
	}
	var account string
	if json.Unmarshal(b[field], &account) != nil {
		return "", failure(60015, field+" must be a string")
	}
	return account, success()
}

// integer returns the whole number in a field; false: there is none.
func (b body) integer(field string) (int64, bool) {
	n, err := strconv.ParseInt(string(b[field]), 10, 64)
	return n, err == nil
}

// readRequest is a parsed request of admin_set_msg_read. If refusal is not ok, the fields that
// could be parsed are set nevertheless.
type readRequest struct {
	report, peer string
	time         int64
	encoding     Encoding
	refusal      response
}

// parseRead parses a mark-read request; now replaces an absent MsgReadTime.
func parseRead(b body, now time.Time) readRequest {
	var (
		read   readRequest
		report response
		peer   response
		when   response
	)
	read.report, report = b.account("Report_Account", 90008)
	read.peer, peer = b.account("Peer_Account", 90003)
	read.time, read.encoding, when = b.readTime(now)
	read.refusal = firstRefusal(report, peer, when)
	return read
}

// readTime returns MsgReadTime in seconds.
func (b body) readTime(now time.Time) (int64, Encoding, response) {
	const field = "MsgReadTime"
	if !b.has(field) {
		return now.Unix(), EncodingAbsent, success()
	}
	encoding, digits := EncodingInteger, string(b[field])
	if digits[0] == '"' {
		encoding = EncodingText
		if json.Unmarshal(b[field], &digits) != nil {
			digits = ""
		}
	}
	t, err := strconv.ParseUint(digits, 10, 63) // unsigned: a sign is not accepted
	if err != nil {
		return 0, EncodingInvalid, failure(90001,
			fmt.Sprintf("%s must be a time in seconds, as a decimal string", field))
	}
	return int64(t), encoding, success()
}

// firstRefusal returns the first response that is a refusal, or success.
func firstRefusal(all ...response) response {
	for _, a := range all {
		if !a.ok() {
			return a
		}
	}
	return success()
}
