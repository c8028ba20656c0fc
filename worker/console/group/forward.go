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

	"markread/consumer/printable"
	"markread/worker/console"
)

// Commands and questions are forwarded to a worker only if it is on this machine: elsewhere the
// token would cross the network without TLS. For another worker the page shows the command.

// maxForwarded bounds the bytes of a worker's response.
const maxForwarded = 256 << 10

// A ForwardError is a failed command or question. Status is the HTTP status for the page.
type ForwardError struct {
	Status int
	Text   string
}

func (e *ForwardError) Error() string { return e.Text }

// Pause holds the calls of the worker with this address. by is who asks, and why is their reason.
func (g *Group) Pause(ctx context.Context, worker, by, why string) error {
	options := url.Values{}
	if why != "" {
		options.Set("reason", why)
	}
	_, err := g.ask(ctx, worker, "/api/pause", options, by, nil)
	return err
}

// Resume ends the worker's pause and, with acceptRejections, its holds for rejections.
func (g *Group) Resume(ctx context.Context, worker, by string, acceptRejections bool) error {
	options := url.Values{}
	if acceptRejections {
		options.Set("accept-rejections", "true")
	}
	_, err := g.ask(ctx, worker, "/api/resume", options, by, nil)
	return err
}

// Rejected returns the worker's response to /api/rejected: its newest rejected events.
func (g *Group) Rejected(ctx context.Context, worker string) (json.RawMessage, error) {
	return g.ask(ctx, worker, "/api/rejected", nil, "", map[string]string{})
}

// ask sends a POST to the worker with this address, and returns the body of its response. A nil
// body is no body. Its errors are *ForwardErrors.
func (g *Group) ask(ctx context.Context, worker, path string, options url.Values, by string,
	body any) (json.RawMessage, error) {
	row, ok := g.row(worker)
	switch {
	case !ok:
		return nil, &ForwardError{http.StatusNotFound, "there is no worker with this address"}
	case !row.Controllable:
		return nil, &ForwardError{http.StatusConflict, "this console can't reach that worker's " +
			"admin server safely: use the command on its machine"}
	}
	client, err := console.NewClient("http://"+row.Address, g.Token)
	if err != nil {
		return nil, &ForwardError{http.StatusBadGateway, err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, console.AdminTimeout)
	defer cancel()
	to := client.Base + path
	if len(options) > 0 {
		to += "?" + options.Encode()
	}
	text := ""
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = string(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Accept", "application/json")
	if !g.Token.IsZero() { // a worker without a token believes nobody
		request.Header.Set("Authorization", "Bearer "+g.Token.Reveal())
		if by != "" {
			request.Header.Set("X-Forwarded-User", by)
		}
	}
	return forward(client.HTTP, request)
}

// forward sends the request and returns the body of a successful response.
func forward(client *http.Client, request *http.Request) (json.RawMessage, error) {
	response, err := client.Do(request)
	if err != nil {
		if failure, ok := errors.AsType[*url.Error](err); ok {
			err = failure.Err // the URL has the reason
		}
		return nil, &ForwardError{http.StatusBadGateway, fmt.Sprintf("the worker at %s does not "+
			"respond: %s; a command may have been executed", request.URL.Host, printable.Line(err.Error()))}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxForwarded+1))
	switch {
	case err != nil || len(text) > maxForwarded:
		return nil, &ForwardError{http.StatusBadGateway, fmt.Sprintf("the response of the worker "+
			"at %s is cut off, or has more than %d KiB", request.URL.Host, maxForwarded>>10)}
	case response.StatusCode == http.StatusUnauthorized:
		return nil, &ForwardError{http.StatusBadGateway, fmt.Sprintf("the worker at %s refuses "+
			"this console's token; both need the same MARKREAD_ADMIN_TOKEN", request.URL.Host)}
	case response.StatusCode != http.StatusOK:
		return nil, &ForwardError{http.StatusBadGateway, fmt.Sprintf("the worker at %s responds "+
			"with HTTP %d: %s", request.URL.Host, response.StatusCode,
			printable.Truncate(printable.Line(strings.TrimSpace(string(text))), maxReason))}
	case !json.Valid(text):
		return nil, &ForwardError{http.StatusBadGateway, fmt.Sprintf("the response of the worker "+
			"at %s is not JSON", request.URL.Host)}
	}
	return text, nil
}
