package main

import (
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"markread/imclient"
)

// The secrets. Each also has a variable with _FILE at the end that names a file with the secret.
const (
	saslPassword = "MARKREAD_SASL_PASSWORD"
	imKey        = "MARKREAD_IM_KEY"
	adminToken   = "MARKREAD_ADMIN_TOKEN"
)

// environment is the process's environment. It resolves configuration flags that are not on the command line.
type environment struct {
	values map[string]string
	known  map[string]bool // the variables that some command reads
}

// newEnvironment takes the form of os.Environ; of a repeated name the first counts, as for os.Getenv.
func newEnvironment(env []string) environment {
	e := environment{values: map[string]string{}}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if _, ok := e.values[name]; !ok {
			e.values[name] = value
		}
	}
	return e
}

// Resolve gives kong the value of a flag's variable. A variable that is set but empty counts as set: an empty backfill topic switches the
// lane off.
func (e environment) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	if !isConfiguration(f) {
		return nil, nil
	}
	if value, ok := e.values[variable(f.Name)]; ok {
		return value, nil
	}
	return nil, nil
}

// Validate is kong's; there is nothing to check.
func (e environment) Validate(*kong.Application) error { return nil }

// unknown are the MARKREAD_ variables that no command reads, sorted: a misspelt one would otherwise leave a default in force unseen.
func (e environment) unknown() []string {
	var names []string
	for name := range e.values {
		if strings.HasPrefix(name, "MARKREAD_") && !e.known[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// secret reads a secret from its variable or its file; zero if neither is set. An empty variable counts as not set: deployment templates leave
// empty ones behind.
func (e environment) secret(name string) (imclient.Secret, error) {
	value, path := e.values[name], e.values[name+"_FILE"]
	switch {
	case value != "" && path != "":
		return imclient.Secret{}, usagef("%s and %s_FILE are both set; which one counts?", name, name)
	case path != "":
		content, err := os.ReadFile(path)
		if err != nil {
			return imclient.Secret{}, usagef("%s_FILE: %v", name, err)
		}
		value = string(content)
		if trimNewline(value) == "" {
			return imclient.Secret{}, usagef("%s_FILE: %s is empty", name, path)
		}
	}
	return imclient.NewSecret(trimNewline(value)), nil
}

// key is the source of the IM key; nil if none is set. A file is read again at every signing, so that a rotated key needs no restart; here it
// is read once so that a wrong path shows at the start.
func (e environment) key() (imclient.KeySource, error) {
	secret, err := e.secret(imKey)
	if err != nil || secret.IsZero() {
		return nil, err
	}
	if path := e.values[imKey+"_FILE"]; path != "" {
		return imclient.KeyFile(path), nil
	}
	return imclient.Key(secret), nil
}

// trimNewline cuts the newline that editors and `echo` leave at the end.
func trimNewline(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }
