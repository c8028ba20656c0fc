package sandbox

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
)

// response is the JSON of every command's response.
type response struct {
	ActionStatus string `json:"ActionStatus"`
	ErrorInfo    string `json:"ErrorInfo"`
	ErrorCode    int    `json:"ErrorCode"`

	MsgTime   int64  `json:"MsgTime,omitempty"`
	MsgKey    string `json:"MsgKey,omitempty"`
	AllUnread *int   `json:"AllC2CUnreadMsgNum,omitempty"`

	status     int    // HTTP; 0: 200
	retryAfter string // a header; empty: none
}

func success() response { return response{ActionStatus: "OK"} }

func failure(code int, info string) response {
	return response{ActionStatus: "FAIL", ErrorInfo: info, ErrorCode: code}
}

func (a response) ok() bool { return a.ErrorCode == 0 }

func (a response) json() []byte {
	text, err := json.Marshal(a)
	if err != nil {
		panic(err) // strings and numbers can always be encoded
	}
	return text
}

func (a response) httpStatus() int { return cmp.Or(a.status, http.StatusOK) }

// send writes a response. A connection error is the client's to detect.
func (s *Server) send(w http.ResponseWriter, a response) {
	text := a.json()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	if a.retryAfter != "" {
		h.Set("Retry-After", a.retryAfter)
	}
	s.setDate(w)
	w.WriteHeader(a.httpStatus())
	_, _ = w.Write(text)
}

// setDate sets the Date header if the server's clock differs from the machine's; else net/http sets
// it.
func (s *Server) setDate(w http.ResponseWriter) {
	if s.faults.Load().Skew != 0 {
		w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	}
}
