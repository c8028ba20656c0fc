package imclient_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
)

// signatureServer is a server that checks only signatures, and the key source. It numbers
// signatures in the order in which they first arrive.
type signatureServer struct {
	mu       sync.Mutex
	key      string
	keyErr   error
	keyReads int               // how often the key was read
	sigs     []string          // distinct, in order
	calls    []int             // number of the signature of each call
	codes    map[int]int       // number of a signature -> the ErrorCode for calls with it
	clock    func() time.Time  // the server's; nil: no Date
	claims   []imclient.Claims // of each signature
}

func (o *signatureServer) source() (imclient.Secret, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keyReads++
	return imclient.NewSecret(o.key), o.keyErr
}

func (o *signatureServer) respond(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sig := r.URL.Query().Get("usersig")
	number := slices.Index(o.sigs, sig)
	if number < 0 {
		number = len(o.sigs)
		o.sigs = append(o.sigs, sig)
		claims, err := imclient.Verify(sig, imclient.NewSecret(o.key), time.Now())
		if errors.Is(err, imclient.ErrSigMalformed) || errors.Is(err, imclient.ErrSigForged) {
			return nil, err
		}
		o.claims = append(o.claims, claims)
	}
	o.calls = append(o.calls, number)
	header := http.Header{}
	if o.clock != nil {
		header.Set("Date", o.clock().UTC().Format(http.TimeFormat))
	}
	return respond(200, header, apiResult(o.codes[number], ""))
}

func (o *signatureServer) client(t *testing.T) *imclient.Client {
	return offlineClient(t, withTransport(o.respond),
		func(options *imclient.Options) { options.Key = o.source })
}

// call returns the error's label, with a "+" if the call should be retried with a new signature.
func call(t *testing.T, c *imclient.Client) string {
	t.Helper()
	err := c.MarkRead(t.Context(), validRead)
	if err == nil {
		return "ok"
	}
	var e *imclient.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e.RetryWithNewSignature {
		return e.Label + "+"
	}
	return e.Label
}

func TestSignaturesAreCachedAndRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: canary}
		c := o.client(t)
		for range 49 { // two days and an hour, one call an hour
			if got := call(t, c); got != "ok" {
				t.Fatal(got)
			}
			last := o.claims[len(o.claims)-1]
			if left := time.Until(last.Issued.Add(last.Lifetime)); left < 11*time.Hour {
				t.Fatalf("a call with a signature that expires in %v", left)
			}
			time.Sleep(time.Hour)
		}
		if len(o.sigs) > 5 || o.keyReads != len(o.sigs) {
			t.Errorf("%d signatures in two days, the key read %d times", len(o.sigs), o.keyReads)
		}
	})
}

func TestRefusedSignatureIsReplacedImmediately(t *testing.T) {
	for code, again := range map[int]bool{
		20002: true, 60004: true, 60005: true, 60025: true, 70001: true, 70002: true, 70003: true,
		70005: true,
		70009: true, 70016: true, 70052: true, 70050: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &signatureServer{key: canary, codes: map[int]int{0: code, 1: code, 2: 0}}
			c := o.client(t)
			plus := ""
			if again {
				plus = "+"
			}
			label := fmt.Sprint(code)
			want := []string{label + plus, label, "ok", "ok"}
			var got []string
			for range want {
				got = append(got, call(t, c))
				time.Sleep(2 * time.Second) // signatures differ by their second
			}
			if !slices.Equal(got, want) || !slices.Equal(o.calls, []int{0, 1, 2, 2}) ||
				o.keyReads != 3 {
				t.Errorf("%v with signatures %v and the key read %d times, want %v", got,
					o.calls, o.keyReads, want)
			}
			// Accepted meanwhile, so this is a new incident.
			o.codes[2], o.codes[3] = code, 0
			if got := call(t, c); got != label+plus {
				t.Errorf("refused after it was accepted: %s", got)
			}
			time.Sleep(2 * time.Second)
			if got := call(t, c); got != "ok" {
				t.Error(got)
			}
		})
	}
}

func TestOtherFailuresKeepTheSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: canary, codes: map[int]int{}}
		c := o.client(t)
		for _, code := range []int{60007, 60008, 60010, 90001, 70020, 70107, 4711} {
			o.codes[0] = code
			if got := call(t, c); got != fmt.Sprint(code) {
				t.Error(got)
			}
			time.Sleep(2 * time.Second)
		}
		if o.keyReads != 1 {
			t.Errorf("signed %d times", o.keyReads)
		}
	})
}

// Many calls are in flight with a signature when it is revoked: all may be retried, and that makes
// one new signature, not one for each call.
func TestManyRefusalsSignOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: canary, codes: map[int]int{0: 70052}}
		c := offlineClient(t, func(options *imclient.Options) { options.Key = o.source },
			withTransport(func(r *http.Request) (*http.Response, error) {
				time.Sleep(2 * time.Second)
				return o.respond(r)
			}))
		for _, want := range []string{"70052+", "ok"} {
			var calls sync.WaitGroup
			for range 50 {
				calls.Go(func() {
					if got := call(t, c); got != want {
						t.Errorf("%s, want %s", got, want)
					}
				})
			}
			calls.Wait()
		}
		// A late refusal of the old signature does not drop the new one.
		if o.keyReads != 2 {
			t.Errorf("signed %d times", o.keyReads)
		}
	})
}

func TestLateRefusalDoesNotDropTheNewSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: canary, codes: map[int]int{0: 70001}}
		slow := make(chan struct{})
		c := offlineClient(t, func(options *imclient.Options) { options.Key = o.source },
			withTransport(func(r *http.Request) (*http.Response, error) {
				response, err := o.respond(r)
				if len(o.calls) == 1 {
					<-slow
				}
				return response, err
			}))
		late := make(chan string)
		go func() { late <- call(t, c) }()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		for _, want := range []string{"70001+", "ok"} {
			if got := call(t, c); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		close(slow)
		if got := <-late; got != "70001+" {
			t.Errorf("the late one: %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := call(t, c); got != "ok" || o.keyReads != 2 {
			t.Errorf("%s, signed %d times", got, o.keyReads)
		}
	})
}

func TestLateRefusalIsRetriedWithNewerSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{key: canary, codes: map[int]int{0: 70001, 1: 70001}}
		slow := make(chan struct{})
		c := offlineClient(t, func(options *imclient.Options) { options.Key = o.source },
			withTransport(func(r *http.Request) (*http.Response, error) {
				response, err := o.respond(r)
				if len(o.calls) == 2 {
					<-slow
				}
				return response, err
			}))
		late := make(chan string)
		for i, want := range []string{"70001+", "", "70001", "ok"} {
			switch {
			case i == 1:
				go func() { late <- call(t, c) }()
				synctest.Wait()
			default:
				if got := call(t, c); got != want {
					t.Errorf("call %d: %s, want %s", i, got, want)
				}
			}
			time.Sleep(2 * time.Second)
		}
		close(slow)
		if got := <-late; got != "70001+" { // there is a newer one, which is valid
			t.Errorf("the late one: %s", got)
		}
	})
}

func TestRotatedKeyNeedsNoRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		valid := "new"
		c := offlineClient(t, func(o *imclient.Options) { o.Key = imclient.KeyFile(path) },
			withTransport(func(r *http.Request) (*http.Response, error) {
				_, err := imclient.Verify(r.URL.Query().Get("usersig"), imclient.NewSecret(valid),
					time.Now())
				if errors.Is(err, imclient.ErrSigForged) {
					return respond(200, nil, apiResult(70009, ""))
				}
				return respond(200, nil, apiResult(0, ""))
			}))
		if got := call(t, c); got != "key" {
			t.Errorf("no file: %s", got)
		}
		write("old")
		for _, want := range []string{"70009+", "70009"} {
			if got := call(t, c); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		write("new")
		if got := call(t, c); got != "ok" {
			t.Errorf("the new key: %s", got)
		}
	})
}

func TestUnreadableKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &signatureServer{keyErr: errors.New("no such file")}
		c := o.client(t)
		err := c.MarkRead(t.Context(), validRead)
		if got, want := outcomeOf(t, err), (outcome{imclient.Held, "key", 0, 0}); got != want ||
			!errors.Is(err, o.keyErr) || !strings.Contains(err.Error(), "MARKREAD_IM_KEY_FILE") {
			t.Errorf("%+v: %v", got, err)
		}
		o.key, o.keyErr = canary, nil
		if got := call(t, c); got != "ok" {
			t.Errorf("readable again: %s", got)
		}

		// A signature is valid for a day, and meanwhile the key is read from time to time.
		o.keyErr = errors.New("gone again")
		before := o.keyReads
		begin := time.Now()
		for time.Since(begin) < 23*time.Hour {
			if got := call(t, c); got != "ok" {
				t.Fatalf("after %v: %s", time.Since(begin), got)
			}
			time.Sleep(10 * time.Second)
		}
		if n := o.keyReads - before; n < 600 || n > 700 {
			t.Errorf("read the key %d times in 11 hours", n)
		}
		time.Sleep(time.Hour)
		if got := call(t, c); got != "key" {
			t.Errorf("after its lifetime: %s", got)
		}
		o.keyErr = nil
		if got := call(t, c); got != "ok" {
			t.Errorf("readable again: %s", got)
		}
	})
}

// Our clock is wrong: signatures are dated by the server's, once it is known.
func TestSignaturesAreDatedByTheServersClock(t *testing.T) {
	hours := []time.Duration{30, 13, 1, -1, -13, -30}
	for i := range 2 * len(hours) {
		off, strict := hours[i/2]*time.Hour, i%2 == 0
		synctest.Test(t, func(t *testing.T) {
			o := &signatureServer{key: canary, codes: map[int]int{}}
			o.clock = func() time.Time { return time.Now().Add(off) }
			// it is unknown whether the real server refuses signatures of the future
			if off > 24*time.Hour || off < 0 && strict {
				o.codes[0] = 70001
			}
			c := o.client(t)
			call(t, c)
			for range 30 {
				time.Sleep(time.Hour + 7*time.Second) // never the same second twice on the server
				if got := call(t, c); got != "ok" {
					t.Fatalf("server %v ahead: %s", off, got)
				}
				last := o.claims[len(o.claims)-1]
				trusted := off > -24*time.Hour || strict // by more than a day only after a refusal
				if age := o.clock().Sub(last.Issued); age < -2*time.Second && trusted ||
					age > 14*time.Hour {
					t.Fatalf("server %v ahead: it sees a signature of age %v", off, age)
				}
			}
			if len(o.sigs) > 5 {
				t.Errorf("server %v ahead: %d signatures in 30 hours", off, len(o.sigs))
			}
		})
	}
}

func TestNowIsTheLaterClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var header http.Header
		status, body := 200, apiResult(0, "")
		c := offlineClient(t, withTransport(func(*http.Request) (*http.Response, error) {
			return respond(status, header, body)
		}))
		respondAhead := func(off time.Duration) {
			header = http.Header{"Date": {time.Now().Add(off).UTC().Format(http.TimeFormat)}}
			_ = c.MarkRead(t.Context(), validRead)
		}
		check := func(when string, off time.Duration) {
			t.Helper()
			if got := time.Until(c.Now()); got != off {
				t.Errorf("%s: %v ahead of our clock, want %v", when, got, off)
			}
		}
		check("before any response", 0)
		respondAhead(-time.Hour)
		check("server behind", 0)
		respondAhead(time.Hour)
		check("server ahead", time.Hour)
		time.Sleep(10 * time.Minute)
		check("ten minutes later", time.Hour)
		header = http.Header{"Date": {"yesterday"}}
		_ = c.MarkRead(t.Context(), validRead)
		check("after an odd Date", time.Hour)
		header = nil
		_ = c.MarkRead(t.Context(), validRead)
		check("after a response without Date", time.Hour)
		body = apiResult(90001, "")
		respondAhead(2 * time.Hour)
		check("after an ErrorCode", 2*time.Hour)
		status, body = 502, "<html>"
		respondAhead(5 * time.Hour)
		check("after a gateway's response", 2*time.Hour)
		status, body = 200, apiResult(0, "")
		respondAhead(0)
		check("when both agree again", 0)
	})
}
