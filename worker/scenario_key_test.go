package worker_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker"
)

// keyring is a key source whose key a test can change.
type keyring struct{ text atomic.Value }

func newKeyring(key imclient.Secret) *keyring {
	k := &keyring{}
	k.text.Store(key)
	return k
}

func (k *keyring) set(key imclient.Secret)       { k.text.Store(key) }
func (k *keyring) get() (imclient.Secret, error) { return k.text.Load().(imclient.Secret), nil }
func (k *keyring) use(s *stack) func(*worker.Options) {
	return func(o *worker.Options) { o.IM = s.client(k.get) }
}

// client returns an IM client with its own key source.
func (s *stack) client(key imclient.KeySource) *imclient.Client {
	s.t.Helper()
	return s.clientVia(key, func(ctx context.Context) (net.Conn, error) {
		return s.dial(ctx, "tcp", imAddr)
	})
}

// clientVia is client with its own way to connect.
func (s *stack) clientVia(
	key imclient.KeySource, dial func(context.Context) (net.Conn, error),
) *imclient.Client {
	s.t.Helper()
	pool := imclient.NewTransport(5*time.Second, 200)
	pool.Proxy = nil
	pool.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	im, err := imclient.New(imclient.Options{BaseURL: "http://" + imAddr, AppID: appID,
		Admin: "administrator", Key: key, Transport: pool})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(im.Close)
	return im
}

// kick revokes the administrator's current signatures. Its own request is signed with another
// lifetime than the workers use: two UserSigs created in the same second with the same lifetime are
// identical, and would be revoked together.
func kick(t *testing.T, server *sandbox.Server, key imclient.Secret) {
	t.Helper()
	signature, err := imclient.Sign(appID, "administrator", key, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	query := fmt.Sprintf("?sdkappid=%d&identifier=administrator&usersig=%s"+
		"&random=1&contenttype=json", appID, signature)
	response := httptest.NewRecorder()
	server.ServeHTTP(response,
		httptest.NewRequest(http.MethodPost, "/v4/im_open_login_svc/kick"+query,
			strings.NewReader(`{"UserID":"administrator"}`)))
	// the latter: kicked within the same second
	if text := response.Body.String(); !strings.Contains(text, `"ErrorCode":0`) &&
		!strings.Contains(text, "70052") {
		t.Errorf("kick: %s", response.Body)
	}
}

// shortestGap returns the shortest time between two arrivals since a moment, and the number of
// arrivals.
func (s *stack) shortestGap(since time.Time) (shortest time.Duration, n int) {
	var last time.Time
	shortest = time.Hour
	for _, a := range s.sandbox.Arrivals() {
		if a.At.Before(since) {
			continue
		}
		if n++; n > 1 {
			shortest = min(shortest, a.At.Sub(last))
		}
		last = a.At
	}
	return shortest, n
}

// A key that has become wrong holds everything: no dead letter, no commit beyond the finished
// calls, hardly a call. The worker detects the correct key by itself.
func TestWrongKeyForTenMinutes(t *testing.T) {
	inBubble(t, func(s *stack) {
		keys := newKeyring(key)
		w := s.start(keys.use(s))
		s.publishMany(topics.Live, "before", 0, 100)
		w.waitSettled(t, 100)
		keys.set(imclient.NewSecret("another app's key"))
		time.Sleep(2 * time.Second)
		kick(t, s.sandbox, key)
		s.publishMany(topics.Live, "reader", 0, 3000)
		time.Sleep(10 * time.Second)
		frozen, calls, from := s.committed(), s.sandbox.Stats().Calls, time.Now()
		s.publishSteadily(3000, 1, 10*time.Minute)
		shortest, probes := s.shortestGap(from)
		if !s.heldFor(w, "credentials") || s.letterCount() > 0 || s.committed() != frozen ||
			frozen > 200 {
			t.Errorf("held %+v, %d dead letters, committed %d, %d before", w.Held(),
				s.letterCount(), s.committed(), frozen)
		}
		if shortest < 14*time.Second || probes > 41 {
			t.Errorf("%d probes, two of them %v apart", probes, shortest)
		}
		keys.set(key)
		took := s.until("calls resume", 20*time.Second,
			func() bool { return !s.heldFor(w, "credentials") })
		w.waitSettled(t, 3700)
		if n := s.letterCount(); n > 0 {
			t.Errorf("%d dead letters", n)
		}
		s.mustStop(w)
		t.Logf("%d calls until it was held; %d probes in 10 minutes, at least %v apart; resumed "+
			"%v after the right key", calls-100, probes, shortest, took)
	})
}

// The same for an account that has lost its role as administrator, for an app that is locked for a
// minute, and for an unpaid app: the worker can't see when these are fixed.
func TestRefusedForTenMinutes(t *testing.T) {
	tooLongForARace(t)
	for _, c := range []struct {
		name         string
		code         int
		every, after time.Duration
	}{
		{"not an admin", 60010, 15 * time.Second, 20 * time.Second},
		{"locked", 70050, time.Minute, 65 * time.Second},
		{"unpaid", 60020, 15 * time.Second, 20 * time.Second},
		{"expired", 70001, 15 * time.Second, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			oneIsEnough(t, c.name == "locked")
			inBubble(t, func(s *stack) {
				w := s.start(nil)
				s.publishMany(topics.Live, "before", 0, 100)
				w.waitSettled(t, 100)
				s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode,
					Code: c.code}}})
				s.publishMany(topics.Live, "reader", 0, 3000)
				time.Sleep(5 * time.Second)
				frozen, from := s.committed(), time.Now()
				time.Sleep(10 * time.Minute)
				shortest, probes := s.shortestGap(from)
				if !s.heldFor(w, "credentials") || s.letterCount() > 0 || s.committed() != frozen {
					t.Errorf("held %+v, %d dead letters, committed %d, %d before", w.Held(),
						s.letterCount(), s.committed(), frozen)
				}
				// A refused signature that is worth a retry is retried immediately with a new one:
				// two calls per probe.
				if probes > 2*int(10*time.Minute/c.every+1) {
					t.Errorf("%d calls in 10 minutes", probes)
				}
				s.fault(sandbox.Faults{})
				took := s.until("calls resume", c.after,
					func() bool { return !s.heldFor(w, "credentials") })
				w.waitSettled(t, 3100)
				if n := s.letterCount(); n > 0 {
					t.Errorf("%d dead letters", n)
				}
				s.mustStop(w)
				t.Logf("%d calls in 10 minutes, at least %v apart; resumed %v after the fix",
					probes, shortest, took)
			})
		})
	}
}

