package secrets

import (
	"strings"
	"testing"

	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
)

// A secret in the wrong place is a common mistake: the secret itself instead of its file's name,
// the app's key instead of the app's id, the variable after the command, a URL with a password. The
// error does not show it.
func TestSecretsInTheWrongPlace(t *testing.T) {
	const secret = "CAN4RY+5bd2850fff/3ecb11d7c805251c51ee463a25727b=="
	key := "MARKREAD_IM_KEY=" + clitest.TestKey
	runs := func(extra ...string) []string {
		return append([]string{"run", "--brokers", "localhost:9092", "--im-app-id", "1400000000"},
			extra...)
	}
	const pem = "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n"
	for name, c := range map[string]struct {
		env  []string
		args []string
		want string // the error still contains this
	}{
		"a flag for the key":              {nil, runs("--im-key", secret), "--im-key"},
		"a flag for the key, in one word": {nil, runs("--im-key=" + secret), "--im-key"},
		"before the command": {nil, append([]string{"--im-key=" + secret}, runs()...),
			"--im-key"},
		"a letter for the key": {nil, runs("-k" + secret), "-k"},
		"with hyphens":         {nil, runs("--" + secret), "unknown flag"},
		"as an argument":       {nil, runs(secret), "unexpected argument"},
		"as a command":         {nil, []string{secret}, "unexpected argument"},
		"a variable after the command": {nil, runs("MARKREAD_IM_KEY=" + secret),
			"MARKREAD_IM_KEY"},
		"for the app's id": {nil, runs("--im-app-id", secret), "--im-app-id"},
		"for the app's id, variable": {[]string{"MARKREAD_IM_APP_ID=" + secret},
			[]string{"run", "--brokers", "k:1"}, "MARKREAD_IM_APP_ID"},
		"for the sandbox's app":       {nil, []string{"sandbox", "--app-id", secret}, "--app-id"},
		"for a number":                {[]string{key}, runs("--rate", secret), "--rate"},
		"for a number, with a hyphen": {[]string{key}, runs("--rate", "-"+secret), "--rate"},
		"for a duration": {[]string{key}, runs("--im-timeout", secret),
			"--im-timeout"},
		"for a switch":      {[]string{key}, runs("--tls=" + secret), "--tls"},
		"for the mechanism": {[]string{key}, runs("--sasl", secret), "--sasl"},
		"for a time": {[]string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b", "--read-time",
				secret}, "--read-time"},
		"for an account": {[]string{key},
			[]string{"call", "--im-app-id", "1", "--report", secret, "--peer", "b"}, "--report"},
		"in the URL": {[]string{key}, runs("--im-url", "https://user:"+secret+"@im.example"),
			"--im-url"},
		"in the URL without a scheme": {[]string{key},
			runs("--im-url", "user:"+secret+"@im.example"), "--im-url"},
		"in the URL's query": {[]string{key},
			runs("--im-url", "https://im.example?usersig="+secret),
			"--im-url"},
		"in a broker": {[]string{key}, runs("--brokers", "user:"+secret+"@kafka:9092"),
			"--brokers"},
		"in a broker, password only": {[]string{key}, runs("--brokers", secret+"@kafka:9092"),
			"--brokers"},
		"in a broker's URL": {[]string{key,
			"MARKREAD_BROKERS=sasl://user:" + secret + "@kafka:9092"},
			[]string{"run", "--im-app-id", "1"}, "MARKREAD_BROKERS"},
		"in the admin address": {[]string{key},
			runs("--admin-addr", "admin:"+secret+"@127.0.0.1:0"),
			"--admin-addr"},
		"in the admin URL": {nil,
			[]string{"pause", "--admin-url", "https://admin:" + secret + "@markread.example"},
			"--admin-url"},
		"in the admin URL's query": {nil,
			[]string{"resume", "--admin-url", "https://markread.example/?token=" + secret},
			"--admin-url"},
		"for the admin URL": {nil, []string{"pause", "--admin-url", secret}, "--admin-url"},
		"in the admin URL of status": {nil, []string{"status", "--brokers", "k:1", "--admin-url",
			"https://admin:" + secret + "@markread.example"}, "--admin-url"},
		"for the replays of status": {nil,
			[]string{"status", "--brokers", "k:1", "--max-replays", secret},
			"--max-replays"},
		"in a broker of status": {nil,
			[]string{"status", "--brokers", "user:" + secret + "@kafka:9092"},
			"--brokers"},
		"in the address of dev": {nil,
			[]string{"dev", "--kafka-addr", "u:" + secret + "@127.0.0.1:0"},
			"--kafka-addr"},
		"for the key's file": {[]string{"MARKREAD_IM_KEY_FILE=" + secret}, runs(),
			"MARKREAD_IM_KEY_FILE"},
		"for the key's file, a slash": {[]string{"MARKREAD_IM_KEY_FILE=/" + secret}, runs(),
			"MARKREAD_IM_KEY_FILE"},
		"for the password's file": {[]string{key, "MARKREAD_SASL_PASSWORD_FILE=" + secret}, runs(),
			"MARKREAD_SASL_PASSWORD_FILE"},
		"for the token's file": {[]string{key, "MARKREAD_ADMIN_TOKEN_FILE=" + secret}, runs(),
			"MARKREAD_ADMIN_TOKEN_FILE"},
		"for the certificate's key": {[]string{key, "MARKREAD_TLS_KEY=" + pem},
			runs("--tls", "--tls-cert", clitest.File(t, "x")), "MARKREAD_TLS_KEY"},
		"for the certificate's key, flag": {[]string{key},
			runs("--tls", "--tls-cert", clitest.File(t, "x"), "--tls-key="+pem), "--tls-key"},
		"in the certificate's file": {[]string{key},
			runs("--tls", "--tls-cert", clitest.File(t, pem), "--tls-key", clitest.File(t, pem)),
			"--tls-cert"},
		"in the authorities' file": {[]string{key},
			runs("--tls", "--tls-ca", clitest.File(t, secret)),
			"--tls-ca"},
		"a password that SCRAM refuses": {[]string{key, "MARKREAD_SASL_PASSWORD=" + secret + "\t"},
			runs("--sasl", "scram-sha-512", "--sasl-user", "u"), "--sasl"},
	} {
		h := newSecretFinder()
		h.add("the secret", secret)
		r := clitest.Commands(cli.Run).Try(t, c.env, "", c.args...)
		if r.Status != cli.ExitUsage || strings.Count(r.Stderr, "\n") != 1 ||
			!strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s: %d %q, which should name %s", name, r.Status, r.Stderr, c.want)
		}
		h.check(t, name, r.Stdout+r.Stderr)
	}
}

// A value that looks like a path is shown; a value that could be a secret with a slash is not.
func TestMissingPathsAreShown(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"/no/such/file", dir + "/key", "./key", "../key", "/kJ8s/Qz0aXw",
		"/key",
		"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/b"} {
		r := clitest.Commands(cli.Run).
			Try(t, []string{"MARKREAD_IM_KEY_FILE=" + path}, "", "call", "--im-app-id", "1",
				"--report", "a", "--peer", "b")
		if shown := strings.Contains(r.Stderr, path); shown != (path[0] == '.' ||
			strings.HasSuffix(path, "/key") &&
				path != "/key" || path == "/no/such/file") || r.Status != cli.ExitUsage {
			t.Errorf("%s: %q", path, r.Stderr)
		}
	}
}
