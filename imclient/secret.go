package imclient

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// redacted replaces a secret in every text.
const redacted = "[secret]"

// Secret is a text that must not be shown: the app's key, a signature, a token. Every way of
// printing it gives "[secret]": all verbs of package fmt, JSON, text encodings, slog. Only Reveal
// returns the text.
//
// The text is kept in a closure, not in a string field: for a Secret in an unexported field of
// another struct, and for a wrong verb such as %p, fmt does not call our methods but prints what it
// finds by reflection. With a closure it finds an address.
type Secret struct {
	reveal func() string
}

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret {
	return Secret{reveal: func() string { return text }}
}

// Reveal returns the text itself; "" for a zero Secret.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether the text is empty.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String returns "[secret]".
func (Secret) String() string { return redacted }

// GoString returns "[secret]".
func (Secret) GoString() string { return redacted }

// Format writes "[secret]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[secret]"; JSON uses it too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[secret]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// KeySource returns the app's secret key. It is called at every signing, so a rotated key is used
// without a restart. A Client does not call it concurrently. Its error must not contain the key.
type KeySource func() (Secret, error)

// Key is a KeySource that always returns the same key.
func Key(key Secret) KeySource {
	return func() (Secret, error) {
		if key.IsZero() {
			return Secret{}, errors.New("the key is empty")
		}
		return key, nil
	}
}

// maxKeyFile bounds how much of a key file is read; a real key has 64 bytes.
const maxKeyFile = 4 << 10

// KeyFile is a KeySource that reads the file at path each time. Trailing newlines are removed. Its
// errors name the path.
func KeyFile(path string) KeySource {
	return func() (Secret, error) {
		info, err := os.Stat(path)
		if err != nil {
			return Secret{}, fmt.Errorf("key file: %w", err)
		}
		if !info.Mode().IsRegular() { // a pipe returns its text only once, and may block
			return Secret{}, fmt.Errorf("key file %s: not a regular file", path)
		}
		file, err := os.Open(path)
		if err != nil {
			return Secret{}, fmt.Errorf("key file: %w", err)
		}
		defer file.Close()
		text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
		switch {
		case err != nil:
			return Secret{}, fmt.Errorf("key file: %w", err)
		case len(text) > maxKeyFile:
			return Secret{}, fmt.Errorf(
				"key file %s: longer than %d bytes, so it is not a key", path, maxKeyFile)
		}
		key := NewSecret(strings.TrimRight(string(text), "\r\n"))
		if key.IsZero() {
			return Secret{}, fmt.Errorf("key file %s: it is empty", path)
		}
		return key, nil
	}
}
