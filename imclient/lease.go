package imclient

import (
	"bytes"
	"context"
	"io"
)

type leaseKey struct{}

// WithLease returns a context for calls that may only be made while lease returns nil. Each asks it as late as can be: when its connection
// is there, right before the request is written to it. If lease returns an error, nothing is sent, and the call returns that error.
//
// A process may stand still at any moment for any time, and its permission may end meanwhile: what it asked before dialing says nothing.
func WithLease(ctx context.Context, lease func() error) context.Context {
	return context.WithValue(ctx, leaseKey{}, lease)
}

// body is what a request carries. net/http reads it into the buffer that already has the request's head and writes both at once, so a body
// that can't be read keeps the whole request from being sent.
type body struct {
	text  []byte
	lease func() error // nil: none
	lost  func(error)  // is called with what lease returned
}

func (b body) open() io.ReadCloser { return &opened{bytes.NewReader(b.text), b} }

type opened struct {
	text *bytes.Reader
	body body
}

func (o *opened) Read(p []byte) (int, error) {
	if o.body.lease != nil {
		if err := o.body.lease(); err != nil {
			o.body.lost(err)
			return 0, err
		}
	}
	return o.text.Read(p)
}

func (o *opened) Close() error { return nil }

// leased returns the body of a call under ctx, and the context that ends when the lease is lost.
func leased(ctx context.Context, text []byte) (context.Context, body, context.CancelFunc) {
	lease, _ := ctx.Value(leaseKey{}).(func() error)
	ctx, end := context.WithCancelCause(ctx)
	return ctx, body{text, lease, end}, func() { end(nil) }
}
