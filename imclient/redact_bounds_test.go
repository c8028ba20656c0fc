package imclient_test

import (
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"

	"markread/imclient"
)

// messageOf returns what an error shows of a response that is not the API's.
func messageOf(t *testing.T, body string) string {
	t.Helper()
	// The first call makes the signature, and so adds the key to the redactor.
	c := offlineClient(t, always(502, nil, body))
	var e *imclient.Error
	if err := c.MarkRead(t.Context(), validRead); !errors.As(err, &e) {
		t.Fatal(err)
	}
	return e.Message
}

// Only the beginning of a response is searched for secrets. Of a secret that extends beyond that
// part, no 12 consecutive bytes are shown, in whatever form.
func TestSecretsAcrossTheSearchLimit(t *testing.T) {
	h := newSecretScanner(canary)
	h.fragments = slices.DeleteFunc(h.fragments, func(piece string) bool { return len(piece) < 12 })
	for i := range len(canary) - 11 {
		h.fragments = append(h.fragments, canary[i:i+12])
	}
	forms := map[string]func(string) string{
		"plain": func(s string) string { return s }, "entities": entities, "JSON": entitiesJSON,
		"entities, twice": func(s string) string { return entities(entities(s)) },
		"entities, query": func(s string) string { return url.QueryEscape(entities(s)) },
	}
	for name, encode := range encodings {
		forms[name] = encode
	}
	const searched = 200 + 4<<10
	for name, form := range forms {
		secret := form(canary)
		for pad := searched - len(secret) - 2; pad <= searched; pad += 17 {
			body := strings.Repeat("\n", pad) + secret + strings.Repeat(" and more", 1000)
			got := messageOf(t, body)
			if piece, found := h.find(got); found || strings.Contains(got, "more") &&
				!strings.HasPrefix(got, "[secret]") {
				t.Fatalf("%s behind %d spaces: %q is in %q", name, pad, piece, got)
			}
		}
	}
}

// A long response is shown as if all of it were searched.
func TestLongResponseIsShown(t *testing.T) {
	tail := strings.Repeat("x", 50<<10)
	const both = "http://user:pass@h/ " + canary + "/no luck "
	for body, want := range map[string]string{
		"no luck " + tail: "no luck ",
		strings.Repeat("\r\n", 500) + "no luck " + tail: "no luck ",
		strings.Repeat(canary+" ", 22) + "no " + tail:   strings.Repeat("[secret] ", 22),
		both + tail: "http://[secret]@h/ [secret]/no luck ",
	} {
		if got := messageOf(t, body); !strings.HasPrefix(got, want) || len(got) != 200 {
			t.Errorf("%.60q: %q, want %q", body, got, want)
		}
	}
}

// A long response is not searched for secrets if the caller does not read the body: the search
// takes many times its size.
func TestUnreadBodiesAreNotSearched(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 4<<10) // could be hexadecimal or base64 of anything
	c := offlineClient(t,
		withTransport(func(*http.Request) (*http.Response, error) {
			return respond(502, nil, body)
		}))
	_ = c.MarkRead(t.Context(), validRead) // makes the signature
	var before, after runtime.MemStats
	const calls = 10
	runtime.ReadMemStats(&before)
	for range calls {
		if err := c.MarkRead(t.Context(), validRead); err == nil {
			t.Fatal("no error")
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / calls; each > 512<<10 {
		t.Errorf("%d bytes allocated for a response of %d", each, len(body))
	}
}

// BenchmarkErrorPage compares a call whose body nobody reads with one whose body is masked.
func BenchmarkErrorPage(b *testing.B) {
	body := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB, of which 64 KiB are read
	c := offlineClient(b,
		withTransport(func(*http.Request) (*http.Response, error) {
			return respond(502, nil, body)
		}))
	b.Run("unread", func(b *testing.B) {
		for b.Loop() {
			_ = c.MarkRead(b.Context(), validRead)
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, _ = c.Post(b.Context(), imclient.CommandMarkRead, validRead)
		}
	})
}
