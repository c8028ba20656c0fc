package imclient

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// The reasons why a UserSig is not valid. Verify wraps one of them.
var (
	// ErrSigMalformed: it is not a UserSig of version 2.0.
	ErrSigMalformed = errors.New("malformed UserSig")
	// ErrSigForged: it was made with another key, or changed afterwards.
	ErrSigForged = errors.New("the UserSig was made with another key")
	// ErrSigExpired: it is genuine, but its lifetime is over.
	ErrSigExpired = errors.New("the UserSig has expired")
)

// Claims are the contents of a UserSig.
type Claims struct {
	AppID      int64
	Identifier string    // the account it was made for
	Issued     time.Time // whole seconds
	Lifetime   time.Duration
}

// sigVersion is the only existing version of the format.
const sigVersion = "2.0"

// sigFields is the JSON inside a UserSig. Times are in seconds.
type sigFields struct {
	Version    string `json:"TLS.ver"`
	Identifier string `json:"TLS.identifier"`
	AppID      int64  `json:"TLS.sdkappid"`
	Expire     int64  `json:"TLS.expire"`
	Time       int64  `json:"TLS.time"`
	UserBuf    string `json:"TLS.userbuf,omitempty"` // base64; we never set it, but others do
	MAC        string `json:"TLS.sig"`
}

// mac returns the signature proper: standard base64 of an HMAC-SHA256. The key's text itself is
// used; that it looks like hexadecimal digits means nothing.
func (f sigFields) mac(key Secret) string {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	fmt.Fprintf(h, "TLS.identifier:%s\nTLS.sdkappid:%d\nTLS.time:%d\nTLS.expire:%d\n",
		f.Identifier, f.AppID, f.Time, f.Expire)
	if f.UserBuf != "" {
		fmt.Fprintf(h, "TLS.userbuf:%s\n", f.UserBuf)
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// The vendor's own alphabet, so that a UserSig needs no escaping in a query.
var (
	toSig   = strings.NewReplacer("+", "*", "/", "-", "=", "_")
	fromSig = strings.NewReplacer("*", "+", "-", "/", "_", "=")
)

// Sign makes a UserSig (TLSSigAPIv2) that lets identifier call the API of the app appID from now
// on, for lifetime, which is at least one second and is truncated to whole seconds. It fails only
// for invalid arguments.
func Sign(
	appID int64, identifier string, key Secret, now time.Time, lifetime time.Duration,
) (string, error) {
	sig, _, err := sign(appID, identifier, key, now, lifetime)
	return sig, err
}

// sign is Sign; it also returns the MAC inside. The whole UserSig can be derived from the MAC, so
// the MAC is equally secret.
func sign(
	appID int64, identifier string, key Secret, now time.Time, lifetime time.Duration,
) (sig, mac string, err error) {
	f := sigFields{
		Version: sigVersion, Identifier: identifier, AppID: appID,
		Expire: int64(lifetime / time.Second), Time: now.Unix(),
	}
	if key.IsZero() {
		return "", "", errors.New("sign: the key is empty")
	}
	if err := f.check(); err != nil {
		return "", "", fmt.Errorf("sign: %w", err)
	}
	f.MAC = f.mac(key)
	text, err := json.Marshal(f)
	if err != nil {
		return "", "", fmt.Errorf("sign: %w", err)
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(text) // a bytes.Buffer never fails
	_ = z.Close()
	return toSig.Replace(base64.StdEncoding.EncodeToString(packed.Bytes())), f.MAC, nil
}

// check validates the signed fields.
func (f sigFields) check() error {
	const century = 100 * 365 * 86400 // far above any lifetime; prevents overflow of durations
	switch {
	case f.AppID <= 0:
		return fmt.Errorf("the app id is %d, it must be positive", f.AppID)
	case f.Identifier == "":
		return errors.New("the identifier is empty")
	case strings.ContainsAny(f.Identifier, "\r\n"):
		// The signed text has one field a line: with a line break, one set of fields could pass for
		// another.
		return errors.New("the identifier contains a line break")
	case f.Expire < 1 || f.Expire > century:
		return fmt.Errorf("the lifetime is %d s, it must be between 1 s and 100 years", f.Expire)
	case f.Time < 0 || f.Time > 1<<40:
		return errors.New("the time of issue is out of range")
	}
	return nil
}

// maxSig bounds a UserSig and its decompressed size; real ones have 200 to 300 bytes.
const maxSig = 8 << 10

// Verify parses a UserSig and checks it at the time now, as the IM server does. Its error is one of
// ErrSigMalformed, ErrSigForged and ErrSigExpired (use errors.Is). The claims are also filled in
// for the last two. The caller must check whether they name the right app and account.
func Verify(sig string, key Secret, now time.Time) (Claims, error) {
	f, err := unpack(sig)
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrSigMalformed, err)
	}
	claims := Claims{
		AppID: f.AppID, Identifier: f.Identifier,
		Issued: time.Unix(f.Time, 0), Lifetime: time.Duration(f.Expire) * time.Second,
	}
	if key.IsZero() || !hmac.Equal([]byte(f.MAC), []byte(f.mac(key))) {
		return claims, ErrSigForged
	}
	if now.After(claims.Issued.Add(claims.Lifetime)) {
		return claims, ErrSigExpired
	}
	return claims, nil
}

// unpack reverses what Sign does after signing. Its errors don't contain sig.
func unpack(sig string) (sigFields, error) {
	var f sigFields
	if len(sig) == 0 || len(sig) > maxSig || strings.ContainsAny(sig, "+/=\r\n") {
		return f, errors.New("it is empty, too long, or has a character outside the alphabet")
	}
	packed, err := base64.StdEncoding.DecodeString(fromSig.Replace(sig))
	if err != nil {
		return f, errors.New("it is not in the vendor's base64")
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return f, errors.New("it is not zlib data")
	}
	text, err := io.ReadAll(io.LimitReader(z, maxSig+1))
	if err != nil || len(text) > maxSig {
		return f, errors.New("it is damaged, or too long when decompressed")
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, errors.New("it does not contain the expected JSON")
	}
	if f.Version != sigVersion {
		return f, errors.New("its version is not " + sigVersion)
	}
	return f, f.check()
}
