package imclient

import (
	"sync"
	"time"
)

const (
	// sigLifetime is what the vendor recommends at least.
	sigLifetime = 24 * time.Hour
	// sigRenew is well before it expires: half a day is left to mend a key
	// that can't be read.
	sigRenew = 12 * time.Hour
	// sigRetry is how often an unreadable key is tried again while the
	// signature at hand is still good.
	sigRetry = time.Minute
	// sigFuture is how far a signature may seem to be made in the future
	// before we believe that a clock was set back, and sign anew.
	sigFuture = time.Minute
)

// signature is one UserSig.
type signature struct {
	text   Secret
	issued time.Time // as signed: the server's clock, if known
	made   time.Time // ours, monotonic
	// suspect: made because the one before was refused, and never accepted
	// yet. Guarded by signer.mu.
	suspect bool
}

// signer makes signatures and keeps the current one. Safe for any number of
// goroutines.
type signer struct {
	appID int64
	admin string
	key   KeySource
	now   func() time.Time        // dates signatures
	mask  func(secrets ...string) // is told each secret before it is used

	mu      sync.Mutex
	current *signature // nil: none yet, or the last was refused
	refused bool       // the last was refused
	notYet  time.Time  // no renewal before, for the key could not be read
}

// get returns a signature that the server should take. Its error is the key
// source's.
func (s *signer) get() (*signature, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.current != nil && (!s.current.due(now) || time.Now().Before(s.notYet)) {
		return s.current, nil
	}
	fresh, err := s.sign(now)
	if err == nil {
		s.current, s.refused = fresh, false
		return fresh, nil
	}
	if s.current != nil && s.current.age(now) < sigLifetime-sigRetry {
		s.notYet = time.Now().Add(sigRetry)
		return s.current, nil
	}
	return nil, err
}

// sign asks for the key and signs. The caller holds the lock.
func (s *signer) sign(now time.Time) (*signature, error) {
	key, err := s.key()
	if err != nil {
		return nil, err
	}
	s.mask(key.Reveal())
	sig, mac, err := sign(s.appID, s.admin, key, now, sigLifetime)
	if err != nil {
		return nil, err
	}
	s.mask(sig, mac)
	return &signature{text: NewSecret(sig), issued: now, made: time.Now(), suspect: s.refused}, nil
}

// refuse drops a signature that the server did not take, unless a newer one is
// there already. It says whether a call with the next signature may fare
// better: yes, unless this one was itself made because of a refusal.
func (s *signer) refuse(sig *signature) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == sig {
		s.current, s.refused = nil, true
	}
	return !sig.suspect || s.current != nil
}

// accept notes that the server took a signature: if it is refused later, that
// is a new story.
func (s *signer) accept(sig *signature) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sig.suspect = false
}

// age is how old the signature is, by the clock that it was dated with or the
// time that has really passed since, whichever is more.
func (s *signature) age(now time.Time) time.Duration {
	return max(now.Sub(s.issued), time.Since(s.made))
}

// due says whether it is time for a new one.
func (s *signature) due(now time.Time) bool {
	return s.age(now) >= sigRenew || now.Sub(s.issued) < -sigFuture
}
