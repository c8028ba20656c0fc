package cli

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"markread/cmd/markread/cli/clitest"
)

// A usage error exits with 2 and exactly one line that names the cause, and nothing has been
// started.
func TestWrongUsage(t *testing.T) {
	key := "MARKREAD_IM_KEY=" + clitest.TestKey
	runs := func(extra ...string) []string {
		return append([]string{"run", "--brokers", "localhost:9092", "--im-app-id", "1400000000"},
			extra...)
	}
	cases := []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no command", nil, nil, "markread --help"},
		{"unknown command", nil, []string{"rum"}, "rum"},
		{"unknown command", nil, []string{"refill", "file"}, "refill"},
		{"unknown flag", []string{key}, runs("--rates", "5"), "--rates"},
		{"flag before the command", []string{key}, []string{"--rate", "5", "run"}, "--rate"},
		{"argument too many", []string{key}, runs("now"), "now"},
		{"flag without its value", []string{key}, runs("--topic"), "--topic"},
		{"no brokers", []string{key}, []string{"run", "--im-app-id", "1"}, "--brokers"},
		{"empty brokers", []string{key, "MARKREAD_BROKERS="}, []string{"run", "--im-app-id", "1"},
			"--brokers"},
		{"broker without a port", []string{key},
			[]string{"run", "--brokers", "a:9092,b", "--im-app-id", "1"},
			"--brokers"},
		{"no app", []string{key}, []string{"run", "--brokers", "localhost:9092"}, "--im-app-id"},
		{"app 0", []string{key}, runs("--im-app-id", "0"), "--im-app-id"},
		{"no key", nil, runs(), "MARKREAD_IM_KEY"},
		{"empty key", []string{"MARKREAD_IM_KEY="}, runs(), "MARKREAD_IM_KEY"},
		{"key and key file",
			[]string{key, "MARKREAD_IM_KEY_FILE=" + clitest.File(t, clitest.TestKey)}, runs(),
			"MARKREAD_IM_KEY_FILE"},
		{"key file that is not there", []string{"MARKREAD_IM_KEY_FILE=/no/such/file"}, runs(),
			"MARKREAD_IM_KEY_FILE"},
		{"empty key file", []string{"MARKREAD_IM_KEY_FILE=" + clitest.File(t, "\n")}, runs(),
			"MARKREAD_IM_KEY_FILE"},
		{"key as a flag", nil, runs("--im-key", clitest.TestKey), "--im-key"},
		{"key as a flag, in one word", nil, runs("--im-key=" + clitest.TestKey), "--im-key"},
		{"no number", []string{key}, runs("--rate", "many"), "--rate"},
		{"no number, from the environment", []string{key, "MARKREAD_RATE=many"}, runs(), "--rate"},
		{"no duration", []string{key}, runs("--im-timeout", "5"), "--im-timeout"},
		{"negative rate", []string{key}, runs("--rate=-1"), "--rate"},
		{"negative rate, in two words", []string{key}, runs("--rate", "-1"), "--rate"},
		{"rate too high", []string{key}, runs("--rate", "100001"), "--rate"},
		{"version in the URL", []string{key}, runs("--im-url", "https://im.example/v4/openim"),
			"--im-url"},
		{"broker without a host", []string{key}, runs("--brokers", ":9092"), "is not HOST:PORT"},
		{"broker with port 0", []string{key}, runs("--brokers", "a:0"), "is not HOST:PORT"},
		{"no rate, another machine", []string{key}, runs("--rate", "0"), "--uncapped"},
		{"calls at a time with a rate", []string{key}, runs("--max-in-flight", "5"),
			"--max-in-flight"},
		{"no calls at a time", []string{key},
			runs("--rate", "0", "--uncapped", "--max-in-flight", "0"),
			"--max-in-flight"},
		{"timeout as short as the server's", []string{key}, runs("--im-timeout", "3s"),
			"--im-timeout"},
		{"timeout longer than the session allows", []string{key},
			runs("--im-timeout", "11.1s", "--drain-timeout", "20s"), "--im-timeout"},
		{"drain shorter than a call", []string{key}, runs("--drain-timeout", "5.9s"),
			"--drain-timeout"},
		{"drain longer than a rebalance", []string{key}, runs("--drain-timeout", "46s"),
			"--drain-timeout"},
		{"drain shorter than a call, from the environment",
			[]string{key, "MARKREAD_IM_TIMEOUT=10s"}, runs(),
			"--drain-timeout"},
		{"one topic for both lanes", []string{key}, runs("--backfill-topic", "mark-read"),
			"--backfill-topic"},
		{"letters into the topic", []string{key}, runs("--dead-letter-topic", "mark-read"),
			"--dead-letter-topic"},
		{"letters into the backfill topic", []string{key},
			runs("--dead-letter-topic", "mark-read-backfill"),
			"--dead-letter-topic"},
		{"empty topic", []string{key}, runs("--topic", ""), "--topic"},
		{"impossible topic", []string{key}, runs("--topic", "a b"), "--topic"},
		{"empty group", []string{key}, runs("--group", ""), "--group"},
		{"no TLS to another machine", []string{key}, runs("--im-url", "http://im.example"),
			"--im-insecure"},
		{"unknown region", []string{key}, runs("--im-url", "atlantis"), "--im-url"},
		{"password in the URL", []string{key},
			runs("--im-url", "https://u:"+clitest.TestKey+"@im.example"),
			"--im-url"},
		{"unknown mechanism", []string{key}, runs("--sasl", "gssapi"), "--sasl"},
		{"mechanism without a user", []string{key, "MARKREAD_SASL_PASSWORD=x"},
			runs("--sasl", "plain"), "--sasl-user"},
		{"mechanism without a password", []string{key}, runs("--sasl", "plain", "--sasl-user", "u"),
			"MARKREAD_SASL_PASSWORD"},
		{"user without a mechanism", []string{key}, runs("--sasl-user", "u"), "--sasl-user"},
		{"password twice", []string{key, "MARKREAD_SASL_PASSWORD=x",
			"MARKREAD_SASL_PASSWORD_FILE=" + clitest.File(t, "y")}, runs(),
			"MARKREAD_SASL_PASSWORD_FILE"},
		{"authority without TLS", []string{key}, runs("--tls-ca", "ca.pem"), "--tls-ca"},
		{"authority that is not there", []string{key}, runs("--tls", "--tls-ca", "/no/such/ca.pem"),
			"--tls-ca"},
		{"authority that is none", []string{key}, runs("--tls", "--tls-ca", clitest.File(t, "x")),
			"--tls-ca"},
		{"certificate without its key", []string{key}, runs("--tls", "--tls-cert", "c.pem"),
			"--tls-key"},
		{"certificate that is none", []string{key},
			runs("--tls", "--tls-cert", clitest.File(t, "x"), "--tls-key", clitest.File(t, "x")),
			"--tls-cert"},
		{"no attempts", []string{key}, runs("--attempts", "0"), "--attempts"},
		{"no memory", []string{key}, runs("--max-pending", "0"), "--max-pending"},
		{"no rejections allowed", []string{key}, runs("--max-rejected", "0"), "--max-rejected"},
		{"more rejections than all", []string{key}, runs("--max-rejected", "101"),
			"--max-rejected"},
		{"rejections with a sign", []string{key}, runs("--max-rejected", "95%"), "--max-rejected"},
		{"no backoff", []string{key}, runs("--backoff-initial", "0s"), "--backoff-initial"},
		{"backoff upside down", []string{key}, runs("--backoff-max", "100ms"), "--backoff-max"},
		{"no commits", []string{key}, runs("--commit-every", "0s"), "--commit-every"},
		{"admin port", []string{key}, runs("--admin-addr", "127.0.0.1"), "--admin-addr"},
		{"admin port too large", []string{key}, runs("--admin-addr", "127.0.0.1:65536"),
			"--admin-addr"},
		{"admin token with a space", []string{key, "MARKREAD_ADMIN_TOKEN=" + clitest.TestKey + " "},
			runs(),
			"MARKREAD_ADMIN_TOKEN"},
		{"admin token twice", []string{key, "MARKREAD_ADMIN_TOKEN=x",
			"MARKREAD_ADMIN_TOKEN_FILE=" + clitest.File(t, "y")}, runs(),
			"MARKREAD_ADMIN_TOKEN_FILE"},
		{"log level", []string{key}, runs("--log-level", "loud"), "--log-level"},
		{"log format", []string{key}, runs("--log-format", "xml"), "--log-format"},
		{"value with line breaks", []string{key}, runs("--topic", "a\nb\rc\x1b[31m"), "--topic"},
		{"argument with line breaks", []string{key}, runs("a\nb\rc\x1b[31m"), "a b c?[31m"},

		{"emit: a flag of the worker", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--rate", "5"}, "--rate"},
		{"emit: reader without peer", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a"}, "--peer"},
		{"emit: peer without reader", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--peer", "a"}, "--report"},
		{"emit: time without reader", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--read-time", "1"},
			"--read-time"},
		{"emit: event time without reader", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--event-time", "1"},
			"--event-time"},
		{"emit: empty accounts", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "", "--peer", ""},
			"--report"},
		{"emit: account too long", nil, []string{"emit", "--brokers", "localhost:9092", "--report",
			strings.Repeat("a", 33), "--peer", "b"}, "--report"},
		{"emit: milliseconds", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a", "--peer", "b",
				"--read-time", "1700000000000"}, "--read-time"},
		{"emit: peer not in ASCII", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a", "--peer", "b\u00f6b"},
			"--peer"},
		{"emit: read time in the future", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a",
				"--peer", "b", "--read-time", "9999999999"}, "--read-time"},
		{"emit: event time in the future", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a",
				"--peer", "b", "--event-time", "9999999999999"}, "--event-time"},
		{"emit: event time negative", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a", "--peer",
				"b", "--event-time=-1"}, "--event-time"},
		{"emit: event time in seconds", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a", "--peer",
				"b", "--event-time", "1700000000"}, "looks like seconds"},
		{"emit: event time in microseconds", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a",
				"--peer", "b", "--event-time", "1700000000000000"}, "looks like microseconds"},
		{"emit: a date for the event time", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a",
				"--peer", "b", "--event-time", "2025-10-09"},
			"--event-time: \"2025-10-09\" is not milliseconds since 1970 (13 to 15 digits): it " +
				"looks like a date"},
		{"emit: empty read time", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a", "--peer", "b",
				"--read-time", ""}, "--read-time must not be empty"},
		{"emit: a spreadsheet's day", nil,
			[]string{"emit", "--brokers", "localhost:9092", "--report", "a", "--peer",
				"b", "--read-time", "45939"}, "--read-time 45939 is before September 2001"},
		{"call: a date", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b",
				"--read-time", "20251009"}, "looks like a date"},
		{"call: a date with hyphens", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer",
				"b", "--read-time", "2025-10-09"}, "looks like a date"},
		{"call: reader too long", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", strings.Repeat("a", 33), "--peer",
				"b"}, "--report"},
		{"call: peer with a control character", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b\x7f"}, "--peer"},
		{"call: milliseconds", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b",
				"--read-time", "1700000000000"}, "looks like milliseconds"},
		{"call: time in the future", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b",
				"--read-time", "9999999999"}, "--read-time"},
		{"call: no reader", []string{key}, []string{"call", "--im-app-id", "1", "--peer", "b"},
			"--report"},
		{"call: empty peer", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", ""},
			"--peer"},
		{"call: time 0", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b", "--read-time",
				"0"}, "--read-time"},
		{"call: a flag of Kafka", []string{key},
			[]string{"call", "--im-app-id", "1", "--report", "a", "--peer", "b", "--topic", "t"},
			"--topic"},
		{"check: no key", nil, []string{"check", "--brokers", "k:1", "--im-app-id", "1"},
			"MARKREAD_IM_KEY"},
		{"check: a rule of the worker", []string{key, "MARKREAD_DRAIN_TIMEOUT=46s"},
			[]string{"check", "--brokers", "k:1", "--im-app-id", "1"},
			"--drain-timeout (MARKREAD_DRAIN_TIMEOUT)"},
		{"check: authority that is none", []string{key},
			[]string{"check", "--brokers", "k:1", "--im-app-id", "1",
				"--tls", "--tls-ca", clitest.File(t, "x")}, "--tls-ca"},
		{"pause: no scheme", nil, []string{"pause", "--admin-url", "localhost:8780"},
			"--admin-url"},
		{"pause: address alone", nil, []string{"pause", "--admin-url", "127.0.0.1:8780"},
			"such as http://127.0.0.1:8780"},
		{"pause: port alone", nil, []string{"pause", "--admin-url", ":8780"}, "--admin-url"},
		{"pause: empty", nil, []string{"pause", "--admin-url", ""}, "--admin-url"},
		{"pause: another scheme", nil, []string{"pause", "--admin-url", "ftp://localhost"},
			"--admin-url"},
		{"pause: no host", nil, []string{"pause", "--admin-url", "http://:8780"}, "--admin-url"},
		{"pause: a query", nil, []string{"pause", "--admin-url", "http://localhost:8780?x=1"},
			"--admin-url"},
		{"pause: password in the URL", nil,
			[]string{"pause", "--admin-url", "http://u:" + clitest.TestKey + "@localhost:8780"},
			"--admin-url"},
		{"pause: password in no URL", nil,
			[]string{"pause", "--admin-url", "u:" + clitest.TestKey + "@[localhost"},
			"--admin-url"},
		{"pause: token in clear", []string{"MARKREAD_ADMIN_TOKEN=" + clitest.TestKey},
			[]string{"pause", "--admin-url", "http://10.0.0.7:8780"}, "https"},
		{"pause: token twice",
			[]string{"MARKREAD_ADMIN_TOKEN=x", "MARKREAD_ADMIN_TOKEN_FILE=" + clitest.File(t, "y")},
			[]string{"pause"}, "MARKREAD_ADMIN_TOKEN_FILE"},
		{"pause: token of two lines",
			[]string{"MARKREAD_ADMIN_TOKEN=" + clitest.TestKey + "\n" + clitest.TestKey},
			[]string{"pause"}, "MARKREAD_ADMIN_TOKEN"},
		{"pause: a flag of resume", nil, []string{"pause", "--accept-rejections"},
			"--accept-rejections"},
		{"pause: a worker as an argument", nil, []string{"pause", "http://localhost:8780"},
			"unexpected argument"},
		{"resume: misspelt", nil, []string{"resume", "--accept-rejection"}, "--accept-rejections"},
		{"status: no brokers", nil, []string{"status"}, "--brokers"},
		{"status: broker with a scheme", nil,
			[]string{"status", "--brokers", "PLAINTEXT://kafka:9092"},
			"omit PLAINTEXT://"},
		{"status: broker without a port", nil, []string{"status", "--brokers", "kafka"},
			"--brokers"},
		{"status: one topic for both lanes", nil,
			[]string{"status", "--brokers", "k:1", "--backfill-topic", "mark-read"},
			"--backfill-topic"},
		{"status: letters among the events", nil,
			[]string{"status", "--brokers", "k:1", "--dead-letter-topic", "mark-read"},
			"--dead-letter-topic"},
		{"status: empty group", nil, []string{"status", "--brokers", "k:1", "--group", ""},
			"--group"},
		{"status: no replays", nil, []string{"status", "--brokers", "k:1", "--max-replays", "0"},
			"--max-replays"},
		{"status: too many replays, from the environment", []string{"MARKREAD_MAX_REPLAYS=1001"},
			[]string{"status", "--brokers", "k:1"}, "--max-replays (MARKREAD_MAX_REPLAYS)"},
		{"status: a flag of the worker", nil,
			[]string{"status", "--brokers", "k:1", "--rate", "200"}, "--rate"},
		{"status: it creates nothing", nil,
			[]string{"status", "--brokers", "k:1", "--create-topics"},
			"--create-topics"},
		{"status: user without a mechanism", nil,
			[]string{"status", "--brokers", "k:1", "--sasl-user", "u"},
			"--sasl-user"},
		{"status: authority that is none", nil,
			[]string{"status", "--brokers", "k:1", "--tls", "--tls-ca", clitest.File(t, "x")},
			"--tls-ca"},
		{"status: address alone", nil,
			[]string{"status", "--brokers", "k:1", "--admin-url", "127.0.0.1:8780"},
			"--admin-url"},
		{"status: token in clear", []string{"MARKREAD_ADMIN_TOKEN=" + clitest.TestKey},
			[]string{"status", "--brokers", "k:1", "--admin-url", "http://10.0.0.7:8780"},
			"--admin-url"},
		{"status: a group as an argument", nil, []string{"status", "--brokers", "k:1", "markread"},
			"unexpected argument"},
		{"status: misspelt", nil, []string{"status", "--brokers", "k:1", "--jason"}, "--jason"},
		{"console: no brokers", nil, []string{"console"}, "--brokers"},
		{"console: both", nil, []string{"console", "--brokers", "k:1", "--read-only",
			"--allow-replay"}, "--read-only and --allow-replay"},
		{"console: read only by its variable", []string{"MARKREAD_READ_ONLY=true"},
			[]string{"console", "--brokers", "k:1", "--allow-replay"},
			"--read-only (MARKREAD_READ_ONLY)"},
		{"console: address", nil, []string{"console", "--brokers", "k:1", "--console-addr", "8781"},
			"--console-addr"},
		{"console: peer without a port", nil,
			[]string{"console", "--brokers", "k:1", "--peers", "a:1,b"}, "--peers"},
		{"console: peer with port 0", nil,
			[]string{"console", "--brokers", "k:1", "--peers", "a:0"}, "--peers"},
		{"console: peer without a host", nil,
			[]string{"console", "--brokers", "k:1", "--peers", ":8780"}, "--peers"},
		{"console: peer with a scheme", nil,
			[]string{"console", "--brokers", "k:1", "--peers", "http://a:8780"}, "omit http://"},
		{"console: peers by semicolons", nil,
			[]string{"console", "--brokers", "k:1", "--peers", "a:1;b:2"}, "by commas"},
		{"console: peer with a password", nil,
			[]string{"console", "--brokers", "k:1", "--peers", "u:" + clitest.TestKey + "@a:1"},
			"--peers"},
		{"console: too many peers", []string{"MARKREAD_PEERS=" + strings.Repeat("a:1,", 501)},
			[]string{"console", "--brokers", "k:1"}, "--peers (MARKREAD_PEERS) has 501 workers"},
		{"console: port of peers", nil,
			[]string{"console", "--brokers", "k:1", "--peer-port", "65536"}, "--peer-port"},
		{"console: token twice",
			[]string{"MARKREAD_ADMIN_TOKEN=x", "MARKREAD_ADMIN_TOKEN_FILE=" + clitest.File(t, "y")},
			[]string{"console", "--brokers", "k:1"}, "MARKREAD_ADMIN_TOKEN_FILE"},
		{"console: no replays", nil,
			[]string{"console", "--brokers", "k:1", "--max-replays", "0"}, "--max-replays"},
		{"dev: console", nil, []string{"dev", "--console-addr", "x"}, "--console-addr"},
		{"dev: traffic", nil, []string{"dev", "--traffic=-1"}, "--traffic"},
		{"dev: address", nil, []string{"dev", "--kafka-addr", "9092"}, "--kafka-addr"},
		{"dev: a flag of the API", nil, []string{"dev", "--im-url", "china"}, "--im-url"},
		{"dev: drain", nil, []string{"dev", "--drain-timeout", "1s"}, "--drain-timeout"},
		{"sandbox: address", nil, []string{"sandbox", "--addr", "here"}, "--addr"},
		{"sandbox: app", nil, []string{"sandbox", "--app-id", "0"}, "--app-id"},
		{"sandbox: rate", nil, []string{"sandbox", "--rate=-1"}, "--rate"},
		{"version: any flag", nil, []string{"version", "--json"}, "--json"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			// A misspelt variable is set, too: its warning must not become a second line.
			r := try(t, append([]string{"MARKREAD_RATES=1"}, c.env...), "", c.args...)
			if r.Status != ExitUsage {
				t.Fatalf("exit status %d, stderr: %s", r.Status, r.Stderr)
			}
			if strings.Count(r.Stderr, "\n") != 1 || !strings.HasSuffix(r.Stderr, "\n") ||
				!strings.HasPrefix(r.Stderr, "markread: ") {
				t.Errorf("not one line: %q", r.Stderr)
			}
			if !strings.Contains(r.Stderr, c.want) {
				t.Errorf("%q does not name %s", r.Stderr, c.want)
			}
			// If an event's flag is wrong, only that flag is named.
			if own := regexp.MustCompile(`--(report|peer|read-time|event-time)`).
				FindAllString(r.Stderr, -1); len(own) > 1 && !strings.Contains(r.Stderr, "needs") &&
				!strings.Contains(r.Stderr, " is for ") {
				t.Errorf("more than one flag is blamed: %q", r.Stderr)
			}
			if strings.Contains(r.Stderr, "header") {
				t.Errorf("a flag is called a header: %q", r.Stderr)
			}
			if r.Stdout != "" {
				t.Errorf("stdout: %q", r.Stdout)
			}
			if strings.Contains(r.Stderr, clitest.TestKey) {
				t.Errorf("the key is shown: %q", r.Stderr)
			}
			if strings.ContainsAny(r.Stderr, "\r\x1b") {
				t.Errorf("raw control characters: %q", r.Stderr)
			}
		})
	}
}

