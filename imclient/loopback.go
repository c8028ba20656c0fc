package imclient

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// IsLoopback reports whether host, with or without a number as its port, as in a URL or a Host header, is this
// machine. Requests to it need no TLS, and requests from it need no token.
func IsLoopback(host string) bool {
	if name, port, err := net.SplitHostPort(host); err == nil {
		// "localhost:80@example.com" is not this machine to a program that reads it as a URL
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
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
