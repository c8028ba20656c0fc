package cli

import (
	"cmp"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
	"markread/imclient"
)

// parseRun parses a command line and an environment, and returns the run command.
func parseRun(t *testing.T, env []string, args ...string) *runCommand {
	t.Helper()
	p := &process{env: config.NewEnvironment(env)}
	selected, err := p.parse(append([]string{"run"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return selected.(*runCommand)
}

// The defaults are those of the contract.
func TestDefaults(t *testing.T) {
	c := parseRun(t, nil, "--brokers", "k:1", "--im-app-id", "7")
	want := runCommand{workerFlags{
		KafkaFlags: config.KafkaFlags{Brokers: []string{"k:1"}},
		GroupFlags: config.GroupFlags{
			TopicsFlags: config.TopicsFlags{TopicFlag: config.TopicFlag{Topic: "mark-read"},
				BackfillFlag:   config.BackfillFlag{BackfillTopic: "mark-read-backfill"},
				DeadLetterFlag: config.DeadLetterFlag{DeadLetterTopic: "mark-read-dead-letters"}},
			GroupFlag: config.GroupFlag{Group: "markread"},
		},
		IMFlags: config.IMFlags{IMURL: "https://console.tim.qq.com", IMAppID: 7,
			IMAdmin:   "administrator",
			IMTimeout: 5 * time.Second},
		EngineFlags: config.EngineFlags{RateFlag: config.RateFlag{Rate: 200}, MaxPending: 500_000,
			MaxRejected: 95,
			Attempts:    8, BackoffInitial: 200 * time.Millisecond, BackoffMax: 30 * time.Second,
			ReplaysFlag: config.ReplaysFlag{MaxReplays: 3},
			CommitEvery: time.Second, DrainTimeout: 10 * time.Second},
		Admin: config.AdminFlags{AdminAddr: "127.0.0.1:8780"},
		Log:   config.LogFlags{LogLevel: "info"},
	}}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("got  %+v\nwant %+v", *c, want)
	}
	if c.CallLimit() != 200 {
		t.Errorf("calls at the same time: %d", c.CallLimit())
	}
	if c := parseRun(t, nil, "--brokers", "k:1", "--im-app-id", "7", "--rate",
		"0"); c.CallLimit() != 256 {
		t.Errorf("calls at the same time without a rate: %d", c.CallLimit())
	}
}

func TestFlagOverEnvironmentOverDefault(t *testing.T) {
	env := []string{"MARKREAD_BROKERS=a:1,b:2", "MARKREAD_IM_APP_ID=7", "MARKREAD_TOPIC=from-env",
		"MARKREAD_GROUP=from-env", "MARKREAD_BACKFILL_TOPIC=",
		"MARKREAD_CREATE_TOPICS=true", "MARKREAD_IM_TIMEOUT=7s", "MARKREAD_MAX_IN_FLIGHT=9",
		"MARKREAD_REPORT=x"}
	c := parseRun(t, env, "--group", "from-flag", "--rate", "0")
	if !reflect.DeepEqual(c.Brokers, []string{"a:1", "b:2"}) || c.IMAppID != 7 ||
		c.Topic != "from-env" ||
		c.Group != "from-flag" || c.BackfillTopic != "" ||
		!c.CreateTopics || c.IMTimeout != 7*time.Second ||
		c.DeadLetterTopic != "mark-read-dead-letters" ||
		c.CallLimit() != 9 {
		t.Errorf("%+v", *c)
	}
	c = parseRun(t, append(env, "MARKREAD_TLS=true"), "--brokers", "c:3", "--tls=false", "--rate",
		"0")
	if !reflect.DeepEqual(c.Brokers, []string{"c:3"}) || c.TLS {
		t.Errorf("%+v", *c)
	}
}

// A command's own flags can't be set from the environment.
func TestOwnFlagsHaveNoVariable(t *testing.T) {
	p := &process{env: config.NewEnvironment([]string{"MARKREAD_REPORT=a", "MARKREAD_PEER=b",
		"MARKREAD_TRAFFIC=9",
		"MARKREAD_APP_ID=9", "MARKREAD_RATE=9"})}
	selected, err := p.parse([]string{"emit", "--brokers", "k:1"})
	if err != nil || selected.(*emitCommand).Report != nil {
		t.Errorf("emit: %+v, %v", selected, err)
	}
	p.env.Values["MARKREAD_ALLOW_REPLAY"] = "true"
	selected, err = p.parse([]string{"console", "--brokers", "k:1"})
	if err != nil || selected.(*consoleCommand).AllowReplay {
		t.Errorf("console: %+v, %v", selected, err)
	}
	selected, err = p.parse([]string{"sandbox"})
	if err != nil || selected.(*sandboxCommand).AppID != app.LocalAppID ||
		selected.(*sandboxCommand).Rate != 200 {
		t.Errorf("sandbox: %+v, %v", selected, err)
	}
	selected, err = p.parse([]string{"dev"})
	if err != nil || selected.(*devCommand).Traffic != 20 || selected.(*devCommand).Rate != 9 {
		t.Errorf("dev: %+v, %v", selected, err)
	}
}

// The commands that the console shows have flags that exist, and lead to the same dead letters.
func TestConsoleCommandFlags(t *testing.T) {
	parse := func(args ...string) command {
		t.Helper()
		p := &process{env: config.NewEnvironment(nil)}
		selected, err := p.parse(args)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return selected
	}
	for _, extra := range [][]string{nil,
		{"--tls", "--tls-ca", "ca.pem", "--sasl", "plain", "--sasl-user", "u", "--max-replays", "5",
			"--dead-letter-topic", "d", "--backfill-topic", "b"},
		{"--topic", "t", "--backfill-topic", ""}} {
		c := parse(append([]string{"console", "--brokers", "k:1,l:2"}, extra...)...).(*consoleCommand)
		parse(append([]string{"dead-letters", "ls"}, c.commandFlags()...)...)
		r := parse(slices.Concat([]string{"dead-letters", "replay"}, c.commandFlags(),
			c.replayFlags())...).(*replayCommand)
		if r.target() != cmp.Or(c.BackfillTopic, c.Topic) || r.DeadLetterTopic != c.DeadLetterTopic ||
			!reflect.DeepEqual(r.Kafka.Brokers, c.Brokers) || r.Kafka.SASLUser != c.SASLUser ||
			r.MaxReplays != c.MaxReplays || r.Kafka.TLS != c.TLS {
			t.Errorf("%q: %+v", extra, r)
		}
	}
}

func TestValidConfigurations(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"--im-url", "singapore"},
		{"--im-url", "https://gateway.example/v4x"},
		{"--rate", "100000"},
		{"--im-url", "http://127.0.0.1:8790", "--rate", "0"},
		{"--im-url", "http://[::1]:8790"},
		{"--im-url", "http://LOCALHOST:8790"},
		{"--im-url", "http://im.example", "--im-insecure"},
		{"--rate", "0", "--uncapped", "--max-in-flight", "1"},
		{"--im-timeout", "3.001s", "--drain-timeout", "4.001s"},
		{"--im-timeout", "11s", "--drain-timeout", "45s"},
		{"--backfill-topic", ""},
		{"--admin-addr", ":0"},
		{"--brokers", "[::1]:9092,kafka-1.example:9093"},
		{"--backoff-initial", "1s", "--backoff-max", "1s"},
	} {
		c := parseRun(t, nil, append([]string{"--brokers", "k:1", "--im-app-id", "7"}, args...)...)
		if err := c.validate(config.NewEnvironment(nil)); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	c := parseRun(t, nil, "--brokers", "k:1", "--im-app-id", "7", "--im-url", "frankfurt")
	if err := c.validate(config.NewEnvironment(nil)); err != nil ||
		c.IMURL != "https://adminapiger.im.qcloud.com" {
		t.Errorf("region: %s, %v", c.IMURL, err)
	}
	c = parseRun(t, nil, "--brokers", "k:1", "--im-app-id", "7", "--sasl", "scram-sha-512",
		"--sasl-user", "u", "--tls")
	env := config.NewEnvironment([]string{"MARKREAD_SASL_PASSWORD_FILE=" + clitest.File(t,
		"secret\r\n")})
	if err := c.validate(env); err != nil {
		t.Errorf("SASL: %v", err)
	}
	if o, err := c.KafkaFlags.ClientOptions(env); err != nil || o.SASL == nil || o.TLS == nil {
		t.Errorf("SASL: %+v, %v", o, err)
	}
}

func TestSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		env  string
		want string
	}{
		"from the environment":       {"MARKREAD_IM_KEY=abc", "abc"},
		"newline in the environment": {"MARKREAD_IM_KEY=abc\n", "abc"},
		"from a file":                {"MARKREAD_IM_KEY_FILE=" + clitest.File(t, "abc"), "abc"},
		"file with a newline":        {"MARKREAD_IM_KEY_FILE=" + clitest.File(t, "abc\n"), "abc"},
		"file from Windows": {"MARKREAD_IM_KEY_FILE=" + clitest.File(t, "abc\r\n"),
			"abc"},
		"spaces belong to the secret": {"MARKREAD_IM_KEY_FILE=" + clitest.File(t, " abc \n"),
			" abc "},
		"equals signs too": {"MARKREAD_IM_KEY=a=b==", "a=b=="},
		"none":             {"OTHER=1", ""},
	} {
		secret, err := config.NewEnvironment([]string{c.env}).Secret(config.IMKey)
		if err != nil || secret.Reveal() != c.want {
			t.Errorf("%s: %q, %v", name, secret.Reveal(), err)
		}
	}
}