// Usage errors are in our own words. If a value came from a variable, they name the variable.
func TestUsageMessages(t *testing.T) {
	for _, c := range []struct {
		env  string
		args []string
		want string
	}{
		{"", []string{"--im-timeout"}, "--im-timeout needs a value"},
		{"", []string{"--im-timeout", "5"}, "--im-timeout: 5 has no unit: 5s"},
		{"MARKREAD_IM_TIMEOUT=5", nil, "--im-timeout (MARKREAD_IM_TIMEOUT): 5 has no unit: 5s"},
		{"", []string{"--topic", "--" + strings.Repeat("x", 21)},
			"--topic needs a value; what follows looks like another flag (a value that begins " +
				"with a hyphen goes after an equals sign)"},
		{"", []string{"--log-level", strings.Repeat("x", 21)},
			`--log-level must be one of "debug","info","warn","error" but got more than 20 ` +
				`characters`},
		{"", []string{strings.Repeat("x", 21)}, "unexpected argument, of more than 20 characters"},
		{"", []string{"MARKREAD_RATE=5"},
			"unexpected argument MARKREAD_RATE=…: variables go before the command"},
		{"", []string{"--im-key" + strings.Repeat("X", 21)},
			"unknown flag, of more than 20 characters"},
		{"", []string{"--rate", "-1"},
			`--rate needs a value; "-1" looks like another flag (a value that begins with a ` +
				`hyphen goes after an equals sign)`},
		{"", []string{"--topic", "--group", "g"},
			`--topic needs a value; "--group" looks like another flag (a value that begins with ` +
				`a hyphen goes after an equals sign)`},
		{"", []string{"--log-format", "xml"},
			`--log-format must be one of "json","console" but got "xml"`},
		{"", []string{"--rate=-1"}, "--rate must not be negative"},
		{"MARKREAD_RATE=-1", nil, "--rate (MARKREAD_RATE) must not be negative"},
		{"MARKREAD_RATE=abc", nil, `--rate (MARKREAD_RATE): "abc" is not a whole number written ` +
			`in digits`},
		{"MARKREAD_RATE=-1", []string{"--rate=-2"}, "--rate must not be negative"},
		{"MARKREAD_LOG_FORMAT=xml", nil,
			`--log-format (MARKREAD_LOG_FORMAT) must be one of "json","console" but got "xml"`},
		{"MARKREAD_IM_TIMEOUT=10s", nil,
			"--drain-timeout 10s: must be at least --im-timeout (MARKREAD_IM_TIMEOUT) (10s) + " +
				"1s, so that calls in flight can finish"},
		{"MARKREAD_IM_URL=", nil, "--im-url (MARKREAD_IM_URL): "},
	} {
		r := try(t, []string{"MARKREAD_IM_KEY=" + clitest.TestKey, c.env}, "",
			append([]string{"run", "--brokers", "k:1", "--im-app-id", "7"}, c.args...)...)
		if r.Status != ExitUsage || !strings.HasPrefix(r.Stderr, "markread: "+c.want) ||
			(!strings.HasSuffix(c.want, " ") && r.Stderr != "markread: "+c.want+"\n") {
			t.Errorf("%s %v: %d %q, want %q", c.env, c.args, r.Status, r.Stderr, c.want)
		}
	}
}

