package imclient

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Answer is what came back from the server, if anything did.
type Response struct {
	Status int    // HTTP status, 0: none
	Body   []byte // at most 64 KiB of it, without what does not print, redacted
	// The three fields that every answer of the API has. ErrorCode is 0 also when there was none;
	// Post's error is nil only if the server said 0.
	ErrorCode    int
	ErrorInfo    string // redacted
	ActionStatus string // redacted
	// Date is what time the server says it is; zero: it does not, or what answered was not the API.
	Date time.Time
	// Until is when the certificate of the other side expires; zero: no TLS.
	CertExpires time.Time
}

// verdict is what an answer's body says.
type apiResult struct {
	code         int
	info, status string
}

// readVerdict reads a body. It is false if that is no JSON object with an integer ErrorCode, or
// longer than any answer is. Names are case-sensitive, which is why this is no struct; of a name
// given twice the last counts. The other fields may be missing or odd: the code is enough.
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

// maxRetryAfter is the longest wait that a server may ask for.
const maxRetryAfter = 5 * time.Minute

// retryAfter reads the header of that name: seconds, or a date, which is measured against the
// answer's own Date, else, or if the two are more than a day apart, against now. 0 if there is none
// that makes sense.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.Atoi(text)
		// err: more digits than an int has
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

// serverDate reads the Date header; zero if there is none.
func serverDate(header http.Header) time.Time {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}
