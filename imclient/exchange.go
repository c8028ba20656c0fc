package imclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxBody bounds how much of a response's body is read; real ones have about 60 bytes.
const maxBody = 64 << 10

// exchange is one HTTP request and its response, as far as it got: nearly all that one call
// allocates. It is never reused, because net/http may use parts of it after RoundTrip has returned.
type exchange struct {
	requestTrace

	command string
	sig     *signature
	payload []byte // the request's body
	url     url.URL

	status      int         // 0: no response
	header      http.Header // nil: no response
	body        []byte      // the response's; truncated if longer than maxBody
	certExpires time.Time   // when the certificate expires; zero: no TLS
	err         error       // why the response is incomplete; nil: it is complete
	label       string      // of err

	request  [128]byte // for payload, if it fits
	response [128]byte // for body, if it fits
}

// exchange sends the request of e and reads its response. Unless the response is complete, the
// connection is closed when exchange returns.
func (c *Client) exchange(ctx context.Context, e *exchange) {
	e.lease = leaseOf(ctx)
	ctx, e.cancel = context.WithTimeoutCause(ctx, c.timeout, c.timeoutErr)
	defer e.cancel()

	response, err := c.http.RoundTrip(c.newRequest(ctx, e))
	if err != nil {
		e.incomplete(ctx, err)
		return
	}
	e.status, e.header = response.StatusCode, response.Header
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		e.certExpires = response.TLS.PeerCertificates[0].NotAfter
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		// The body is the bare connection now, and only we can close it: not even the end of the
		// context ends a Read of it.
		e.closeConn()
		_ = response.Body.Close()
		return
	}
	e.body, err = readBody(response.Body, e.response[:0])
	switch {
	case err != nil:
		e.incomplete(ctx, err)
	case len(e.body) > maxBody:
		e.closeConn()
		e.err, e.label = errors.New("the response is longer than 64 KiB"), LabelAnswer
	}
	_ = response.Body.Close()
}

// readBody is io.ReadAll of at most maxBody+1 bytes, into buf if they fit.
func readBody(body io.Reader, buf []byte) ([]byte, error) {
	for len(buf) <= maxBody {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := body.Read(buf[len(buf):min(cap(buf), maxBody+1)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// requestTemplate returns what all requests to host have in common. They share the header: a
// RoundTripper must not modify a request.
func requestTemplate(host string) *http.Request {
	return &http.Request{
		Method: http.MethodPost, Host: host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"markread"}},
	}
}

// newRequest is http.NewRequest without parsing the URL, so it can't fail with an error that quotes
// the URL. The signature's characters are legal in a query, so it is not escaped; other clients
// send it unescaped, too.
func (c *Client) newRequest(ctx context.Context, e *exchange) *http.Request {
	e.url = *c.base
	e.url.Path += "/v4/" + e.command
	e.url.RawQuery = c.query + e.sig.text.Reveal() +
		"&random=" + strconv.FormatUint(uint64(rand.Uint32()), 10) + "&contenttype=json"
	request := c.template.WithContext(e.attach(ctx))
	request.URL, request.ContentLength = &e.url, int64(len(e.payload))
	request.GetBody = e.newBody
	request.Body, _ = e.newBody()
	return request
}

// newBody returns a reader of a type that net/http knows to be in memory: it does not send the
// header ahead of it.
func (e *exchange) newBody() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(e.payload)), nil
}

// incomplete closes the connection and records why the response is incomplete.
func (e *exchange) incomplete(ctx context.Context, err error) {
	e.closeConn()
	if ctx.Err() != nil {
		// or the call was interrupted, which takes precedence
		e.err, e.label = context.Cause(ctx), LabelTimeout
		return
	}
	e.err, e.label = err, e.labelOf(err)
}
