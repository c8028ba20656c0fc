package imclient_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"markread/imclient"
)

const canary = "canary-5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"

func TestSecretIsNeverPrinted(t *testing.T) {
	secret := imclient.NewSecret(canary)
	type hidden struct{ inner imclient.Secret } // fmt can't call methods on inner
	values := map[string]any{
		"value": secret, "pointer": &secret, "slice": []imclient.Secret{secret},
		"unexported": hidden{secret}, "pointer to unexported": &hidden{secret},
		"map":    map[string]imclient.Secret{"k": secret},
		"source": imclient.Key(secret),
	}
	verbs := []string{
		"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%p", "%t", "%b", "%o",
		"%e", "%g",
		"%10.3s", "%T", "%w", "%!", "%z",
	}
	for name, value := range values {
		for _, verb := range verbs {
			if text := fmt.Sprintf(verb, value); leaks(text) {
				t.Errorf("%s of %s: %s", verb, name, text)
			}
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", value)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", value)
		if leaks(log.String()) {
			t.Errorf("slog of %s: %s", name, log.String())
		}
		if name == "source" {
			continue // a function has no JSON
		}
		text, err := json.Marshal(value)
		if err != nil || leaks(string(text)) {
			t.Errorf("JSON of %s: %s, %v", name, text, err)
		}
	}
	for _, text := range []string{secret.String(), fmt.Sprint(secret), fmt.Sprintf("%x", secret)} {
		if text != "[secret]" {
			t.Errorf("printed as %q", text)
		}
	}
	if text, _ := json.Marshal(secret); string(text) != `"[secret]"` {
		t.Errorf("JSON is %s", text)
	}
}

// leaks reports whether text contains the canary, plain or in hexadecimal.
func leaks(text string) bool {
	return strings.Contains(text, canary[:12]) ||
		strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", canary[:12]))
}

func TestSecretReveals(t *testing.T) {
	if got := imclient.NewSecret(canary).Reveal(); got != canary {
		t.Errorf("revealed %q", got)
	}
	var zero imclient.Secret
	if zero.Reveal() != "" || !zero.IsZero() || !imclient.NewSecret("").IsZero() ||
		imclient.NewSecret("x").IsZero() {
		t.Error("IsZero or Reveal of the zero value is wrong")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	source := imclient.KeyFile(path)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := source(); err == nil || !strings.Contains(err.Error(), path) ||
		!errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	for text, want := range map[string]string{"one\n": "one", "two\r\n": "two", "three": "three",
		" four \n": " four "} {
		write(text)
		if key, err := source(); err != nil || key.Reveal() != want {
			t.Errorf("%q: read %q, %v", text, key.Reveal(), err)
		}
	}
	for _, text := range []string{"", "\n", strings.Repeat(canary, 1000)} {
		write(text)
		_, err := source()
		if err == nil || !strings.Contains(err.Error(), path) || leaks(err.Error()) {
			t.Errorf("a file of %d bytes: %v", len(text), err)
		}
	}
	if _, err := imclient.Key(imclient.Secret{})(); err == nil {
		t.Error("an empty key was accepted")
	}
}

// A pipe would block the first call, and returns the key only once.
func TestKeyFileMustBeARegularFile(t *testing.T) {
	folder := t.TempDir()
	if _, err := imclient.KeyFile(folder)(); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("a folder as key file: %v", err)
	}
	if _, err := imclient.KeyFile("/dev/zero")(); err == nil {
		t.Error("a device as key file")
	}
}
