package imclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// Transport sends the requests, which share one header: as http.RoundTripper demands, it must
	// not modify them. nil: NewTransport(Timeout, MaxConns).
	Transport http.RoundTripper
}

const (
	defaultTimeout  = 5 * time.Second
	defaultMaxConns = 256
)

// Client calls the API. It is safe for concurrent use.
type Client struct {
	base       *url.URL
	query      string // of each URL, up to the signature
	template   *http.Request
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
		base: base, template: requestTemplate(base.Host), timeout: o.Timeout,
		query: fmt.Sprintf("sdkappid=%d&identifier=%s&usersig=",
			o.AppID, url.QueryEscape(o.Admin)),
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

// Post makes one call of command ("openim/sendmsg"), with body as its JSON. The error is nil if the
// server returned ErrorCode 0. It is context.Cause(ctx) if ctx ended before a response came; then
// it is unknown whether the call had an effect. It is the error of ctx's lease if that returned one
// (WithLease). Any other failure is an *Error. The Response contains whatever the server returned,
// also beside an error.
func (c *Client) Post(ctx context.Context, command string, body any) (Response, error) {
	payload, err := json.Marshal(body)
	if err != nil {
		return Response{}, c.fail(command, &Error{Class: Rejected, Label: LabelRequest, Err: err})
	}
	e := new(exchange)
	if err := c.send(ctx, e, command, payload); err != nil {
		return Response{}, err
	}
	response, err := c.classify(ctx, e)
	response.Body = []byte(printable(
		c.redactor.redact(string(e.body[:min(len(e.body), maxBody)])), "\n\t"))
	return response, err
}

// send makes one call of command, as far as it gets: e has the result. It returns an error only if
// it sent nothing because ctx had ended or the key can't be read.
func (c *Client) send(ctx context.Context, e *exchange, command string, payload []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	sig, err := c.signer.get()
	if err != nil {
		return c.fail(command, &Error{Class: Held, Label: LabelKey, Err: err})
	}
	e.command, e.sig, e.payload = command, sig, payload
	c.exchange(ctx, e)
	return nil
}

// classify returns the response and the error of a call. It leaves Response.Body empty.
func (c *Client) classify(ctx context.Context, e *exchange) (Response, error) {
	result, ok := parseResult(e.body)
	response := Response{
		Status: e.status, ErrorCode: result.code, CertExpires: e.certExpires,
		ErrorInfo:    c.redactor.sanitize(result.info, maxMessage),
		ActionStatus: c.redactor.sanitize(result.status, maxMessage),
	}
	if ok {
		response.Date = serverDate(e.header)
		c.clock.observe(response.Date)
	}
	failure := &Error{Status: e.status, Err: e.err}
	switch {
	case ok && result.code == 0:
		c.signer.accept(e.sig)
		return response, nil
	case ok:
		row, _ := LookUp(result.code)
		failure.Class, failure.Label = row.Class, strconv.Itoa(result.code)
		failure.ErrorCode, failure.Message, failure.Err = result.code, response.ErrorInfo, nil
		if row.NewSignatureHelps {
			failure.RetryWithNewSignature = c.signer.refuse(e.sig,
				row.Code != codeSignatureRevoked) &&
				row.Code != codeTooManyBadSignatures
		}
	case e.err != nil && e.interrupted(ctx) != nil:
		return response, e.interrupted(ctx)
	case e.status != 0 && e.status != http.StatusOK:
		failure.Label = labelHTTP + strconv.Itoa(e.status)
		if e.status == http.StatusTooManyRequests {
			failure.Class = Throttled
		}
	case e.err != nil:
		failure.Label = e.label
	default:
		failure.Label = LabelAnswer
	}
	if !ok {
		failure.Message = c.redactor.sanitize(withoutMarkup(e.body), maxMessage)
	}
	if failure.Class == Throttled {
		failure.RetryAfter = retryAfter(e.header, c.Now())
	}
	return response, c.fail(e.command, failure)
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