// Every command has a short help with an example.
func TestHelp(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	lines := [][]string{{"--help"}, {"-h"}, {"run", "-h"}, {"run", "--help", "--topic", "x"}}
	for _, leaf := range parser.Model.Leaves(false) {
		lines = append(lines, append(strings.Fields(leaf.FullPath())[1:], "--help"))
	}
	for _, args := range lines {
		r := try(t, nil, "", args...)
		if r.Status != ExitOK || r.Stderr != "" || !strings.HasPrefix(r.Stdout, "Usage: markread") {
			t.Errorf("%v: status %d, stderr %q, stdout %q", args, r.Status, r.Stderr, r.Stdout)
		}
		if lines := strings.Count(r.Stdout, "\n"); lines > 95 { // check has all flags of run
			t.Errorf("%v: %d lines are no short help", args, lines)
		}
		name, _, _ := strings.Cut(strings.Join(args, " "), " -")
		if !strings.HasPrefix(name, "-") && !strings.Contains(r.Stdout, "    markread "+name) {
			t.Errorf("%v: no example in %s", args, r.Stdout)
		}
	}
	r := try(t, nil, "", "run", "--help")
	for _, want := range []string{"MARKREAD_SOME_FLAG", "--rate=200", "mark-read-dead-letters"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("run --help does not show %s", want)
		}
	}
	if r := try(t, nil, "", "emit", "--help"); strings.Contains(r.Stdout, "MARKREAD_REPORT") {
		t.Error("a command's own flag claims to have a variable")
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		r := try(t, nil, "", arg)
		if r.Status != ExitOK || r.Stderr != "" || !strings.HasPrefix(r.Stdout, "markread ") ||
			!strings.Contains(r.Stdout, "commit ") || !strings.Contains(r.Stdout, "go1.") {
			t.Errorf("%s: %+v", arg, r)
		}
	}
}

