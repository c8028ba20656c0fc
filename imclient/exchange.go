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

// maxBody bounds what is read of an answer; real ones have about 60 bytes.
const maxBody = 64 << 10

// reply is what one HTTP exchange brought, as far as it got.
type httpResult struct {
	status      int         // 0: no answer
	header      http.Header // nil: no answer
	body        []byte      // longer than maxBody: cut
	certExpires time.Time   // when the certificate expires, zero: no TLS
	err         error       // why the answer is not whole, nil: it is
	label       string      // of err
}

// exchange sends one request and reads its answer. Unless that came whole, the connection is closed
// when exchange returns. lose ends ctx with what its lease returned.
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
		// The body is the bare connection now, and its end is nobody's business but ours: not even
		// the context ends a Read of it.
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
		got.err, got.label = errors.New("the answer is longer than 64 KiB"), LabelAnswer
	}
	_ = response.Body.Close()
	return got
}

// newRequest is http.NewRequest without parsing the URL: it can't fail with an error that quotes
// it.
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

// broken adds to a reply why it is not whole.
func (c *Client) incomplete(ctx context.Context, trace *requestTrace, got httpResult,
	err error) httpResult {
	got.err = err
	if ctx.Err() != nil {
		got.label = LabelTimeout // or the caller's context ended, which comes first
		got.err = context.Cause(ctx)
		return got
	}
	got.label = trace.label(err)
	return got
}
