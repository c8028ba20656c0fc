package config

import (
	"net/url"
	"strings"
	"time"

	"markread/imclient"
)

// IMFlags configures calls of the API.
type IMFlags struct {
	IMURL      string `name:"im-url" default:"https://console.tim.qq.com" help:"im_url_help"`
	IMInsecure bool   `name:"im-insecure" help:"Allow --im-url without TLS to another machine."`
	IMAppID    int64  `name:"im-app-id" required:"" placeholder:"ID" help:"SDKAppID; its key is MARKREAD_IM_KEY."`
	IMAdmin    string `name:"im-admin" default:"administrator" help:"Account of an app administrator."`

	IMTimeout time.Duration `name:"im-timeout" default:"5s" help:"Timeout of a call, above the server's own 3 s."`
}

// Check checks the flags, and replaces a region in IMURL by its URL.
func (f *IMFlags) Check() error {
	full, err := imclient.RegionURL(f.IMURL)
	if err != nil {
		return Usagef("--im-url: %v", err)
	}
	f.IMURL = full
	switch u, err := url.Parse(full); {
	case err == nil && strings.HasPrefix(u.Path+"/", "/v4/"): // as in the vendor's examples
		return Usagef("--im-url %s: omit /v4, it is added to every call", full)
	case strings.HasPrefix(full, "http:") && !f.Local() && !f.IMInsecure:
		return Usagef("--im-url %s: without TLS everybody on the way can read the signature; use "+
			"https, or --im-insecure if you mean it", full)
	case f.IMAppID <= 0:
		return Usagef("--im-app-id must be positive, not %d", f.IMAppID)
	case f.IMAdmin == "":
		return Usagef("--im-admin must not be empty")
	case f.IMTimeout <= 3*time.Second:
		return Usagef("--im-timeout %s: must be more than 3s, the server's own limit", f.IMTimeout)
	case f.IMTimeout > 11*time.Second:
		return Usagef("--im-timeout %s: must be at most 11s, so that a call ends within the "+
			"group's session", f.IMTimeout)
	}
	return nil
}

// Local reports whether the calls stay on this machine.
func (f *IMFlags) Local() bool {
	u, err := url.Parse(f.IMURL)
	return err == nil && imclient.IsLoopback(u.Hostname())
}

// Client returns a client of the API. conns is the number of idle connections that it keeps.
func (f *IMFlags) Client(env Environment, conns int) (*imclient.Client, error) {
	key, err := env.Key()
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, Usagef("the key of --im-app-id %d is missing: set %s or %s_FILE", f.IMAppID,
			IMKey, IMKey)
	}
	client, err := imclient.New(imclient.Options{BaseURL: f.IMURL,
		AppID: f.IMAppID, Admin: f.IMAdmin, Key: key, Timeout: f.IMTimeout, MaxConns: conns})
	if err != nil {
		return nil, &UsageError{err.Error()} // it names the flag
	}
	return client, nil
}