func TestUnknownVariablesAreOneWarningEach(t *testing.T) {
	r := try(t, []string{"MARKREAD_RATES=1", "MARKREAD_TOPICS=2", "MARKREAD_REPORT=x",
		"MARKREAD_RATE=200",
		"MARKREAD_TOPIC=t", "MARKREAD_IM_KEY=" + clitest.TestKey,
		"MARKREAD_IM_KEY_FILE=", "MARKREAD_ADMIN_TOKEN_FILE=", "OTHER_RATES=1"}, "", "version")
	if r.Status != ExitOK || strings.Count(r.Stderr, "\n") != 3 {
		t.Fatalf("%d\n%s", r.Status, r.Stderr)
	}
	for _, want := range []string{"MARKREAD_RATES", "MARKREAD_TOPICS", "MARKREAD_REPORT"} {
		if strings.Count(r.Stderr, `"`+want+`"`) != 1 {
			t.Errorf("no warning of %s: %s", want, r.Stderr)
		}
	}
	if strings.Contains(r.Stderr, clitest.TestKey) {
		t.Error("the key is shown")
	}
}

// A command whose context has already ended stops cleanly.
func TestStopBeforeStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr clitest.Buffer
	status := Run(ctx, []string{"sandbox", "--addr", "127.0.0.1:0"}, nil, strings.NewReader(""),
		&stdout, &stderr)
	if status != ExitOK {
		t.Errorf("status %d: %s", status, &stderr)
	}
}
