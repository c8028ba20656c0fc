package imclient

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync"
	"time"
)

const (
	// sigLifetime is what the vendor recommends at least.
	sigLifetime = 24 * time.Hour
	// sigRenew is well before it expires: half a day is left to fix a key that can't be read.
	sigRenew = 12 * time.Hour
	// sigRetry is how often an unreadable key is tried again while the signature at hand is still
	// good.
	sigRetry = time.Minute
	// sigFuture is how far a signature may seem to be made in the future before we believe that a
	// clock was set back, and sign anew.
	sigMaxFuture = time.Minute
)

// signature is one UserSig.
type signature struct {
	text      Secret
	issued    time.Time // as signed: the server's clock, if known and trusted
	createdAt time.Time // ours, monotonic
	// suspect: made because the one before was refused, and never accepted yet. Guarded by
	// signer.mu.
	afterRefusal bool
}

// signer makes signatures and keeps the current one. Safe for any number of goroutines.
type signer struct {
	appID  int64
	admin  string
	key    KeySource
	clock  *clock                  // dates signatures
	redact func(secrets ...string) // is told each secret before it is used

	mu             sync.Mutex
	current        *signature // nil: none yet, or the last was refused
	lastRefused    bool       // the last was refused
	renewNotBefore time.Time  // no renewal before, for the key could not be read
	usedKey        Secret     // the key that the last signature was made with; zero: none yet
	keyUnreadable  bool       // the last try to read the key for a signature failed
	keyReplaced    bool       // the key is another one than current was made with: it is due
}

// get returns a signature that the server should take. Its error is the key source's.
func (s *signer) get() (*signature, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.signingTime()
	if s.current != nil && !s.keyReplaced &&
		(!s.current.due(now) || time.Now().Before(s.renewNotBefore)) {
		return s.current, nil
	}
	fresh, err := s.sign(now)
	// also if it has become unreadable: keyChanged finds out when that is over
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

// sign asks for the key and signs. The caller holds the lock.
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

// readKey asks for the key. The caller holds the lock.
func (s *signer) readKey() (Secret, error) {
	key, err := s.key()
	if err == nil && key.IsZero() {
		err = errors.New("the key is empty")
	}
	return key, err
}

// keyChanged says whether the key can be read and is not the one of the last signature, or could
// not be read then. The next signature is made with it even if the current one is still good; that
// one stays, in case the key can't be read after all.
func (s *signer) keyChanged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usedKey.IsZero() && !s.keyUnreadable {
		return false // never asked for: it is simply the key
	}
	key, err := s.readKey()
	if err != nil {
		return false
	}
	s.keyReplaced = s.keyUnreadable || !sameKey(key, s.usedKey)
	return s.keyReplaced
}

// sameKey compares in a time that says nothing about the keys, not even their lengths.
func sameKey(a, b Secret) bool {
	x, y := sha256.Sum256([]byte(a.Reveal())), sha256.Sum256([]byte(b.Reveal()))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// refuse drops a signature that the server did not take, unless a newer one is there already. It
// says whether a call with the next signature may fare better: yes, unless this one was itself made
// because of a refusal, and with the key that we still have. redate: the date of the signature may
// be why.
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

// accept notes that the server took a signature: if it is refused later, that is a new story.
func (s *signer) accept(sig *signature) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sig.afterRefusal = false
}

// age is how old the signature is, by the clock that it was dated with or the time that has really
// passed since, whichever is more.
func (s *signature) age(now time.Time) time.Duration {
	return max(now.Sub(s.issued), time.Since(s.createdAt))
}

// due says whether it is time for a new one.
func (s *signature) due(now time.Time) bool {
	return s.age(now) >= sigRenew || now.Sub(s.issued) < -sigMaxFuture
}
