package imclient_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
)

// expectKeyChanged fails the test unless KeyChanged returns want, twice: calling it must not change
// the result.
func expectKeyChanged(t *testing.T, c *imclient.Client, want bool, when string) {
	t.Helper()
	for range 2 {
		if c.KeyChanged() != want {
			t.Errorf("%s: KeyChanged is %v", when, !want)
		}
	}
}

// expectCall makes a call and expects the signature with this number and a result with this label.
func (o *signatureServer) expectCall(t *testing.T, c *imclient.Client, number int, label string) {
	t.Helper()
	time.Sleep(2 * time.Second) // signatures differ by their second
	if got := call(t, c); got != label || o.calls[len(o.calls)-1] != number {
		t.Errorf("%q with signature %d, want %q with %d", got, o.calls[len(o.calls)-1], label,
			number)
	}
}

// A refusal unrelated to the signature keeps it; the call after a change of the key nevertheless
// uses the new key.
func TestNewKeyIsDetectedAndUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: "one", codes: map[int]int{0: 60010, 1: 60010, 2: 0}}
		c := o.client(t)
		expectKeyChanged(t, c, false, "before the first call")
		o.expectCall(t, c, 0, "60010")
		expectKeyChanged(t, c, false, "the same key")
		o.key = "two"
		expectKeyChanged(t, c, true, "another key")
		o.key = "one"
		expectKeyChanged(t, c, false, "and back again")
		o.expectCall(t, c, 0, "60010")
		o.key = "one and more"
		expectKeyChanged(t, c, true, "a key that begins alike")
		o.expectCall(t, c, 1, "60010")
		expectKeyChanged(t, c, false, "after the call")
		reads := o.keyReads
		o.expectCall(t, c, 1, "60010")
		if o.keyReads != reads {
			t.Error("a call read the key although it had not changed")
		}
	})
}

func TestKeyReadableAgainIsDetected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{keyErr: errors.New("no such file")}
		c := o.client(t)
		expectKeyChanged(t, c, false, "before the first call")
		if got := call(t, c); got != "key" {
			t.Error(got)
		}
		expectKeyChanged(t, c, false, "still unreadable")
		o.keyErr = nil
		expectKeyChanged(t, c, false, "readable, but empty")
		o.key = canary
		expectKeyChanged(t, c, true, "readable")
		o.expectCall(t, c, 0, "ok")
		expectKeyChanged(t, c, false, "after the call")

		// At the renewal the key is unreadable, and the signature stays in use. When the same key
		// is readable again, it is used before the renewal's own next retry.
		o.keyErr = errors.New("gone again")
		time.Sleep(13 * time.Hour)
		o.expectCall(t, c, 0, "ok")
		expectKeyChanged(t, c, false, "gone again")
		o.keyErr = nil
		expectKeyChanged(t, c, true, "back again")
		o.expectCall(t, c, 1, "ok")
		expectKeyChanged(t, c, false, "renewed")
	})
}

// The key changed, and is then unreadable: the current signature stays in use.
func TestUnreadableNewKeyKeepsTheSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: "one"}
		c := o.client(t)
		o.expectCall(t, c, 0, "ok")
		o.key = "two"
		expectKeyChanged(t, c, true, "another key")
		o.keyErr = errors.New("being written")
		o.expectCall(t, c, 0, "ok")
		reads := o.keyReads
		o.expectCall(t, c, 0, "ok")
		if o.keyReads != reads {
			t.Error("every call reads the unreadable key")
		}
		expectKeyChanged(t, c, false, "being written")
		o.keyErr = nil
		expectKeyChanged(t, c, true, "written")
		o.expectCall(t, c, 1, "ok")
	})
}

// A second consecutive refusal is final, unless the key has changed since.
func TestRefusalWithOldKeyIsRetriedWithNewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: "one", codes: map[int]int{0: 70009, 1: 70009, 2: 70009}}
		c := o.client(t)
		o.expectCall(t, c, 0, "70009+")
		o.expectCall(t, c, 1, "70009")
		expectKeyChanged(t, c, false, "refused, the same key")
		o.expectCall(t, c, 2, "70009")
		o.key = "two"
		expectKeyChanged(t, c, true, "refused, another key")
		o.expectCall(t, c, 3, "ok")
	})
	synctest.Test(t, func(t *testing.T) { // detected while a call is in flight
		o := &signatureServer{key: "one", codes: map[int]int{0: 70009, 1: 70009}}
		var c *imclient.Client
		c = offlineClient(t, func(options *imclient.Options) { options.Key = o.source },
			withTransport(func(r *http.Request) (*http.Response, error) {
				response, err := o.respond(r)
				if len(o.calls) == 2 {
					o.key = "two"
					expectKeyChanged(t, c, true, "another key")
				}
				return response, err
			}))
		o.expectCall(t, c, 0, "70009+")
		o.expectCall(t, c, 1, "70009+")
		o.expectCall(t, c, 2, "ok")
	})
}

func TestConstantKeyNeverChanges(t *testing.T) {
	for _, key := range []string{canary, ""} {
		c := offlineClient(t, always(200, nil, apiResult(60010, "")),
			func(o *imclient.Options) { o.Key = imclient.Key(imclient.NewSecret(key)) })
		expectKeyChanged(t, c, false, "before a call")
		call(t, c)
		expectKeyChanged(t, c, false, "after a call")
	}
}

func TestHalfWrittenKeyFileCountsAsUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := offlineClient(t, always(200, nil, apiResult(0, "")),
		func(o *imclient.Options) { o.Key = imclient.KeyFile(path) })
	write("one\n")
	if got := call(t, c); got != "ok" {
		t.Fatal(got)
	}
	for _, text := range []string{"one", "one\r\n", "", "\n", strings.Repeat("x", 4097)} {
		write(text)
		expectKeyChanged(t, c, false, "a file of "+text[:min(len(text), 8)])
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expectKeyChanged(t, c, false, "no file")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	expectKeyChanged(t, c, false, "a directory")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("two\n")
	expectKeyChanged(t, c, true, "the new key")
	if got := call(t, c); got != "ok" {
		t.Fatal(got)
	}
	expectKeyChanged(t, c, false, "used")
}

// For the race detector: concurrent calls, refusals and KeyChanged.
func TestKeyChangedDuringCalls(t *testing.T) {
	var mu sync.Mutex
	n := 0
	source := func() (imclient.Secret, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return imclient.NewSecret(canary[:20+n%3]), nil
	}
	c := offlineClient(t, always(200, nil, apiResult(70009, "")),
		func(o *imclient.Options) { o.Key = source })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				call(t, c)
				c.KeyChanged()
			}
		})
	}
	all.Wait()
}
