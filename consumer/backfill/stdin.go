package backfill

import (
	"context"
	"io"
)

// interruptible reads in until ctx ends; then, although a read may be under way that never returns, it fails with ErrInterrupted. The goroutine that
// reads is left to that read, which nothing can end but the process.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	r := &interrupted{ctx: ctx, blocks: make(chan block), free: make(chan []byte, 2)}
	for range cap(r.free) {
		r.free <- make([]byte, 64<<10)
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case buf := <-r.free:
				n, err := in.Read(buf)
				select {
				case <-ctx.Done():
					return
				case r.blocks <- block{buf, buf[:n], err}:
				}
				if err != nil {
					return
				}
			}
		}
	}()
	return r
}

type interrupted struct {
	ctx    context.Context
	blocks chan block
	free   chan []byte
	now    block
}

// block is what one read gave.
type block struct {
	whole, rest []byte
	err         error
}

func (r *interrupted) Read(b []byte) (int, error) {
	if len(r.now.rest) == 0 {
		if r.now.err != nil {
			return 0, r.now.err
		}
		if r.now.whole != nil {
			r.free <- r.now.whole // there is room: there are two
		}
		select {
		case <-r.ctx.Done():
			return 0, ErrInterrupted
		case r.now = <-r.blocks:
		}
	}
	n := copy(b, r.now.rest)
	r.now.rest = r.now.rest[n:]
	return n, nil
}
