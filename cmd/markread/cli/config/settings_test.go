package config_test

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"markread/cmd/markread/cli/config"
	"markread/worker/console"
)

// flags are those of a command that reads all secrets.
type flags struct {
	config.KafkaFlags  `embed:"" group:"Kafka:"`
	config.GroupFlags  `embed:"" group:"Topics and group:"`
	CreateTopics       bool `group:"Topics and group:"`
	config.IMFlags     `embed:"" group:"IM API:"`
	config.EngineFlags `embed:"" group:"Worker:"`
	Admin              config.AdminFlags `embed:"" group:"Admin server:"`
}

type commands struct {
	Run flags    `cmd:""`
	Dev struct { // flags of its own, and one secret
		Traffic     int
		Admin       config.AdminFlags `embed:"" group:"Admin server:"`
		ConsoleAddr string
	} `cmd:""`
	Console struct{ ConsoleAddr string } `cmd:""`
}

// settingsOf parses a command line, checks what changes a flag, and returns the command's settings
// by name.
func settingsOf(t *testing.T, env []string, args ...string) (map[string]console.Setting, flags) {
	t.Helper()
	var c commands
	e := config.NewEnvironment(env)
	parser, err := kong.New(&c, append(config.ParserOptions(), kong.Resolvers(e))...)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	if args[0] == "run" {
		if err := cmp.Or(c.Run.KafkaFlags.Check(e), c.Run.IMFlags.Check()); err != nil {
			t.Fatal(err)
		}
	}
	settings := map[string]console.Setting{}
	for _, s := range e.Settings(parsed) {
		if _, twice := settings[s.Name]; twice {
			t.Errorf("%s is listed twice", s.Name)
		}
		settings[s.Name] = s
	}
	return settings, c.Run
}

// Each setting has its effective value and its source; a secret only whether it is set, and since
// when.
func TestSettings(t *testing.T) {
	const password, key, token = "canary-password", "canary-key", "canary-token"
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(file, changed, changed); err != nil {
		t.Fatal(err)
	}
	env := []string{"MARKREAD_BROKERS=a:1, b:2", "MARKREAD_IM_APP_ID=7", "MARKREAD_BACKFILL_TOPIC=",
		"MARKREAD_RATE=50", "MARKREAD_GROUP=ignored", "MARKREAD_IM_URL=singapore",
		"MARKREAD_SASL=plain", "MARKREAD_SASL_USER=$user", "MARKREAD_MAX_PENDING=",
		"MARKREAD_SASL_PASSWORD=" + password, "MARKREAD_IM_KEY_FILE=" + file,
		"MARKREAD_ADMIN_TOKEN="}
	got, _ := settingsOf(t, env, "run", "--group", "mine", "--im-timeout", "6s", "--create-topics")
	env1 := func(name, value string) console.Setting {
		return console.Setting{Name: name, Value: value, Source: "environment",
			From: config.Variable(name[2:])}
	}
	flag := func(name, value string) console.Setting {
		return console.Setting{Name: name, Value: value, Source: "flag"}
	}
	unset := func(name, value string) console.Setting {
		return console.Setting{Name: name, Value: value, Source: "default"}
	}
	for _, want := range []console.Setting{
		env1("--brokers", "a:1,b:2"), env1("--im-app-id", "7"), env1("--backfill-topic", ""),
		env1("--rate", "50"), flag("--group", "mine"), flag("--im-timeout", "6s"),
		flag("--create-topics", "true"), unset("--max-pending", "500000"),
		unset("--max-in-flight", ""), unset("--backoff-initial", "200ms"), unset("--tls", "false"),
		env1("--im-url", "https://adminapisgp.im.qcloud.com"), env1("--sasl-user", "$user"),
		{Name: "MARKREAD_SASL_PASSWORD", Source: "environment", From: "MARKREAD_SASL_PASSWORD",
			Secret: &console.Secret{Set: true, Source: "environment"}},
		{Name: "MARKREAD_IM_KEY", Source: "file", From: "MARKREAD_IM_KEY_FILE",
			Secret: &console.Secret{Set: true, Source: "file", ChangedAt: &changed}},
		{Name: "MARKREAD_ADMIN_TOKEN", Source: "default", Secret: &console.Secret{}},
	} {
		if !reflect.DeepEqual(got[want.Name], want) {
			t.Errorf("got  %+v\nwant %+v", got[want.Name], want)
		}
	}
	text, err := json.Marshal(got)
	if err != nil || strings.Contains(string(text), "canary") {
		t.Errorf("%v: %s", err, text)
	}
	got, _ = settingsOf(t, []string{"MARKREAD_ADMIN_TOKEN=" + token}, "dev", "--traffic", "5")
	if s := got["MARKREAD_ADMIN_TOKEN"]; s.Value != "" || !s.Secret.Set {
		t.Errorf("%+v", s)
	}
	if s := got["--traffic"]; !reflect.DeepEqual(s, flag("--traffic", "5")) {
		t.Errorf("%+v", s)
	}
	group, _ := settingsOf(t, []string{"MARKREAD_ADMIN_TOKEN=" + token}, "console")
	if s := group["MARKREAD_ADMIN_TOKEN"]; s.Secret == nil || !s.Secret.Set {
		t.Errorf("console: %+v", s)
	}
	for _, name := range []string{"--help", "--im-app-id", "MARKREAD_IM_KEY"} {
		if _, has := got[name]; has {
			t.Errorf("dev has %s", name)
		}
	}
}

// The metric setting_info has exactly the tuning settings: no address, user or account. Their texts
// are those of the settings page.
func TestTuningSettings(t *testing.T) {
	for rate, count := range map[string]int{"100": 10, "0": 11} {
		shown, c := settingsOf(t, nil, "run", "--brokers", "k:1", "--im-app-id", "7", "--rate", rate)
		tuning := c.Options(c.IMTimeout, zerolog.Nop()).Settings
		for name, value := range tuning {
			s, known := shown["--"+name]
			if !known || s.Value != value && name != "max-in-flight" {
				t.Errorf("%s is %s, on the page %+v", name, value, s)
			}
		}
		if len(tuning) != count || tuning["rate"] != rate || rate == "0" &&
			tuning["max-in-flight"] != "256" {
			t.Errorf("--rate %s: %v", rate, tuning)
		}
	}
}
