package imclient

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Labels of failures without an ErrorCode; the label of others is the ErrorCode in decimal digits.
// A label is the value of a metric and of a dead letter's header, so the set is closed, except for
// HTTP statuses ("http_502").
const (
	LabelTimeout = "timeout" // no complete response within Options.Timeout
	LabelConnect = "connect" // no connection: name, route, refused, proxy
	LabelTLS     = "tls"     // the handshake failed
	LabelReset   = "reset"   // the connection broke before the response was complete
	LabelAnswer  = "answer"  // HTTP 200 (or not HTTP), but not a response of the IM API
	LabelKey     = "key"     // the key can't be read; nothing was sent. Always Held
	LabelRequest = "request" // the call is invalid; nothing was sent. Always Rejected

	labelHTTP = "http_"
)

// Error is a failed call.
type Error struct {
	Class     Class
	Label     string // the ErrorCode, or one of the labels above
	ErrorCode int    // 0: the server returned none
	Status    int    // HTTP status; 0: no response
	// Message is what the server returned: ErrorInfo, else the beginning of the body without HTML
	// markup. At most 200 bytes on one line, redacted.
	Message string
	// RetryAfter is how long the server asked to wait, at most 5 minutes. 0 unless the class is
	// Throttled.
	RetryAfter time.Duration
	// RetryWithNewSignature: the server refused the signature, which has been dropped and was not
	// itself made because of a refusal just before. The same call would get a new signature (the
	// key is read again), so retry it once before relying on Class.
	RetryWithNewSignature bool
	// Err is the cause; nil if the server returned an ErrorCode. It contains no secret.
	Err error

	command string // "openim/admin_set_msg_read", "" in tests
	host    string // the host of the URL
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Error returns, on one line, what failed, what the server returned, and what an operator should
// do.
func (e *Error) Error() string {
	return fmt.Sprintf("%s. What to do: %s", e.WithoutRemedy(), e.Remedy())
}

// WithoutRemedy is Error without what to do.
func (e *Error) WithoutRemedy() string {
	var text strings.Builder
	if e.command != "" {
		fmt.Fprintf(&text, "%s: ", e.command)
	}
	if e.ErrorCode != 0 {
		fmt.Fprintf(&text, "ErrorCode %d, ", e.ErrorCode)
	}
	text.WriteString(e.Meaning())
	if e.host != "" && e.ErrorCode == 0 && e.Sent() {
		fmt.Fprintf(&text, " (%s)", e.host)
	}
	if e.Message != "" {
		fmt.Fprintf(&text, "; the server says %q", e.Message)
	}
	if e.Err != nil {
		fmt.Fprintf(&text, ": %v", e.Err)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&text, "; it asks to wait %v", e.RetryAfter)
	}
	return text.String()
}

// Sent reports whether a request may have been sent. If not, the server knows nothing of the call.
func (e *Error) Sent() bool { return e.Label != LabelKey && e.Label != LabelRequest }

// Meaning returns what happened, in a few words.
func (e *Error) Meaning() string {
	meaning, _ := e.explain()
	return meaning
}

// Remedy returns what an operator should do.
func (e *Error) Remedy() string {
	_, remedy := e.explain()
	return remedy
}

// RemedyWithoutRetry is Remedy without the part that a worker does by itself, for a caller that
// does not retry.
func (e *Error) RemedyWithoutRetry() string { return WithoutRetry(e.Remedy()) }

// WithoutRetry returns a remedy without the part that a worker does by itself.
func WithoutRetry(remedy string) string {
	for _, first := range []string{ifRetriesFail, ifStillThrottled, ifStillRefused} {
		remedy = strings.TrimPrefix(remedy, first)
	}
	return remedy
}

func (e *Error) explain() (meaning, remedy string) {
	if e.ErrorCode != 0 {
		row, _ := LookUp(e.ErrorCode)
		return row.Meaning, row.Remedy
	}
	switch e.Label {
	case LabelTimeout:
		return "no complete response in time",
			ifRetriesFail + "check the network path to the server, and that " +
				"--im-timeout is well above the server's own limit of 3 s"
	case LabelConnect:
		return "no connection to the server", "check --im-url, name resolution, the firewall's " +
			"rules for outgoing connections, and the proxy if the environment names one"
	case LabelTLS:
		return "the TLS handshake failed", "check that --im-url names the vendor's host, that " +
			"the system's root certificates are up to date, and that nothing in between " +
			"intercepts TLS with a certificate of its own"
	case LabelReset:
		return "the connection broke before the response was complete", ifRetriesFail +
			"look for a proxy or firewall in between that cuts connections"
	case LabelAnswer:
		return "the response is not from the IM API: no JSON object with an integer ErrorCode",
			"check --im-url, and whether a proxy or gateway responds in the server's place"
	case LabelKey:
		return "the key can't be read, so nothing was sent", "check MARKREAD_IM_KEY, or the file " +
			"that MARKREAD_IM_KEY_FILE names and that this process may read it"
	case LabelRequest:
		return "the call is invalid, so nothing was sent", checkEvent
	}
	status, _ := strconv.Atoi(strings.TrimPrefix(e.Label, labelHTTP))
	if status == 0 {
		return "the call failed", retryThenSupport
	}
	meaning = fmt.Sprintf("HTTP status %d without an ErrorCode", status)
	switch {
	case status == 429:
		return meaning, lowerRate
	case status >= 300 && status < 400:
		return meaning, "check --im-url: redirects are not followed, because that would send the " +
			"signature to another host"
	case status == 401 || status == 403 || status == 404 || status == 407:
		return meaning, "check --im-url, and the proxy or gateway that responds in the server's " +
			"place: the IM API responds with status 200"
	default:
		return meaning, ifRetriesFail +
			"check the proxies and gateways on the way to the server, then ask the vendor's support"
	}
}
