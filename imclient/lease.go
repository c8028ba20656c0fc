package imclient

import "context"

type leaseKey struct{}

// WithLease returns a context for calls that may only be made while lease returns nil. Each asks it
// as late as can be: when its connection is there and its request is ready, right before that is
// written to the socket. If lease returns an error, nothing is sent, the connection is closed, and
// the call returns that error.
//
// A process may stand still at any moment for any time, and its permission may end meanwhile: what
// it asked before dialing says nothing.
func WithLease(ctx context.Context, lease func() error) context.Context {
	return context.WithValue(ctx, leaseKey{}, lease)
}

// leaseOf returns the lease of ctx, which may be one that never ends.
func leaseOf(ctx context.Context) func() error {
	if lease, ok := ctx.Value(leaseKey{}).(func() error); ok {
		return lease
	}
	return func() error { return nil }
}
