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
	// AdminTimeout is the limit of one command; a worker answers in milliseconds.
	AdminTimeout     = 10 * time.Second
	maxAdminResponse = 4 << 20 // bytes: a wrong URL may lead to anything
)

// Client sends commands to the admin server of one worker.
type Client struct {
	Base  string
	Token imclient.Secret
	// for what came from outside: it may quote the token, or a proxy's password
	mask func(string) string
	HTTP *http.Client
}

// NewClient makes a client for the worker whose admin server has the URL. Its errors don't quote
// the URL where there may be a password in it.
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
		return nil, fmt.Errorf("--admin-url %s: without TLS everybody on the way can read the "+
			"token (%s); use https, or a tunnel from this machine "+
			"(kubectl port-forward, ssh -L)", base, tokenVariable)
	}
	return &Client{Base: base, Token: token, mask: imclient.NewMask(token), HTTP: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		// What answers with a redirect is not the worker, and the token is for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}, nil
}

// tokenVariable is where programs of ours have the token from.
const tokenVariable = "MARKREAD_ADMIN_TOKEN"

// HeldNow is the body of /readyz, and the answer to an operator's command.
type Readiness struct {
	Ready *bool        `json:"ready"`
	Held  []ActiveHold `json:"held"`
}

// HeldFor is one hold.
type ActiveHold struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

func (h ActiveHold) String() string {
	return fmt.Sprintf("%.50s since %s", format.Line(h.Reason), format.Time(h.Since))
}

// Command sends one. Its errors say what is wrong with the way to the worker.
func (c *Client) Command(ctx context.Context, path string) (Readiness, error) {
	return c.readiness(ctx, http.MethodPost, path)
}

// Held asks what holds the worker.
func (c *Client) Readiness(ctx context.Context) (Readiness, error) {
	return c.readiness(ctx, http.MethodGet, "/readyz")
}

func (c *Client) readiness(ctx context.Context, method, path string) (Readiness, error) {
	// /readyz of a worker that is not ready
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

// noWorker explains an answer that is no worker's.
func (c *Client) notAWorker() error {
	return fmt.Errorf("what answers at %s is no worker; is --admin-url right?", c.Base)
}

// body returns what is answered with success; unavailable: or with a 503.
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
		return nil, c.statusError(response, path, string(body))
	}
	return body, nil
}

// unreached explains a request without an answer. Only what is sent with POST does something.
func (c *Client) transportError(ctx, limited context.Context, method string, err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err // the URL is in our text
	}
	uncertain, uncertainDo := "", ""
	if method == http.MethodPost {
		uncertain = "; the command may have been done"
		uncertainDo = " The command may have been done; to give it again does no harm"
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted" + uncertain)
	case limited.Err() != nil:
		return fmt.Errorf("no answer from %s within %s; is --admin-url right?%s", c.Base,
			AdminTimeout, uncertainDo)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no worker listens at %s; is --admin-url right?", c.Base)
	default:
		return fmt.Errorf("%s can't be asked: %s; is --admin-url right?", c.Base,
			c.mask(err.Error()))
	}
}

// refused explains an answer that is no success. Only what our own admin server says of itself is
// taken for its word; there may be a gateway before it.
func (c *Client) statusError(response *http.Response, path, body string) error {
	ours := strings.HasPrefix(body, fmt.Sprintf("%d: ", response.StatusCode))
	switch {
	case ours && response.StatusCode == http.StatusUnauthorized && c.Token.IsZero():
		return fmt.Errorf("the worker at %s wants its token: set %s or %s_FILE", c.Base,
			tokenVariable, tokenVariable)
	case ours && response.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the worker at %s refuses the token in %s; is it this worker's?", c.Base,
			tokenVariable)
	case ours && response.StatusCode == http.StatusForbidden:
		return fmt.Errorf("the worker at %s has no %s, so it takes commands from its own machine "+
			"only: give them there (kubectl exec), or through a tunnel (kubectl port-forward, "+
			"ssh -L)", c.Base, tokenVariable)
	case ours && response.StatusCode == http.StatusBadRequest:
		return fmt.Errorf("the worker at %s does not understand the command: %.200s", c.Base,
			c.mask(strings.TrimPrefix(body, "400: ")))
	case response.StatusCode == http.StatusNotFound ||
		response.StatusCode == http.StatusMethodNotAllowed:
		return fmt.Errorf("%s has no %s: it is another program, or an older markread; is "+
			"--admin-url right? It must be the address alone, without a path", c.Base, path)
	case response.StatusCode/100 == 3:
		return fmt.Errorf("%s sends elsewhere (HTTP %d); use the address that it sends to as "+
			"--admin-url", c.Base, response.StatusCode)
	default:
		return fmt.Errorf("%s answers with HTTP %d, as no worker does; is --admin-url right?",
			c.Base, response.StatusCode)
	}
}

// State asks a worker for all that it shows. What it says is cleaned: there may be anything at the
// URL.
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

// Reachable is how this machine reaches an address that is listened on: 0.0.0.0 and :: are all
// addresses, and none to call.
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

// Rejections says whether a lane is held for them.
func (h Readiness) HeldForRejections() bool {
	return slices.ContainsFunc(h.Held,
		func(held ActiveHold) bool { return held.Reason == "rejections" })
}

// Paused returns the operator's hold, nil if there is none, and the others.
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
