package imclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Options configure a Client. BaseURL, AppID, Admin and Key are required.
type Options struct {
	BaseURL string        // "https://console.tim.qq.com"; see RegionURL
	AppID   int64         // SDKAppID
	Admin   string        // an App administrator's account
	Key     KeySource     // the app's secret key
	Timeout time.Duration // of one call, connecting included; 0: 5 s
	// MaxConns is how many idle connections are kept; 0: 256. It should be the largest number of
	// calls in flight. It limits nothing else.
	MaxConns int
	// Transport sends the requests; nil: NewTransport(Timeout, MaxConns).
	Transport http.RoundTripper
}

const (
	defaultTimeout  = 5 * time.Second
	defaultMaxConns = 256
)

// Client calls the API. It is safe for concurrent use.
type Client struct {
	base       *url.URL
	appID      int64
	admin      string
	timeout    time.Duration
	timeoutErr error // the cause of a call that exceeds timeout
	http       http.RoundTripper
	signer     *signer
	redactor   *redactor
	clock      *clock
}

// New returns a Client. It makes no call and does not read the key. Its error names the option and
// the flag of markread that sets it.
func New(o Options) (*Client, error) {
	base, err := parseBase(o.BaseURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--im-url (BaseURL): %w", err)
	case o.AppID <= 0:
		return nil, errors.New("--im-app-id (AppID) must be positive")
	case o.Admin == "" || strings.ContainsAny(o.Admin, "\r\n"):
		return nil, errors.New("--im-admin (Admin) must be an account id without a line break")
	case o.Key == nil:
		return nil, errors.New("MARKREAD_IM_KEY (Key) is missing")
	case o.Timeout < 0:
		return nil, errors.New("--im-timeout (Timeout) must not be negative")
	case o.MaxConns < 0:
		return nil, errors.New("--max-in-flight (MaxConns) must not be negative")
	}
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.MaxConns = cmp.Or(o.MaxConns, defaultMaxConns)
	if o.Transport == nil {
		o.Transport = NewTransport(o.Timeout, o.MaxConns)
	}
	c := &Client{
		base: base, appID: o.AppID, admin: o.Admin, timeout: o.Timeout,
		timeoutErr: fmt.Errorf("gave up after %v", o.Timeout),
		http:       o.Transport, redactor: newRedactor(proxyPasswords()...), clock: new(clock),
	}
	c.signer = &signer{
		appID: o.AppID, admin: o.Admin, key: o.Key, clock: c.clock, redact: c.redactor.add,
	}
	return c, nil
}

// Close closes the idle connections. Calls in flight continue.
func (c *Client) Close() {
	if pool, ok := c.http.(interface{ CloseIdleConnections() }); ok {
		pool.CloseIdleConnections()
	}
}

// Now returns the later of this machine's time and the server's. The server's time is the last Date
// within a day of this machine's clock, plus the time since then.
func (c *Client) Now() time.Time { return c.clock.latest() }

// KeyChanged reports whether the key source returns another key than the one of the last signature,
// or can be read again after it failed for that signature: a call that was held because of its key
// may succeed now. It stays true until the next call, which is signed with that key. A source that
// fails counts as unchanged. KeyChanged reads the source (for a KeyFile, the file); it neither
// signs nor calls.
func (c *Client) KeyChanged() bool { return c.signer.keyChanged() }

// Proxy returns the host and port of the proxy that calls use; "": none.
func (c *Client) Proxy() string {
	transport, ok := c.http.(*http.Transport)
	if !ok || transport.Proxy == nil {
		return ""
	}
	proxy, err := transport.Proxy(&http.Request{URL: c.base})
	if err != nil || proxy == nil { // a call reports the error
		return ""
	}
	return proxy.Host
}

// Mask returns text with this client's secrets replaced by "[secret]": the keys and signatures of
// the last dozen signings, the passwords of the environment's proxies, and users and passwords in
// URLs. If the result still contains 12 consecutive bytes of a secret, plain, escaped up to three
// times, or in hexadecimal or base64, Mask returns a text that says so instead.
func (c *Client) Mask(text string) string { return c.redactor.redact(text) }

// NewMask returns a function that masks like Client.Mask, for these secrets and the passwords of
// the environment's proxies.
func NewMask(secrets ...Secret) func(text string) string {
	kept := proxyPasswords()
	for _, secret := range secrets {
		if !secret.IsZero() {
			kept = append(kept, secret.Reveal())
		}
	}
	return newRedactor(kept...).redact
}

// CommandMarkRead is the command that marks a conversation as read; its body is a Read.
const CommandMarkRead = "openim/admin_set_msg_read"

// CommandUnread is the command that counts an account's unread messages. It changes nothing; its
// body is an Unread.
const CommandUnread = "openim/get_c2c_unread_msg_num"

// Unread is the request for one account. A server that accepts the key and the administrator
// responds to it whether or not the account exists.
type Unread struct {
	Account string `json:"To_Account"`
}

// Read is the request that marks all that Peer wrote to Report up to Time as read.
type Read struct {
	Report string // the account that has read
	Peer   string // the other account of the conversation
	Time   int64  // seconds since 1970, at least 1
}

