package imclient

import (
	"net"
	"net/netip"
	"strings"
)

// IsLoopback reports whether host, with or without a port, as in a URL or a Host header, is this
// machine. Requests to it need no TLS, and requests from it need no token.
func IsLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
