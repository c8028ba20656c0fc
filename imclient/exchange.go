package imclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxBody bounds how much of a response's body is read; real ones have about 60 bytes.
const maxBody = 64 << 10

// httpResult is the result of one HTTP exchange, as far as it got.
type httpResult struct {
	status      int         // 0: no response
	header      http.Header // nil: no response
	body        []byte      // truncated if longer than maxBody
	certExpires time.Time   // when the certificate expires; zero: no TLS
	err         error       // why the response is incomplete; nil: it is complete
	label       string      // of err
}

// exchange sends one request and reads its response. Unless the response is complete, the
// connection is closed when exchange returns. abort ends ctx with its lease's error.
func (c *Client) exchange(
	ctx context.Context, abort context.CancelCauseFunc, address *url.URL, payload []byte,
) httpResult {
	trace := requestTrace{lease: leaseOf(ctx), abort: abort}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, c.timeoutErr)
	defer cancel()
	request := newRequest(trace.attach(ctx), address, payload)

	response, err := c.http.RoundTrip(request)
	if err != nil {
		trace.closeConn()
		return c.incomplete(ctx, &trace, httpResult{}, err)
	}
	got := httpResult{status: response.StatusCode, header: response.Header}
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		got.certExpires = response.TLS.PeerCertificates[0].NotAfter
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		// The body is the bare connection now, and only we can close it: not even the end of the
		// context ends a Read of it.
		trace.closeConn()
		_ = response.Body.Close()
		return got
	}
	got.body, err = io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		trace.closeConn()
		got = c.incomplete(ctx, &trace, got, err)
	case len(got.body) > maxBody:
		trace.closeConn()
		got.err, got.label = errors.New("the response is longer than 64 KiB"), LabelAnswer
	}
	_ = response.Body.Close()
	return got
}

// newRequest is http.NewRequest without parsing the URL, so it can't fail with an error that quotes
// the URL.
func newRequest(ctx context.Context, address *url.URL, payload []byte) *http.Request {
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
	first, _ := body()
	request := &http.Request{
		Method: http.MethodPost, URL: address, Host: address.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"markread"}},
		Body:   first, GetBody: body, ContentLength: int64(len(payload)),
	}
	return request.WithContext(ctx)
}

// incomplete adds the reason why a result is incomplete.
func (c *Client) incomplete(ctx context.Context, trace *requestTrace, got httpResult,
	err error) httpResult {
	got.err = err
	if ctx.Err() != nil {
		got.label = LabelTimeout // or the caller's context ended, which takes precedence
		got.err = context.Cause(ctx)
		return got
	}
	got.label = trace.label(err)
	return got
}
