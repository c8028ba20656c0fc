package console

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"markread/imclient"
	"markread/worker/format"
)

const (
	// AdminTimeout is the time limit of one command; a worker responds in milliseconds.
	AdminTimeout     = 10 * time.Second
	maxAdminResponse = 4 << 20 // bytes: a wrong URL may lead anywhere
)

// Client sends commands to the admin server of one worker.
type Client struct {
	Base  string
	Token imclient.Secret
	// masks text from outside, which may quote the token or a proxy's password
	mask func(string) string
	HTTP *http.Client
}

// NewClient returns a client for the worker whose admin server has the given URL. Its errors don't
// quote a URL that may contain a password.
func NewClient(given string, token imclient.Secret) (*Client, error) {
	u, err := url.Parse(given)
	switch {
	case strings.Contains(given, "@"):
		return nil, errors.New("--admin-url must not contain a user or a password; the token is " +
			tokenVariable)
	case !strings.Contains(given, "://"):
		// not quoted: it may be the token
		return nil, errors.New("--admin-url must be a URL such as http://127.0.0.1:8780")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return nil, fmt.Errorf("--admin-url %q is not a URL such as http://127.0.0.1:8780", given)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("--admin-url must end with the host and the port; the token is " +
			tokenVariable)
	}
	base := strings.TrimRight(u.String(), "/")
	if !token.IsZero() && u.Scheme == "http" && !imclient.IsLoopback(u.Hostname()) {
		return nil, fmt.Errorf("--admin-url %s: without TLS anybody on the network path can read "+
			"the token (%s); use https, or a tunnel from this machine (kubectl port-forward, "+
			"ssh -L)", base, tokenVariable)
	}
	return &Client{Base: base, Token: token, mask: imclient.NewMask(token), HTTP: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		// A server that redirects is not the worker, and the token is for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}, nil
}

// tokenVariable is the environment variable from which markread's programs read the token.
const tokenVariable = "MARKREAD_ADMIN_TOKEN"

// Readiness is the body of /readyz, and the response to an operator's command.
type Readiness struct {
	Ready *bool        `json:"ready"`
	Held  []ActiveHold `json:"held"`
}

// ActiveHold is one hold.
type ActiveHold struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

func (h ActiveHold) String() string {
	return fmt.Sprintf("%.50s since %s", format.Line(h.Reason), format.Time(h.Since))
}

// Pause pauses the worker. why is the reason; "": none. Its errors explain why the worker can't be
// reached.
func (c *Client) Pause(ctx context.Context, why string) (Readiness, error) {
	path := "/api/pause"
	if why != "" {
		path += "?" + url.Values{"reason": {why}}.Encode()
	}
	return c.readiness(ctx, http.MethodPost, path)
}

// Resume ends the worker's pause and, with acceptRejections, its holds for rejections.
func (c *Client) Resume(ctx context.Context, acceptRejections bool) (Readiness, error) {
	path := "/api/resume"
	if acceptRejections {
		path += "?accept-rejections=true"
	}
	return c.readiness(ctx, http.MethodPost, path)
}

// Readiness returns whether the worker is ready, and its holds.
func (c *Client) Readiness(ctx context.Context) (Readiness, error) {
	return c.readiness(ctx, http.MethodGet, "/readyz")
}

func (c *Client) readiness(ctx context.Context, method, path string) (Readiness, error) {
	// /readyz of a worker that is not ready is a 503
	body, err := c.fetch(ctx, method, path, method == http.MethodGet)
	if err != nil {
		return Readiness{}, err
	}
	var now Readiness
	if json.Unmarshal(body, &now) != nil || now.Ready == nil || now.Held == nil {
		return Readiness{}, c.notAWorker()
	}
	for i, h := range now.Held {
		now.Held[i].Reason = c.mask(h.Reason)
	}
	return now, nil
}

// notAWorker is the error for a response that no worker sends.
func (c *Client) notAWorker() error {
	return fmt.Errorf("the server at %s is not a markread worker; is --admin-url correct?", c.Base)
}

// fetch returns the body of a successful response, or, if unavailable is set, also of a 503.
func (c *Client) fetch(ctx context.Context, method, path string, unavailable bool) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, AdminTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, method, c.Base+path, nil)
	if err != nil {
		return nil, err
	}
	if !c.Token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, c.transportError(ctx, limited, method, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAdminResponse))
	if err != nil {
		return nil, c.transportError(ctx, limited, method, err)
	}
	if response.StatusCode != http.StatusOK &&
		!(unavailable && response.StatusCode == http.StatusServiceUnavailable) {
		path, _, _ = strings.Cut(path, "?") // the options are not the path's fault
		return nil, c.statusError(response, path, string(body))
	}
	return body, nil
}

