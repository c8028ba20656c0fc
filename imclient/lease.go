package imclient

import "context"

type leaseKey struct{}

// WithLease returns a context for calls that may only be made while lease returns nil. Each call
// checks it as late as possible: when its connection is established and its request is ready, right
// before the request is written to the socket. If lease returns an error, nothing is sent, the
// connection is closed, and the call returns that error.
//
// A process may stand still at any moment for any time, and its permission may end meanwhile: a
// check before dialing proves nothing.
func WithLease(ctx context.Context, lease func() error) context.Context {
	return context.WithValue(ctx, leaseKey{}, lease)
}

// leaseOf returns the lease of ctx, or one that never ends.
func leaseOf(ctx context.Context) func() error {
	if lease, ok := ctx.Value(leaseKey{}).(func() error); ok {
		return lease
	}
	return func() error { return nil }
}
