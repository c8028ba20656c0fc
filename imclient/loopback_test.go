package imclient

import "testing"

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "localhost:80": true, "127.0.0.1": true,
		"127.1.2.3:65535": true, "::1": true, "[::1]": true, "[::1]:8780": true,
		"": false, ":80": false, "localhost.": false, "localhost.example.com": false,
		"10.0.0.1": false, "10.0.0.1:80": false, "0.0.0.0": false, "[::]:80": false,
		"localhost:": false, "localhost:80@example.com": false, "127.0.0.1:http": false,
		"localhost:-80": false, "localhost:65536": false, "127.0.0.1@example.com": false,
		"user@localhost": false, "localhost/": false,
	} {
		if IsLoopback(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}