// A signature that is revoked, or expires by the server's clock, is renewed without a hold.
func TestSignatureIsRenewedWithoutHold(t *testing.T) {
	tooLongForARace(t)
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		var held []string
		watch := func(what string, spoil func()) {
			before := s.sandbox.Stats()
			s.publishMany(topics.Live, what, 0, 4000)
			for i := range 40 {
				if i == 5 {
					spoil()
				}
				for _, h := range w.Held() {
					held = append(held, what+": "+h.Reason)
				}
				time.Sleep(500 * time.Millisecond)
			}
			time.Sleep(10 * time.Second)
			after := s.sandbox.Stats()
			extra := after.Calls - before.Calls - 4000
			if after.Applied-before.Applied != 4000 || extra > 20 {
				t.Errorf("%s: %d applied of 4000, %d more calls than that; codes %v", what,
					after.Applied-before.Applied, extra, after.Codes)
			}
			t.Logf("%s: %d calls more", what, extra)
		}
		watch("revoked", func() { kick(t, s.sandbox, key) })
		watch("expired", func() { s.fault(sandbox.Faults{Skew: 30 * time.Hour}) })
		if slices.Sort(held); len(held) > 0 {
			t.Errorf("held %v", slices.Compact(held))
		}
		w.waitSettled(t, 8000)
		if n := s.letterCount(); n > 0 {
			t.Errorf("%d dead letters", n)
		}
		s.mustStop(w)
	})
}
