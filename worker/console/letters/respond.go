package letters

import (
	"context"
	"errors"
	"net/http"
	"time"

	"markread/consumer/deadletter"
	"markread/worker/console/respond"
)

// handle returns a handler that responds with the result of do, or with its error.
func handle(do func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := do(w, r)
		if err != nil {
			fail(w, r, err)
			return
		}
		respond.JSON(w, http.StatusOK, body)
	}
}

// fail responds with an error. One without a status is Kafka's.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	var missing *deadletter.NotFoundError
	switch {
	case errors.As(err, &missing):
		err = respond.Errorf(http.StatusNotFound, "%v", err)
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.New("reading the dead letters takes too long; try again: reading continues " +
			"where it ended")
	}
	respond.Fail(w, r, err, http.StatusServiceUnavailable)
}

// take takes one of the slots, waiting at most that long. The caller must receive from the channel
// to give it back.
func take(ctx context.Context, slots chan struct{}, wait time.Duration) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return respond.Busy(5*time.Second,
			"others are reading dead letters; try again in some seconds")
	}
}

// allow lets the response take that long: the server's own limit is for short ones.
func allow(w http.ResponseWriter, limit time.Duration) {
	// a test's writer has no deadline
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
}
