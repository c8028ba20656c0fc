package console

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"markread/consumer/printable"
	"markread/worker/console/history"
	"markread/worker/console/respond"
	"markread/worker/format"
)

// Inspector answers questions about a worker's events. *worker.Worker implements it. It must be
// cheap: it must not walk the backlog.
type Inspector interface {
	// Conversation returns what is known of the conversation of two accounts.
	Conversation(ctx context.Context, report, peer string) (Conversation, error)
	// Rejected returns the newest rejected or invalid events, newest first, at most ten.
	Rejected() []RejectedEvent
}

// Conversation is what is known of one conversation.
type Conversation struct {
	Report string `json:"report"`
	Peer   string `json:"peer"`
	// Partition is where a producer that uses the recommended key writes its events; nil: unknown.
	Partition *ConversationPartition `json:"partition"`
	Owner     string                 `json:"owner"` // its address or member ID; "": unknown
	Here      bool                   `json:"here"`  // the worker that was asked is the owner
	Waiting   *WaitingConversation   `json:"waiting"`
	Applied   *AppliedConversation   `json:"applied"` // nil: not in the memory of recent calls
	Letters   any                    `json:"letters"` // its dead letters; nil: not known here
	Command   string                 `json:"command"` // lists its dead letters
	Note      string                 `json:"note"`    // what limits the answer, in English
}

// ConversationPartition is a partition of an event topic.
type ConversationPartition struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
}

// WaitingConversation is a conversation that waits for its call.
type WaitingConversation struct {
	Lane     string     `json:"lane"`
	Events   int        `json:"events"`
	ReadTime int64      `json:"read_time"` // the largest of its events, in Unix seconds
	InFlight bool       `json:"in_flight"`
	Attempts int        `json:"attempts"`
	RetryAt  *time.Time `json:"retry_at"` // nil: it waits for no backoff
	Since    *time.Time `json:"since"`    // nil: unknown
	Code     string     `json:"code"`     // of its last failure; "": none, or not known
	Message  string     `json:"message"`
}

// AppliedConversation is a conversation's last successful call.
type AppliedConversation struct {
	ReadTime int64     `json:"read_time"` // in Unix seconds
	At       time.Time `json:"at"`
}

// RejectedEvent is an event that the IM server has rejected, or that is invalid. The accounts are
// empty if it could not be decoded.
type RejectedEvent struct {
	At        time.Time `json:"at"`
	Lane      string    `json:"lane"`
	Topic     string    `json:"topic"`
	Partition int       `json:"partition"`
	Offset    int64     `json:"offset"`
	Class     string    `json:"class"` // rejected or invalid
	Code      string    `json:"code"`
	Message   string    `json:"message"`
	Report    string    `json:"report"`
	Peer      string    `json:"peer"`
}

func (s *site) canInspect() bool {
	return s.Inspector != nil || s.Source == nil && s.Workers != nil
}

func (s *site) state(w http.ResponseWriter, _ *http.Request) {
	respond.JSON(w, http.StatusOK, s.Source.State().normalized())
}

func (s *site) settings(w http.ResponseWriter, _ *http.Request) {
	respond.JSON(w, http.StatusOK, s.Settings())
}

// overview responds with the monitor's overview, and the history after a time.
func (s *site) overview(w http.ResponseWriter, r *http.Request) {
	options, err := readQuery(r, "range", "after")
	if err != nil {
		fail(w, r, err)
		return
	}
	span, after := history.Hour, int64(0)
	switch options["range"] {
	case "", "1h":
	case "24h":
		span = history.Day
	default:
		fail(w, r, respond.BadRequest("range must be 1h or 24h"))
		return
	}
	if text := options["after"]; text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			fail(w, r, respond.BadRequest("after must be a time in Unix seconds"))
			return
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = (&printable.Writer{Out: w}).Write(s.Monitor.JSON(span, after))
}

// conversationTimeout limits the response about a conversation: its worker and the dead letters are
// asked one after the other.
const conversationTimeout = 40 * time.Second

// conversation is a POST although it changes nothing: its accounts are personal data, and URLs are
// logged.
func (s *site) conversation(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Report, Peer, Worker string }
	err := respond.ReadJSON(w, r, &asked)
	if err == nil && (asked.Report == "" || asked.Peer == "") {
		err = respond.BadRequest("report and peer must be two accounts")
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	// a test's writer has no deadline
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(conversationTimeout))
	found, err := s.workers.Conversation(r.Context(), asked.Worker, asked.Report, asked.Peer)
	if err != nil {
		fail(w, r, err)
		return
	}
	found.Report, found.Peer = asked.Report, asked.Peer
	if found.Command == "" {
		found.Command = format.Command("markread", "dead-letters", "ls", "--state", "all",
			"--report="+asked.Report, "--peer="+asked.Peer)
	}
	respond.JSON(w, http.StatusOK, found)
}

func (s *site) rejected(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Worker string }
	if err := respond.ReadJSON(w, r, &asked); err != nil {
		fail(w, r, err)
		return
	}
	events, err := s.workers.Rejected(r.Context(), asked.Worker)
	if err != nil {
		fail(w, r, err)
		return
	}
	respond.JSON(w, http.StatusOK, map[string]any{"events": append([]RejectedEvent{}, events...)})
}
