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

// changed fails the test unless KeyChanged says want, twice: asking must not change the answer.
func changed(t *testing.T, c *imclient.Client, want bool, when string) {
	t.Helper()
	for range 2 {
		if c.KeyChanged() != want {
			t.Errorf("%s: KeyChanged is %v", when, !want)
		}
	}
}

// called makes a call whose signature has the number, and that ends with the label.
func (o *office) called(t *testing.T, c *imclient.Client, number int, label string) {
	t.Helper()
	time.Sleep(2 * time.Second) // signatures differ by their second
	if got := call(t, c); got != label || o.calls[len(o.calls)-1] != number {
		t.Errorf("%q with signature %d, want %q with %d", got, o.calls[len(o.calls)-1], label,
			number)
	}
}

// A refusal that has nothing to do with the signature keeps it; the call after a new key is
// nevertheless made with that.
func TestANewKeyIsNoticedAndUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{key: "one", codes: map[int]int{0: 60010, 1: 60010, 2: 0}}
		c := o.client(t)
		changed(t, c, false, "before the first call")
		o.called(t, c, 0, "60010")
		changed(t, c, false, "the same key")
		o.key = "two"
		changed(t, c, true, "another key")
		o.key = "one"
		changed(t, c, false, "and back again")
		o.called(t, c, 0, "60010")
		o.key = "one and more"
		changed(t, c, true, "a key that begins alike")
		o.called(t, c, 1, "60010")
		changed(t, c, false, "after the call")
		asked := o.asked
		o.called(t, c, 1, "60010")
		if o.asked != asked {
			t.Error("a call asked for the key though none had changed")
		}
	})
}

func TestAKeyThatComesBackIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{keyErr: errors.New("no such file")}
		c := o.client(t)
		changed(t, c, false, "before the first call")
		if got := call(t, c); got != "key" {
			t.Error(got)
		}
		changed(t, c, false, "still unreadable")
		o.keyErr = nil
		changed(t, c, false, "readable, but empty")
		o.key = canary
		changed(t, c, true, "readable")
		o.called(t, c, 0, "ok")
		changed(t, c, false, "after the call")

		// The renewal meets an unreadable key, the signature lives on. The same key, readable
		// again, is used before the renewal's own next try.
		o.keyErr = errors.New("gone again")
		time.Sleep(13 * time.Hour)
		o.called(t, c, 0, "ok")
		changed(t, c, false, "gone again")
		o.keyErr = nil
		changed(t, c, true, "back again")
		o.called(t, c, 1, "ok")
		changed(t, c, false, "renewed")
	})
}

// Changed, and then unreadable: the signature at hand is better than nothing.
func TestANewKeyThatVanishesLeavesTheSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{key: "one"}
		c := o.client(t)
		o.called(t, c, 0, "ok")
		o.key = "two"
		changed(t, c, true, "another key")
		o.keyErr = errors.New("being written")
		o.called(t, c, 0, "ok")
		asked := o.asked
		o.called(t, c, 0, "ok")
		if o.asked != asked {
			t.Error("every call asks for the key that can't be read")
		}
		changed(t, c, false, "being written")
		o.keyErr = nil
		changed(t, c, true, "written")
		o.called(t, c, 1, "ok")
	})
}

// A second refusal in a row is the last word, unless there is another key by now.
func TestARefusalWithAnOldKeyIsNotTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{key: "one", codes: map[int]int{0: 70009, 1: 70009, 2: 70009}}
		c := o.client(t)
		o.called(t, c, 0, "70009+")
		o.called(t, c, 1, "70009")
		changed(t, c, false, "refused, the same key")
		o.called(t, c, 2, "70009")
		o.key = "two"
		changed(t, c, true, "refused, another key")
		o.called(t, c, 3, "ok")
	})
	synctest.Test(t, func(t *testing.T) { // noticed while a call is out
		o := &office{key: "one", codes: map[int]int{0: 70009, 1: 70009}}
		var c *imclient.Client
		c = canned(t, func(options *imclient.Options) { options.Key = o.source },
			with(func(r *http.Request) (*http.Response, error) {
				response, err := o.answer(r)
				if len(o.calls) == 2 {
					o.key = "two"
					changed(t, c, true, "another key")
				}
				return response, err
			}))
		o.called(t, c, 0, "70009+")
		o.called(t, c, 1, "70009+")
		o.called(t, c, 2, "ok")
	})
}

func TestAConstantKeyNeverChanges(t *testing.T) {
	for _, key := range []string{canary, ""} {
		c := canned(t, always(200, nil, verdict(60010, "")),
			func(o *imclient.Options) { o.Key = imclient.Key(imclient.NewSecret(key)) })
		changed(t, c, false, "before a call")
		call(t, c)
		changed(t, c, false, "after a call")
	}
}

func TestAHalfWrittenKeyFileHasNotChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := canned(t, always(200, nil, verdict(0, "")),
		func(o *imclient.Options) { o.Key = imclient.KeyFile(path) })
	write("one\n")
	if got := call(t, c); got != "ok" {
		t.Fatal(got)
	}
	for _, text := range []string{"one", "one\r\n", "", "\n", strings.Repeat("x", 4097)} {
		write(text)
		changed(t, c, false, "a file of "+text[:min(len(text), 8)])
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	changed(t, c, false, "no file")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	changed(t, c, false, "a directory")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("two\n")
	changed(t, c, true, "the new key")
	if got := call(t, c); got != "ok" {
		t.Fatal(got)
	}
	changed(t, c, false, "used")
}

// For the race detector: calls, refusals and questions at the same time.
func TestKeyChangedWhileCallsAreMade(t *testing.T) {
	var mu sync.Mutex
	n := 0
	source := func() (imclient.Secret, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return imclient.NewSecret(canary[:20+n%3]), nil
	}
	c := canned(t, always(200, nil, verdict(70009, "")),
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
