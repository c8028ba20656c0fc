package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"markread/imclient"
)

// authenticate checks what every command needs: method, query, signature, admin. If the response is
// ok, the request may proceed.
func (s *Server) authenticate(r *http.Request) response {
	if r.Method != http.MethodPost {
		return failure(60002, "the method must be POST")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return failure(60002, "the query of the URL can't be parsed")
	}
	if !query.Has("sdkappid") {
		return failure(60012, "the URL has no sdkappid")
	}
	appID, err := strconv.ParseInt(query.Get("sdkappid"), 10, 64)
	if err != nil || appID != s.options.AppID {
		return failure(70020, "the sdkappid does not exist")
	}
	for _, name := range []string{"identifier", "usersig", "random", "contenttype"} {
		if !query.Has(name) {
			return failure(60025, "the URL has no "+name)
		}
	}
	if query.Get("contenttype") != "json" {
		return failure(60025, "contenttype must be json")
	}
	if _, err := strconv.ParseUint(query.Get("random"), 10, 32); err != nil {
		return failure(60025, "random must be an unsigned 32-bit integer")
	}
	identifier := query.Get("identifier")
	if a := s.sigs.check(query.Get("usersig"), appID, identifier, s.now()); !a.ok() {
		return a
	}
	if identifier != s.options.Admin {
		return failure(60010, "the identifier is not an administrator of the app")
	}
	return success()
}

// signatures verifies UserSigs and caches the valid ones: decompressing and verifying one for every
// call would be most of a call's cost. Expiry and kicks are checked every time.
type signatures struct {
	key imclient.Secret

	mu     sync.Mutex
	seen   map[string]seenSig
	kicked map[string]time.Time // by identifier: the second of its last kick
}

type seenSig struct {
	claims  imclient.Claims
	revoked bool
}

func newSignatures(key imclient.Secret) *signatures {
	return &signatures{key: key, seen: map[string]seenSig{}, kicked: map[string]time.Time{}}
}

// check verifies sig for a request with appID and identifier.
func (s *signatures) check(sig string, appID int64, identifier string, now time.Time) response {
	claims, revoked, err := s.verify(sig, now)
	switch {
	case errors.Is(err, imclient.ErrSigMalformed):
		return failure(70003, "the UserSig is illegal")
	case claims.AppID != appID:
		return failure(70014, fmt.Sprintf("the UserSig was made for sdkappid %d", claims.AppID))
	case claims.Identifier != identifier:
		return failure(70013, "the UserSig was made for another identifier")
	case errors.Is(err, imclient.ErrSigExpired):
		return failure(70001, "the UserSig has expired")
	case err != nil:
		return failure(70009, "the UserSig was made with another key")
	case revoked:
		return failure(70052, "the UserSig has been revoked")
	}
	return success()
}

func (s *signatures) verify(
	sig string, now time.Time,
) (claims imclient.Claims, revoked bool, err error) {
	s.mu.Lock()
	known, ok := s.seen[sig]
	s.mu.Unlock()
	if ok {
		claims = known.claims
		if now.After(claims.Issued.Add(claims.Lifetime)) {
			err = imclient.ErrSigExpired
		}
	} else if claims, err = imclient.Verify(sig, s.key, now); err != nil {
		return claims, false, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok = s.seen[sig] // again: a kick may have happened meanwhile
	if !ok {
		known.claims = claims
		if len(s.seen) >= maxSeenSigs {
			for other := range s.seen {
				delete(s.seen, other) // any one: if it is used again, that costs one verification
				break
			}
		}
		s.seen[sig] = known
	}
	kick, kicked := s.kicked[claims.Identifier]
	return claims, known.revoked || kicked && claims.Issued.Before(kick), err
}

// kick revokes the identifier's existing signatures. It fails if too many identifiers were kicked.
func (s *signatures) kick(identifier string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.kicked[identifier]; !again && len(s.kicked) >= maxKicked {
		return errFull
	}
	s.kicked[identifier] = now.Truncate(time.Second)
	for sig, known := range s.seen {
		if known.claims.Identifier == identifier {
			known.revoked = true
			s.seen[sig] = known
		}
	}
	return nil
}
