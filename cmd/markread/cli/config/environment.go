package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"markread/imclient"
)

// The variables with secrets. For each, the variable with the suffix _FILE names a file that has
// the secret instead.
const (
	SASLPassword = "MARKREAD_SASL_PASSWORD"
	IMKey        = "MARKREAD_IM_KEY"
	AdminToken   = "MARKREAD_ADMIN_TOKEN"
)

// Environment is the process's environment, from which kong resolves configuration flags.
type Environment struct {
	Values         map[string]string
	Known          map[string]bool          // the variables that some command reads
	used           map[string]bool          // the flags whose value came from their variable
	SecretWarnings map[string]secretWarning // by variable, of the secrets that were read
}

// secretWarning describes a secret that seems to contain something that does not belong to it, such
// as quotes, and the remedy.
type secretWarning struct{ Found, Do string }

// NewEnvironment parses the form of os.Environ; if a name is repeated, the first one counts.
func NewEnvironment(env []string) Environment {
	e := Environment{Values: map[string]string{},
		used: map[string]bool{}, SecretWarnings: map[string]secretWarning{}}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if _, ok := e.Values[name]; !ok {
			e.Values[name] = value
		}
	}
	return e
}

// Resolve implements kong.Resolver: it returns the value of a flag's variable. Kong calls it only
// for flags that are not on the command line. An empty variable is a valid value for a flag with
// free text: an empty backfill topic disables the lane. For any other flag it counts as not set, as
// for secrets.
func (e Environment) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	if !IsConfiguration(f) {
		return nil, nil
	}
	value, ok := e.Values[Variable(f.Name)]
	if !ok || (value == "" && (f.Target.Kind() != reflect.String || f.Enum != "")) {
		return nil, nil
	}
	e.used[f.Name] = true
	if what, do := Flaw(value); what != "" {
		return nil, Usagef("--%s %s: %s", f.Name, what, do)
	}
	return value, nil
}

var flagName = regexp.MustCompile(`--[a-z][a-z-]*`)

// Explain adds the variable's name to each flag in an error text, at its first mention, if the
// flag's value came from the variable: a user who set the variable looks for its name. If a flag or
// a secret is missing, it also lists unknown variables: one of them may be misspelt.
func (e Environment) Explain(text string) string {
	done := map[string]bool{}
	text = flagName.ReplaceAllStringFunc(text, func(flag string) string {
		name := flag[2:]
		if !e.used[name] || done[name] {
			return flag
		}
		done[name] = true
		return flag + " (" + Variable(name) + ")"
	})
	missing := strings.HasPrefix(text, "missing flags") || strings.Contains(text, "is missing: set")
	if names := e.Unknown(); missing && len(names) > 0 {
		text += "; unknown variables: " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")
	}
	return text
}

// Validate implements kong.Resolver; there is nothing to check.
func (e Environment) Validate(*kong.Application) error { return nil }

// ourVariable matches a name that was meant to be a MARKREAD_ variable. A value may follow it: if
// an env file is written as YAML, the name extends to the first equals sign.
var ourVariable = regexp.MustCompile(`(?i)^(?:\W|export\s)*(markread_\w*)`)

// Unknown returns the MARKREAD_ variables that no command reads, each with its remedy, "" if that
// is not clear. Without this, a misspelt variable would silently leave a default in force.
func (e Environment) Unknown() map[string]string {
	names := map[string]string{}
	for name, value := range e.Values {
		m := ourVariable.FindStringSubmatch(name)
		if m == nil || e.Known[name] || IsServiceLink(name, value) {
			continue
		}
		if m[0] != name {
			m[0] += "…"
		}
		names[m[0]] = ""
		if right := strings.ToUpper(m[1]); e.Known[right] {
			names[m[0]] = "its name must be " + right + ", and nothing else"
		}
	}
	return names
}

// serviceLink matches the names of variables that Kubernetes creates in all pods for a Service
// named markread or markread-something, and docker for a link.
var serviceLink = regexp.MustCompile(`^MARKREAD_(\w+?_)??` +
	`(SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$`)

// IsServiceLink reports whether Kubernetes or docker created a variable for a service.
// MARKREAD_ADMIN_PORT=8780 is a user's mistake, not a service link: Kubernetes would set it to a
// URL.
func IsServiceLink(name, value string) bool {
	m := serviceLink.FindStringSubmatch(name)
	return m != nil && (m[1] == "" || m[2] != "PORT" || strings.Contains(value, "://"))
}

// WarnOfUnknown logs a warning for each MARKREAD_ variable that no command reads.
func (e Environment) WarnOfUnknown(log zerolog.Logger) {
	names := e.Unknown()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		line := log.Warn().Str("variable", name)
		if names[name] != "" {
			line.Str("do", names[name])
		}
		line.Msg("unknown MARKREAD_ variable: misspelt, or of a flag without a variable?")
	}
}

// WarnOfVariables logs unknown variables and suspicious secrets. Every command calls it, except
// check, which has the secrets in its report.
func (e Environment) WarnOfVariables(log zerolog.Logger) {
	e.WarnOfUnknown(log)
	for _, name := range slices.Sorted(maps.Keys(e.SecretWarnings)) {
		odd := e.SecretWarnings[name]
		log.Warn().Str("variable", name).Str("do", odd.Do).Msg(odd.Found)
	}
}

// Secret reads a secret that the command uses. If it looks wrong, it is added to SecretWarnings.
func (e Environment) Secret(name string) (imclient.Secret, error) {
	secret, err := e.readSecret(name)
	what, do := Flaw(secret.Reveal())
	if err != nil || what == "" {
		return secret, err
	}
	in := ""
	if path := e.Values[name+"_FILE"]; path != "" {
		name, in = name+"_FILE", " in "+path
	}
	e.SecretWarnings[name] = secretWarning{"the secret" + in + " " + what + "; it is used as it is",
		"if that is a mistake, " + do}
	return secret, nil
}

// readSecret reads a secret from its variable or its file; the secret is zero if neither is set. An
// empty variable counts as not set: deployment templates often leave empty variables.
func (e Environment) readSecret(name string) (imclient.Secret, error) {
	value, path := e.Values[name], e.Values[name+"_FILE"]
	switch {
	case value != "" && path != "":
		return imclient.Secret{},
			Usagef("%s and %s_FILE are both set; which one counts?", name, name)
	case path != "":
		if what, do := Flaw(path); what != "" {
			return imclient.Secret{}, Usagef("%s_FILE %s: %s", name, what, do)
		}
		var err error
		if value, err = secretFile(path); err != nil {
			return imclient.Secret{}, Usagef("%s_FILE: %v", name, err)
		}
	}
	return imclient.NewSecret(trimNewline(value)), nil
}

// AdminToken returns the token of the admin server; it is zero if none is set. A token that no HTTP
// header can carry is an error: it would lock everybody out.
func (e Environment) AdminToken() (imclient.Secret, error) {
	token, err := e.Secret(AdminToken)
	if text := token.Reveal(); text != strings.TrimSpace(text) ||
		strings.ContainsFunc(text, unicode.IsControl) {
		return imclient.Secret{}, Usagef("%s has white space around it, or control characters: "+
			"no request could carry it", AdminToken)
	}
	return token, err
}

// MaxSecretFile is the largest size of a secret's file, in bytes: a wrong path may lead to any
// file.
const MaxSecretFile = 4 << 10

// secretFile reads a secret from a regular file. A pipe returns its text only once and may block; a
// device may never end.
func secretFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		if !looksLikePath(path) {
			return "", errors.New("no such file (the value is not shown, in case it is the " +
				"secret itself: the variable must be the path of a file)")
		}
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxSecretFile+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > MaxSecretFile:
		return "", fmt.Errorf("%s has more than %d bytes, so it is not a secret", path,
			MaxSecretFile)
	case trimNewline(string(text)) == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return string(text), nil
}

// ordinaryPath matches an absolute path of at least two names that are typical for files and
// folders.
var ordinaryPath = regexp.MustCompile(`^(/[a-z0-9._-]{1,24}){2,}$`)

// looksLikePath reports whether the path of a missing file may be shown. The value may be the
// secret itself, and then it must not be shown. Secrets may contain slashes too, but they are not
// ordinary paths, and they don't begin with the name of an existing folder.
func looksLikePath(path string) bool {
	path = filepath.ToSlash(path)
	if ordinaryPath.MatchString(path) {
		return true
	}
	folder, _, below := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if strings.HasPrefix(path, "/") {
		folder = "/" + folder
	}
	info, err := os.Stat(filepath.FromSlash(folder))
	return below && err == nil && info.IsDir()
}

// Key returns the source of the IM key; nil if none is set. A key file is read again for every new
// signature, so that a rotated key needs no restart. It is read here, too, so that a wrong path
// fails at the start.
func (e Environment) Key() (imclient.KeySource, error) {
	secret, err := e.Secret(IMKey)
	if err != nil || secret.IsZero() {
		return nil, err
	}
	if path := e.Values[IMKey+"_FILE"]; path != "" {
		return imclient.KeyFile(path), nil
	}
	return imclient.Key(secret), nil
}

// trimNewline removes the newline that editors and `echo` leave at the end.
func trimNewline(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }

// IsConfiguration reports whether a flag has a variable: only flags in a group do.
func IsConfiguration(f *kong.Flag) bool { return f.Group != nil }

// Variable returns the name of a configuration flag's environment variable.
func Variable(flag string) string {
	return "MARKREAD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Variables returns the names of all variables that some command reads.
func Variables(app *kong.Application) map[string]bool {
	known := map[string]bool{}
	for _, name := range []string{SASLPassword, IMKey, AdminToken} {
		known[name], known[name+"_FILE"] = true, true
	}
	for _, command := range app.Leaves(false) {
		for _, f := range command.Flags {
			if IsConfiguration(f) {
				known[Variable(f.Name)] = true
			}
		}
	}
	return known
}
