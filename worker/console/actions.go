package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"markread/consumer/printable"
	"markread/worker/console/overview"
	"markread/worker/console/respond"
)

// Controls are an operator's commands to a worker. They are idempotent. by says who sent the
// command, and why their reason; both are one short line.
type Controls interface {
	// Pause holds all calls of this process until Resume.
	Pause(by, why string)
	// Resume ends the operator's hold. With acceptRejections it also ends the holds for rejections,
	// and lets the next rejected events become dead letters.
	Resume(by string, acceptRejections bool)
}

// Workers are the workers of a group as Controls and Inspector. worker is an address of the
// overview's; "" is the only worker, on its own server. The errors are for people; a [respond.Error] has
// the status of the response, such as 404 for a worker that is not of the group.
type Workers interface {
	Pause(ctx context.Context, worker, by, why string) (Readiness, error)
	Resume(ctx context.Context, worker, by string, acceptRejections bool) (Readiness, error)
	Conversation(ctx context.Context, worker, report, peer string) (Conversation, error)
	Rejected(ctx context.Context, worker string) ([]RejectedEvent, error)
}

// local is the worker of this process.
type local struct {
	source    Source
	controls  Controls
	inspector Inspector
}

var errNotGroup = respond.BadRequest("worker must be empty: this is a worker's own server")

// Pause implements [Workers].
func (l local) Pause(_ context.Context, _, by, why string) (Readiness, error) {
	l.controls.Pause(by, why)
	return readiness(l.source), nil
}

// Resume implements [Workers].
func (l local) Resume(_ context.Context, _, by string, acceptRejections bool) (Readiness, error) {
	l.controls.Resume(by, acceptRejections)
	return readiness(l.source), nil
}

// Conversation implements [Workers].
func (l local) Conversation(ctx context.Context, worker, report, peer string) (Conversation,
	error) {
	if worker != "" {
		return Conversation{}, errNotGroup
	}
	return l.inspector.Conversation(ctx, report, peer)
}

// Rejected implements [Workers].
func (l local) Rejected(_ context.Context, worker string) ([]RejectedEvent, error) {
	if worker != "" {
		return nil, errNotGroup
	}
	return l.inspector.Rejected(), nil
}

func (s *site) canControl() bool {
	return !s.ReadOnly && (s.Controls != nil || s.Source == nil && s.Workers != nil)
}

// maxWhy is the longest reason of a pause, in bytes.
const maxWhy = 200

// CheckReason returns an error if text can't be the reason of a pause.
func CheckReason(text string) error {
	switch {
	case len(text) > maxWhy:
		return fmt.Errorf("the reason has %d bytes; at most %d are kept", len(text), maxWhy)
	case printable.Line(text) != text:
		return errors.New("the reason must be one line of printable text")
	}
	return nil
}

func (s *site) pause(w http.ResponseWriter, r *http.Request) {
	options, err := s.readCommand(r, "reason")
	if err != nil {
		fail(w, r, err)
		return
	}
	if err := CheckReason(options["reason"]); err != nil {
		fail(w, r, respond.BadRequest("%v", err))
		return
	}
	c := overview.Command{What: "pause", Worker: options["worker"], Why: options["reason"]}
	s.execute(w, r, c, func(c overview.Command) (Readiness, error) {
		return s.workers.Pause(r.Context(), c.Worker, c.By, c.Why)
	})
}

func (s *site) resume(w http.ResponseWriter, r *http.Request) {
	options, err := s.readCommand(r, "accept-rejections")
	given, accept := options["accept-rejections"]
	if err == nil && accept && given != "true" && given != "false" {
		err = respond.BadRequest("accept-rejections must be true or false")
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	c := overview.Command{What: "resume", Worker: options["worker"]}
	if given == "true" {
		c.What = "accept-rejections"
	}
	s.execute(w, r, c, func(c overview.Command) (Readiness, error) {
		return s.workers.Resume(r.Context(), c.Worker, c.By, given == "true")
	})
}

// readCommand returns the options of a command.
func (s *site) readCommand(r *http.Request, option string) (map[string]string, error) {
	if r.ContentLength != 0 {
		return nil, respond.BadRequest("the request must have no body; an option goes into the URL")
	}
	names := []string{option}
	if s.scope == "group" {
		names = append(names, "worker")
	}
	return readQuery(r, names...)
}

// execute carries a command out, records it, and responds with the worker's holds, as /readyz does.
func (s *site) execute(w http.ResponseWriter, r *http.Request, c overview.Command,
	do func(overview.Command) (Readiness, error)) {
	c.At, c.By = time.Now(), Who(s.Token, r)
	now, err := do(c)
	line := s.Log.Info()
	if err != nil {
		line = s.Log.Warn().AnErr("error", err)
	}
	line = line.Str("request", r.Method+" "+r.URL.RequestURI()).Str("from", r.RemoteAddr).
		Str("by", c.By)
	if c.Why != "" {
		line.Str("reason", c.Why)
	}
	if err != nil {
		line.Msg("operator command failed")
		fail(w, r, err)
		return
	}
	line.Msg("operator command executed")
	s.Monitor.Record(c)
	respond.JSON(w, http.StatusOK, now)
}
