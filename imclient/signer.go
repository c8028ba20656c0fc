package imclient

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync"
	"time"
)

const (
	// sigLifetime is the shortest lifetime that the vendor recommends.
	sigLifetime = 24 * time.Hour
	// sigRenew is the age at which a signature is renewed. It leaves half a day to fix a key that
	// can't be read.
	sigRenew = 12 * time.Hour
	// sigRetry is how often reading an unreadable key is retried while the current signature is
	// still valid.
	sigRetry = time.Minute
	// sigMaxFuture is how far ahead a signature's date may be before we assume that a clock was set
	// back, and make a new signature.
	sigMaxFuture = time.Minute
)

// signature is one UserSig.
type signature struct {
	text      Secret
	issued    time.Time // the date in it: by the server's clock, if known and trusted
	createdAt time.Time // by our clock, monotonic
	// afterRefusal: made because the previous one was refused, and not accepted yet. Guarded by
	// signer.mu.
	afterRefusal bool
}

// signer makes signatures and keeps the current one. It is safe for concurrent use.
type signer struct {
	appID  int64
	admin  string
	key    KeySource
	clock  *clock                  // dates signatures
	redact func(secrets ...string) // receives each secret before it is used

	mu             sync.Mutex
	current        *signature // nil: none yet, or the last was refused
	lastRefused    bool       // the last one was refused
	renewNotBefore time.Time  // no renewal before, because the key could not be read
	usedKey        Secret     // the key of the last signature; zero: none yet
	keyUnreadable  bool       // the last attempt to read the key for a signature failed
	keyReplaced    bool       // the key differs from current's: a new signature is due
}

// get returns a signature that the server should accept. Its error is the key source's.
func (s *signer) get() (*signature, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.signingTime()
	if s.current != nil && !s.keyReplaced &&
		(!s.current.due(now) || time.Now().Before(s.renewNotBefore)) {
		return s.current, nil
	}
	fresh, err := s.sign(now)
	// also if the key is unreadable now: keyChanged detects when it no longer is
	s.keyReplaced = false
	if err == nil {
		s.current, s.lastRefused = fresh, false
		return fresh, nil
	}
	if s.current != nil && s.current.age(now) < sigLifetime-sigRetry {
		s.renewNotBefore = time.Now().Add(sigRetry)
		return s.current, nil
	}
	return nil, err
}

// sign reads the key and signs. The caller holds the lock.
func (s *signer) sign(now time.Time) (*signature, error) {
	key, err := s.readKey()
	s.keyUnreadable = err != nil
	if err != nil {
		return nil, err
	}
	s.redact(key.Reveal())
	s.usedKey = key
	sig, mac, err := sign(s.appID, s.admin, key, now, sigLifetime)
	if err != nil {
		return nil, err
	}
	s.redact(sig, mac)
	return &signature{text: NewSecret(sig), issued: now, createdAt: time.Now(),
		afterRefusal: s.lastRefused}, nil
}

// readKey reads the key. The caller holds the lock.
func (s *signer) readKey() (Secret, error) {
	key, err := s.key()
	if err == nil && key.IsZero() {
		err = errors.New("the key is empty")
	}
	return key, err
}

// keyChanged reports whether the key can be read and differs from the last signature's, or could
// not be read then. The next signature is made with it even if the current one is still valid; the
// current one is kept in case the key can't be read after all.
func (s *signer) keyChanged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usedKey.IsZero() && !s.keyUnreadable {
		return false // never read before: it has not changed
	}
	key, err := s.readKey()
	if err != nil {
		return false
	}
	s.keyReplaced = s.keyUnreadable || !sameKey(key, s.usedKey)
	return s.keyReplaced
}

// sameKey compares in a time that reveals nothing about the keys, not even their lengths.
func sameKey(a, b Secret) bool {
	x, y := sha256.Sum256([]byte(a.Reveal())), sha256.Sum256([]byte(b.Reveal()))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// refuse drops a signature that the server refused, unless there is a newer one already. It reports
// whether a call with the next signature may succeed: yes, unless this one was itself made because
// of a refusal, and with the key that we still have. mayBeDate: the signature's date may be the
// cause.
func (s *signer) refuse(sig *signature, mayBeDate bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == sig {
		s.current, s.lastRefused = nil, true
		if mayBeDate {
			s.clock.switchSource()
		}
	}
	return !sig.afterRefusal || s.current != nil || s.keyReplaced
}

// accept records that the server accepted a signature: a later refusal is a new incident.
func (s *signer) accept(sig *signature) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sig.afterRefusal = false
}

// age returns the signature's age, by the clock that dated it or by the time that has really passed
// since, whichever is larger.
func (s *signature) age(now time.Time) time.Duration {
	return max(now.Sub(s.issued), time.Since(s.createdAt))
}

// due reports whether a new signature should be made.
func (s *signature) due(now time.Time) bool {
	return s.age(now) >= sigRenew || now.Sub(s.issued) < -sigMaxFuture
}