// transportError explains a request without a response. Only POST changes anything.
func (c *Client) transportError(ctx, limited context.Context, method string, err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err // our text has the URL
	}
	uncertain, uncertainDo := "", ""
	if method == http.MethodPost {
		uncertain = "; the command may have been applied"
		uncertainDo = " The command may have been applied; repeating it does no harm"
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted" + uncertain)
	case limited.Err() != nil:
		return fmt.Errorf("no response from %s within %s; is --admin-url correct?%s", c.Base,
			AdminTimeout, uncertainDo)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no worker listens at %s; is --admin-url correct?", c.Base)
	default:
		return fmt.Errorf("the request to %s failed: %s; is --admin-url correct?", c.Base,
			c.mask(err.Error()))
	}
}

// statusError explains an unsuccessful response. It interprets a response only if it is in our
// admin server's own form; there may be a gateway in front of it.
func (c *Client) statusError(response *http.Response, path, body string) error {
	ours := strings.HasPrefix(body, fmt.Sprintf("%d: ", response.StatusCode))
	switch {
	case ours && response.StatusCode == http.StatusUnauthorized && c.Token.IsZero():
		return fmt.Errorf("the worker at %s requires its token: set %s or %s_FILE", c.Base,
			tokenVariable, tokenVariable)
	case ours && response.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the worker at %s refuses the token in %s; is it this worker's?", c.Base,
			tokenVariable)
	case ours && response.StatusCode == http.StatusForbidden:
		return fmt.Errorf(
			"the worker at %s has no %s, so it accepts commands from its own machine "+
				"only: run them there (kubectl exec), or through a tunnel (kubectl port-forward, "+
				"ssh -L)", c.Base, tokenVariable)
	case ours && response.StatusCode == http.StatusBadRequest:
		return fmt.Errorf("the worker at %s rejected the command: %.200s", c.Base,
			c.mask(strings.TrimPrefix(body, "400: ")))
	case response.StatusCode == http.StatusNotFound ||
		response.StatusCode == http.StatusMethodNotAllowed:
		return fmt.Errorf("%s has no %s: it is another program, a group's console, or an older "+
			"markread; is --admin-url correct? It must be the address of a worker's admin server, "+
			"without a path", c.Base, path)
	case response.StatusCode/100 == 3:
		return fmt.Errorf("%s redirects elsewhere (HTTP %d); use the address it redirects to as "+
			"--admin-url", c.Base, response.StatusCode)
	default:
		return fmt.Errorf("%s responds with HTTP %d, which no worker does; is --admin-url correct?",
			c.Base, response.StatusCode)
	}
}

// State returns the worker's whole state. Its texts are sanitized: anything may listen at the URL.
func (c *Client) State(ctx context.Context) (s State, err error) {
	body, err := c.fetch(ctx, http.MethodGet, "/api/state", false)
	if err != nil {
		return s, err
	}
	if json.Unmarshal(body, &s) != nil || s.Held == nil || s.Partitions == nil {
		return s, c.notAWorker()
	}
	clean := func(text string) string { return format.Line(c.mask(text)) }
	s.Group.Name = clean(s.Group.Name)
	if s.Group.Member != nil {
		s.Group.Member = new(clean(*s.Group.Member))
	}
	for i := range s.Held {
		h := &s.Held[i]
		h.Reason, h.Detail, h.Do = clean(h.Reason), clean(h.Detail), clean(h.Do)
	}
	for i := range s.Partitions {
		s.Partitions[i].Topic = clean(s.Partitions[i].Topic)
		if u := s.Partitions[i].Unreadable; u != nil {
			u.Reason = format.Plain([]byte(c.mask(u.Reason)))
		}
	}
	return s, nil
}

// DialAddr returns the address at which this machine reaches a listener on addr: 0.0.0.0 and ::
// mean all addresses when listening, and can't be dialed.
func DialAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return addr
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// HeldForRejections reports whether a lane is held for rejections.
func (h Readiness) HeldForRejections() bool {
	return slices.ContainsFunc(h.Held,
		func(held ActiveHold) bool { return held.Reason == "rejections" })
}

// Paused returns the operator's hold (nil: none) and the other holds.
func (h Readiness) Paused() (mine *ActiveHold, others []ActiveHold) {
	for _, held := range h.Held {
		if held.Reason == "paused" {
			mine = &held
		} else {
			others = append(others, held)
		}
	}
	return mine, others
}
