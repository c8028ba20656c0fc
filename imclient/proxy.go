package imclient

import (
	"encoding/base64"
	"net/url"
	"os"
	"strings"
)

// minPassword is the shortest password of a proxy that is removed from texts: a shorter one occurs
// in any text by chance.
const minPassword = 4

// proxyPasswords returns the passwords in the addresses of the environment's proxies, as written
// there and as sent. It does not parse the addresses, because the error about a malformed one
// quotes it.
func proxyPasswords() []string {
	var passwords []string
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		address := os.Getenv(name)
		at := strings.LastIndexByte(address, '@')
		if at < 0 {
			continue
		}
		user := address[:at]
		if _, rest, found := strings.Cut(user, "://"); found {
			user = rest
		}
		_, password, _ := strings.Cut(user, ":")
		if len(password) < minPassword {
			continue
		}
		passwords = append(passwords, password)
		if plain, err := url.PathUnescape(user); err == nil {
			_, password, _ := strings.Cut(plain, ":")
			basic := base64.StdEncoding.EncodeToString([]byte(plain)) // in Proxy-Authorization
			passwords = append(passwords, password, basic)
		}
	}
	return passwords
}
