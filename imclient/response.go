package imclient

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Response is what the server returned, as far as it did.
type Response struct {
	Status int    // HTTP status; 0: no response
	Body   []byte // at most 64 KiB, redacted, without unprintable characters
	// The three fields of every response of the API. ErrorCode is also 0 if the response has none;
	// Post's error is nil only if the server returned ErrorCode 0.
	ErrorCode    int
	ErrorInfo    string // redacted
	ActionStatus string // redacted
	// Date is the server's time; zero if the response has no Date header or is not from the API.
	Date time.Time
	// CertExpires is when the other side's certificate expires; zero: no TLS.
	CertExpires time.Time
}

// apiResult is the result that a response's body contains.
type apiResult struct {
	code         int
	info, status string
}

// parseResult parses a body. It returns false if the body is not a JSON object with an integer
// ErrorCode, or is longer than any response of the API. Names are case-sensitive, therefore it does
// not decode into a struct; if a name is repeated, the last one counts. The other fields may be
// missing or malformed: the code is enough.
func parseResult(body []byte) (apiResult, bool) {
	var fields map[string]json.RawMessage
	if len(body) > maxBody || json.Unmarshal(body, &fields) != nil {
		return apiResult{}, false
	}
	var v apiResult
	code, err := strconv.Atoi(string(fields["ErrorCode"]))
	if err != nil {
		return apiResult{}, false
	}
	v.code = code
	_ = json.Unmarshal(fields["ErrorInfo"], &v.info)
	_ = json.Unmarshal(fields["ActionStatus"], &v.status)
	return v, true
}

// maxRetryAfter is the longest wait that a server may request.
const maxRetryAfter = 5 * time.Minute

// retryAfter parses the Retry-After header: seconds, or a date. A date is compared with the
// response's own Date, or with now if the two are more than a day apart. It returns 0 if the header
// is absent or malformed, and at most maxRetryAfter.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.Atoi(text)
		// err: more digits than fit into an int
		if err != nil || seconds > int(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date := serverDate(header); withinSkew(until, date) {
		now = date
	}
	return max(0, min(until.Sub(now), maxRetryAfter))
}

// serverDate parses the Date header; zero if it is absent or malformed.
func serverDate(header http.Header) time.Time {
	date, _ := http.ParseTime(header.Get("Date")) // zero if there is an error
	return date
}