// MarshalJSON returns the body that the API expects.
func (r Read) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Report string `json:"Report_Account"`
		Peer   string `json:"Peer_Account"`
		Time   string `json:"MsgReadTime"` // a decimal string, as documented; never omitted
	}{r.Report, r.Peer, strconv.FormatInt(r.Time, 10)})
}

// MarkRead makes one call of v4/openim/admin_set_msg_read. Its error is nil, an *Error,
// context.Cause(ctx) or the lease's error: see Post.
func (c *Client) MarkRead(ctx context.Context, r Read) error {
	if r.Report == "" || r.Peer == "" || r.Time < 1 {
		// A server may treat an invalid time as absent, and an absent one as now.
		return c.fail(CommandMarkRead, &Error{
			Class: Rejected, Label: LabelRequest,
			Err: errors.New("both accounts and a positive time are required"),
		})
	}
	_, _, err := c.post(ctx, CommandMarkRead, r)
	return err
}

// Post makes one call of command ("openim/sendmsg"), with body as its JSON. The error is nil if the
// server returned ErrorCode 0. It is context.Cause(ctx) if ctx ended before a response came; then
// it is unknown whether the call had an effect. It is the error of ctx's lease if that returned one
// (WithLease). Any other failure is an *Error. The Response contains whatever the server returned,
// also beside an error.
func (c *Client) Post(ctx context.Context, command string, body any) (Response, error) {
	response, raw, err := c.post(ctx, command, body)
	response.Body = []byte(printable(c.redactor.redact(string(raw[:min(len(raw), maxBody)])),
		"\n\t"))
	return response, err
}

// post is Post without Response.Body: it returns the body unredacted. Most callers don't read it,
// and redacting it costs more than everything else.
func (c *Client) post(ctx context.Context, command string, body any) (Response, []byte, error) {
	if ctx.Err() != nil {
		return Response{}, nil, context.Cause(ctx)
	}
	payload, err := json.Marshal(body)
	if err != nil {
		failure := &Error{Class: Rejected, Label: LabelRequest, Err: err}
		return Response{}, nil, c.fail(command, failure)
	}
	sig, err := c.signer.get()
	if err != nil {
		return Response{}, nil, c.fail(command, &Error{Class: Held, Label: LabelKey, Err: err})
	}
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	got := c.exchange(ctx, abort, c.address(command, sig), payload)
	response, err := c.classify(ctx, command, sig, got)
	return response, got.body, err
}

// address returns the URL of a call. The signature's characters are legal in a query, so it is not
// escaped; other clients send it unescaped, too.
func (c *Client) address(command string, sig *signature) *url.URL {
	address := *c.base
	address.Path += "/v4/" + command
	const query = "sdkappid=%d&identifier=%s&usersig=%s&random=%d&contenttype=json"
	admin := url.QueryEscape(c.admin)
	address.RawQuery = fmt.Sprintf(query, c.appID, admin, sig.text.Reveal(), rand.Uint32())
	return &address
}

// classify returns the response and the error of a call. It leaves Response.Body empty.
func (c *Client) classify(
	ctx context.Context, command string, sig *signature, got httpResult,
) (Response, error) {
	result, ok := parseResult(got.body)
	response := Response{
		Status: got.status, ErrorCode: result.code, CertExpires: got.certExpires,
		ErrorInfo:    c.redactor.sanitize(result.info, maxMessage),
		ActionStatus: c.redactor.sanitize(result.status, maxMessage),
	}
	if ok {
		response.Date = serverDate(got.header)
		c.clock.observe(response.Date)
	}
	failure := &Error{Status: got.status, Err: got.err}
	switch {
	case ok && result.code == 0:
		c.signer.accept(sig)
		return response, nil
	case ok:
		row, _ := LookUp(result.code)
		failure.Class, failure.Label = row.Class, strconv.Itoa(result.code)
		failure.ErrorCode, failure.Message, failure.Err = result.code, response.ErrorInfo, nil
		if row.NewSignatureHelps {
			failure.RetryWithNewSignature = c.signer.refuse(sig,
				row.Code != codeSignatureRevoked) &&
				row.Code != codeTooManyBadSignatures
		}
	case got.err != nil && ctx.Err() != nil:
		return response, context.Cause(ctx)
	case got.status != 0 && got.status != http.StatusOK:
		failure.Label = labelHTTP + strconv.Itoa(got.status)
		if got.status == http.StatusTooManyRequests {
			failure.Class = Throttled
		}
	case got.err != nil:
		failure.Label = got.label
	default:
		failure.Label = LabelAnswer
	}
	if !ok {
		failure.Message = c.redactor.sanitize(withoutMarkup(got.body), maxMessage)
	}
	if failure.Class == Throttled {
		failure.RetryAfter = retryAfter(got.header, c.Now())
	}
	return response, c.fail(command, failure)
}

// fail completes an Error and redacts its cause.
func (c *Client) fail(command string, e *Error) *Error {
	e.command, e.host = command, c.base.Host
	limit := maxMessage
	if e.Label == LabelKey {
		limit = maxLocalMessage
	}
	e.Err = c.redactor.sanitizeErr(e.Err, limit)
	return e
}
