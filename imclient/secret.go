package imclient

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// redacted is what stands in for a secret in every text.
const redacted = "[secret]"

// Secret is a text that must not be shown: the app's key, a signature, a token. Every way of
// printing it gives "[secret]": all verbs of package fmt, JSON, text encodings, slog. Only Reveal
// gives the text.
//
// The text is kept in a closure, not in a string field: fmt does not call our methods for a Secret
// in an unexported field of another struct, nor for a wrong verb such as %p, and then prints what
// it finds by reflection. It finds an address.
type Secret struct {
	reveal func() string
}

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret {
	return Secret{reveal: func() string { return text }}
}

// Reveal returns the text itself, "" for a zero Secret.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero says whether there is no text.
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

// KeySource gives the app's secret key. It is asked at every signing, so a key that was rotated is
// found without a restart. It is called by one goroutine at a time for each Client. Its error must
// not contain the key.
type KeySource func() (Secret, error)

// Key is a KeySource that always gives the same key.
func Key(key Secret) KeySource {
	return func() (Secret, error) {
		if key.IsZero() {
			return Secret{}, errors.New("the key is empty")
		}
		return key, nil
	}
}

// maxKeyFile bounds what is read of a key file; a real key has 64 bytes.
const maxKeyFile = 4 << 10

// KeyFile is a KeySource that reads the file at path anew each time. Newlines at the end are cut.
// Its errors name the path.
func KeyFile(path string) KeySource {
	return func() (Secret, error) {
		info, err := os.Stat(path)
		if err != nil {
			return Secret{}, fmt.Errorf("key file: %w", err)
		}
		if !info.Mode().IsRegular() { // a pipe gives its text once only, and may block
			return Secret{}, fmt.Errorf("key file %s: it is no regular file", path)
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
				"key file %s: longer than %d bytes, so it is no key", path, maxKeyFile)
		}
		key := NewSecret(strings.TrimRight(string(text), "\r\n"))
		if key.IsZero() {
			return Secret{}, fmt.Errorf("key file %s: it is empty", path)
		}
		return key, nil
	}
}
