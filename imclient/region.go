package imclient

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// regions are the hosts of the data centres, by markread's names, as in the vendor's introduction
// to the REST API (tencentcloud.com/document/product/1047/34620).
var regions = []struct{ name, host string }{
	{"china", "console.tim.qq.com"},
	{"singapore", "adminapisgp.im.qcloud.com"},
	{"seoul", "adminapikr.im.qcloud.com"},
	{"tokyo", "adminapijpn.im.qcloud.com"},
	{"frankfurt", "adminapiger.im.qcloud.com"},
	{"silicon-valley", "adminapiusa.im.qcloud.com"},
	{"jakarta", "adminapiidn.im.qcloud.com"},
}

// Regions returns the names that RegionURL accepts.
func Regions() []string {
	names := make([]string, len(regions))
	for i, region := range regions {
		names[i] = region.name
	}
	return names
}

// RegionURL returns the base URL of a region, given by its name, or the given URL without trailing
// slashes. A URL must be http or https, with a host, and must end with its path. RegionURL does not
// check whether plain http is safe for that host.
func RegionURL(nameOrURL string) (string, error) {
	for _, region := range regions {
		if nameOrURL == region.name {
			return "https://" + region.host, nil
		}
	}
	if !strings.Contains(nameOrURL, "://") {
		// Not quoted: it may contain a password.
		return "", fmt.Errorf("it is neither a URL (https://…) nor one of the regions %s",
			strings.Join(Regions(), ", "))
	}
	base, err := parseBase(nameOrURL)
	if err != nil {
		return "", err
	}
	return base.String(), nil
}

// parseBase parses a base URL. Its errors don't quote the URL, which may contain a password.
func parseBase(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the URL can't be parsed")
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, errors.New("the URL must begin with https:// or http://")
	case base.Hostname() == "":
		return nil, errors.New("the URL has no host")
	case base.User != nil:
		return nil, errors.New("the URL must not contain a user or a password")
	case base.RawQuery != "" || base.ForceQuery || strings.Contains(text, "#"):
		return nil, errors.New("the URL must end with its path: no query, no fragment")
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = ""
	return base, nil
}
