package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/console"
	"markread/worker/console/respond"
)

// Group implements console.Workers. Commands and questions are forwarded to a worker only if it is
// on this machine: elsewhere the token would cross the network without TLS. For another worker the
// page shows the command.
var _ console.Workers = (*Group)(nil)

// maxForwarded bounds the bytes of a worker's response.
const maxForwarded = 1 << 20

// Pause implements console.Workers.
func (g *Group) Pause(ctx context.Context, worker, by, why string) (now console.Readiness,
	err error) {
	path := "/api/pause"
	if why != "" {
		path += "?" + url.Values{"reason": {why}}.Encode()
	}
	err = g.ask(ctx, worker, path, by, nil, &now)
	return now, err
}

// Resume implements console.Workers.
func (g *Group) Resume(ctx context.Context, worker, by string,
	acceptRejections bool) (now console.Readiness, err error) {
	path := "/api/resume"
	if acceptRejections {
		path += "?accept-rejections=true"
	}
	err = g.ask(ctx, worker, path, by, nil, &now)
	return now, err
}

// Rejected implements console.Workers.
func (g *Group) Rejected(ctx context.Context, worker string) ([]console.RejectedEvent, error) {
	var found struct{ Events []console.RejectedEvent }
	err := g.ask(ctx, worker, "/api/rejected", "", struct{}{}, &found)
	return found.Events, err
}

// ask sends a POST to the worker with this address, by whom is for its log and page, and decodes
// the response. A nil body is none: it is a command, not a question.
func (g *Group) ask(ctx context.Context, worker, path, by string, body, response any) error {
	row, ok := g.row(worker)
	switch {
	case !ok:
		return &respond.Error{Status: http.StatusNotFound,
			Text: "there is no worker with this address"}
	case g.ReadOnly && body == nil:
		return &respond.Error{Status: http.StatusForbidden, Text: "this console is read-only"}
	case !reachable(row):
		return &respond.Error{Status: http.StatusConflict, Text: "this console reaches only " +
			"workers of its own machine that respond: use the command on the worker's machine"}
	}
	text := ""
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = string(encoded)
	}
	ctx, cancel := context.WithTimeout(ctx, console.AdminTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+worker+path,
		strings.NewReader(text))
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if !g.Token.IsZero() { // without one the worker would take the name for a proxy's
		request.Header.Set("Authorization", "Bearer "+g.Token.Reveal())
		request.Header.Set("X-Forwarded-User", by)
	}
	if err := g.send(request, response); err != nil {
		return fmt.Errorf("the worker at %s: %w", worker, err)
	}
	return nil
}

// send sends the request and decodes a successful response.
func (g *Group) send(request *http.Request, into any) error {
	response, err := g.scraper.http.Do(request)
	if err != nil {
		if failure, ok := errors.AsType[*url.Error](err); ok {
			err = failure.Err // the URL has the reason of a pause
		}
		return fmt.Errorf("no response: %w; a command may have been executed, and repeating it does "+
			"no harm", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxForwarded+1))
	switch {
	case err != nil || len(text) > maxForwarded:
		return fmt.Errorf("its response is cut off, or longer than %d KiB", maxForwarded>>10)
	case response.StatusCode == http.StatusUnauthorized:
		return errors.New("it refuses this console's token: both need the same " +
			"MARKREAD_ADMIN_TOKEN")
	case response.StatusCode == http.StatusForbidden && !g.Token.IsZero():
		return errors.New("it has no MARKREAD_ADMIN_TOKEN, and this console has one: both need the " +
			"same")
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("HTTP %d: %s", response.StatusCode, printable.Truncate(printable.Line(
			imclient.NewMask(g.Token)(strings.TrimSpace(string(text)))), maxReason))
	case json.Unmarshal(text, into) != nil:
		return errors.New("its response is not a markread worker's")
	}
	return nil
}

// Conversation implements console.Workers. Without a worker it asks the owner of the partition to
// which the recommended key leads, if that is on this machine.
func (g *Group) Conversation(ctx context.Context, worker, report,
	peer string) (console.Conversation, error) {
	c := console.Conversation{}
	address := worker
	if worker == "" {
		c, address = g.owner(report, peer)
	}
	if address != "" {
		var known console.Conversation
		err := g.ask(ctx, address, "/api/conversation", "",
			map[string]string{"report": report, "peer": peer}, &known)
		switch {
		case err == nil:
			c.Here, c.Waiting, c.Applied, c.Note = known.Here, known.Waiting, known.Applied, known.Note
		case worker != "":
			return c, err
		default:
			c.Note = err.Error() // the rest is known nevertheless
		}
		if worker != "" {
			c.Partition, c.Owner = known.Partition, worker
		}
	}
	if g.Command != nil {
		c.Command = g.Command(report, peer)
	}
	letters, err := g.Letters(ctx, report, peer)
	if err != nil { // the rest is known nevertheless
		c.Note = strings.TrimPrefix(c.Note+"; its dead letters can't be read: "+lineOf(err), "; ")
		return c, nil
	}
	c.Letters = letters
	return c, nil
}

// owner returns the partition and the owner of a conversation, and the owner's address if it can be
// asked; otherwise the note says why not.
func (g *Group) owner(report, peer string) (c console.Conversation, address string) {
	g.mu.Lock()
	rows, view := g.rows, g.view
	g.mu.Unlock()
	if view == nil || view.lag == nil || view.lag.Topics[0].Topic != g.Topics.Live {
		c.Note = "the partitions of topic " + g.Topics.Live + " can't be read from Kafka, so the " +
			"conversation's worker is not known"
		return c, ""
	}
	topic := view.lag.Topics[0]
	number := kafkaclient.PartitionOf(event.Key(report, peer), len(topic.Partitions))
	c.Partition = &console.ConversationPartition{Topic: topic.Topic, Partition: number}
	member := topic.Partitions[number].Member
	if member == nil {
		c.Note = "no worker has this partition now"
		return c, ""
	}
	c.Owner = *member
	for _, row := range rows {
		if row.Member != *member {
			continue
		}
		if c.Owner = row.Name; reachable(row) {
			return c, row.Address
		}
	}
	c.Note = "what waits is known only to that worker: see its own console"
	return c, ""
}
