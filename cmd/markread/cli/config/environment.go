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

// The secrets. Each also has a variable with _FILE at the end that names a file with the secret.
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
	SecretWarnings map[string]secretWarning // of the secrets that were asked for, by variable
}

// secretWarning is a secret with something around it or in it that may not belong to it.
type secretWarning struct{ Found, Do string }

// NewEnvironment takes the form of os.Environ; of a repeated name the first counts.
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

// Resolve gives kong the value of a flag's variable; kong asks for flags only that are not on the
// command line. An empty variable is a value for a flag that is free text: an empty backfill topic
// switches the lane off. For any other flag it counts as not set, as for secrets.
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

// Explain adds the variable to each flag that a text names, at its first mention, if the flag's
// value came from there: whoever set a variable looks for its name. What is missing may be in a
// variable that is misspelt.
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
		text += "; nothing reads " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")
	}
	return text
}

// Validate is kong's; there is nothing to check.
func (e Environment) Validate(*kong.Application) error { return nil }

// ourVariable finds the name in what was meant to be a variable of ours. Behind it may be a value: in an
// env file in the form of YAML the name extends to the first equals sign.
var ourVariable = regexp.MustCompile(`(?i)^(?:\W|export\s)*(markread_\w*)`)

// Unknown are the variables that no command reads, with what to do if that is clear: a misspelt one
// would otherwise leave a default in force unseen.
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

// serviceLink is the name of a variable that Kubernetes creates in all pods for each Service, of
// which one is called markread or markread-something, and docker for a link.
var serviceLink = regexp.MustCompile(`^MARKREAD_(\w+?_)??` +
	`(SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$`)

// IsServiceLink reports whether a variable is one of those. MARKREAD_ADMIN_PORT=8780 is none, but a
// slip: what Kubernetes creates is a URL.
func IsServiceLink(name, value string) bool {
	m := serviceLink.FindStringSubmatch(name)
	return m != nil && (m[1] == "" || m[2] != "PORT" || strings.Contains(value, "://"))
}

// WarnOfUnknown warns of variables that nothing reads.
func (e Environment) WarnOfUnknown(log zerolog.Logger) {
	names := e.Unknown()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		line := log.Warn().Str("variable", name)
		if names[name] != "" {
			line.Str("do", names[name])
		}
		line.Msg("nothing reads this variable; is it misspelt?")
	}
}

// WarnOfVariables is what every command warns of; check has secrets in its report instead.
func (e Environment) WarnOfVariables(log zerolog.Logger) {
	e.WarnOfUnknown(log)
	for _, name := range slices.Sorted(maps.Keys(e.SecretWarnings)) {
		odd := e.SecretWarnings[name]
		log.Warn().Str("variable", name).Str("do", odd.Do).Msg(odd.Found)
	}
}

// Secret reads a secret that the command uses, and notes whether to warn of it.
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

// readSecret reads a secret from its variable or its file; zero if neither is set. An empty
// variable counts as not set: deployment templates leave empty ones behind.
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

// AdminToken is the token of the admin server; zero if none is set. One that no header can carry
// would lock everybody out.
func (e Environment) AdminToken() (imclient.Secret, error) {
	token, err := e.Secret(AdminToken)
	if text := token.Reveal(); text != strings.TrimSpace(text) ||
		strings.ContainsFunc(text, unicode.IsControl) {
		return imclient.Secret{}, Usagef("%s has white space around it, or control characters: "+
			"no request could carry it", AdminToken)
	}
	return token, err
}

// MaxSecretFile bounds what is read of a secret's file: a wrong path may lead to anything.
const MaxSecretFile = 4 << 10

// secretFile reads a secret from a file. It must be a regular one: a pipe gives its text once only
// and may block, a device may never end.
func secretFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		if !looksLikePath(path) {
			return "", errors.New("no such file (the value is not shown, in case it is the " +
				"secret itself: the variable wants the path of a file)")
		}
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", path)
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
		return "", fmt.Errorf("%s has more than %d bytes, so it is no secret", path, MaxSecretFile)
	case trimNewline(string(text)) == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return string(text), nil
}

// ordinaryPath is an absolute path of at least two names as people give them to files and folders.
var ordinaryPath = regexp.MustCompile(`^(/[a-z0-9._-]{1,24}){2,}$`)

// looksLikePath reports whether the path of a file that is not there may be shown. It may not when
// somebody could have given the secret itself in its place: secrets have slashes too, but they are
// no ordinary path, nor do they begin with the name of a folder that is there.
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

// Key is the source of the IM key; nil if none is set. A file is read again when a signature is
// made, so that a rotated key needs no restart; here it is read once so that a wrong path shows at
// the start.
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

// trimNewline cuts the newline that editors and `echo` leave at the end.
func trimNewline(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }

// IsConfiguration reports whether a flag has a variable: those in a group have.
func IsConfiguration(f *kong.Flag) bool { return f.Group != nil }

// Variable is the environment variable of a configuration flag.
func Variable(flag string) string {
	return "MARKREAD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Variables are all variables that some command reads.
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