// A rotated key needs no restart.
func TestKeyFileIsReadAgain(t *testing.T) {
	path := clitest.File(t, "first\n")
	key, err := config.NewEnvironment([]string{"MARKREAD_IM_KEY_FILE=" + path}).Key()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		if err := os.WriteFile(path, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var got imclient.Secret
		if got, err = key(); err != nil || got.Reveal() != want {
			t.Errorf("%q, %v", got.Reveal(), err)
		}
	}
}

// Reading a secret's file is bounded; a pipe, which may block, is not read at all.
func TestInvalidSecretFiles(t *testing.T) {
	for name, c := range map[string]struct{ path, want string }{
		"a device":    {os.DevNull, "not a regular file"},
		"a directory": {t.TempDir(), "not a regular file"},
		"too long":    {clitest.File(t, strings.Repeat("k", config.MaxSecretFile+1)), "4096 bytes"},
		"empty":       {clitest.File(t, "\n"), "is empty"},
	} {
		for _, variable := range []string{config.IMKey, config.SASLPassword, config.AdminToken} {
			_, err := config.NewEnvironment([]string{variable + "_FILE=" + c.path}).Secret(variable)
			var usage *config.UsageError
			if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), variable+"_FILE: ") ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if secret, err := config.NewEnvironment([]string{config.IMKey + "_FILE=" + clitest.File(t,
		strings.Repeat("k", config.MaxSecretFile))}).Secret(config.IMKey); err != nil ||
		len(secret.Reveal()) != config.MaxSecretFile {
		t.Errorf("as long as may be: %v", err)
	}
}

// Deployment templates leave empty variables. Only in a flag with free text can "" be intended.
func TestEmptyVariables(t *testing.T) {
	var env []string
	for _, flag := range []string{"TLS", "CREATE_TOPICS", "IM_TIMEOUT", "RATE", "MAX_IN_FLIGHT",
		"LOG_LEVEL", "BROKERS",
		"IM_APP_ID"} {
		env = append(env, "MARKREAD_"+flag+"=")
	}
	if got, want := parseRun(t, env, "--brokers", "k:1", "--im-app-id", "7"),
		parseRun(t, nil, "--brokers", "k:1", "--im-app-id", "7"); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, *want)
	}
}
