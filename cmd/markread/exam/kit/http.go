//go:build exam && unix

package kit

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// HTTP is the client of the exam. It ignores proxies in the environment.
var HTTP = &http.Client{Timeout: 10 * time.Second,
	Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}}

// TryGet is Get for a caller that handles the status and the error.
func TryGet(at string) (int, string, error) {
	res, err := HTTP.Get(at)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// Get returns a page of a process of the exam.
func Get(t *testing.T, at string) string {
	t.Helper()
	status, body, err := TryGet(at)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: %d %v", at, status, err)
	}
	return body
}

// GetJSON decodes a page of a process of the exam.
func GetJSON[T any](t *testing.T, at string) (out T) {
	t.Helper()
	if body := Get(t, at); json.Unmarshal([]byte(body), &out) != nil {
		t.Fatalf("GET %s: not the expected JSON: %s", at, body)
	}
	return out
}

// getStream decodes a page that is a sequence of JSON values.
func getStream[T any](t *testing.T, at string) (out []T) {
	t.Helper()
	for dec := json.NewDecoder(strings.NewReader(Get(t, at))); dec.More(); {
		var value T
		if err := dec.Decode(&value); err != nil {
			t.Fatalf("GET %s: %v", at, err)
		}
		out = append(out, value)
	}
	return out
}

// put sends a PUT request to a process of the exam, and requires its success.
func put(t *testing.T, at, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode/100 != 2 {
		t.Fatalf("PUT %s: %s", at, res.Status)
	}
}
