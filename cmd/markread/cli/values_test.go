package cli

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"markread/cmd/markread/cli/config"
)

func TestFlaw(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "markread": "", "a:1, b:2": "", "$ConnectionString": "", "CN=Some One,O=Org": "",
		"O'Brien": "", "/etc/my certs/ca#1.pem": "", "a\"b": "", "über": "", "$": "", "#1": "",
		"$$": "",
		`"`:  "quote", `"a"`: "quote", `'a'`: "quote", `"a`: "quote", "a'": "quote",
		"“a”": "quote", "`a`": "quote",
		"\uFEFFa": "byte order mark",
		"a\r":     "carriage return", "\"a\"\r": "carriage return", "\r": "carriage return",
		" a": "white space", "a ": "white space", "a\n": "white space", "\ta": "white space",
		"\u00a0a": "white space", " ": "white space",
		"a\tb": "control", "a\nb": "control", "a\x00b": "control", "a\x1b[31m": "control",
		"${A}": "unexpanded", "a-${A_B}-c": "unexpanded", "$(A)": "unexpanded",
		"${A:-b}": "unexpanded",
		"a # b":   "comment", "a #b": "comment", "a# b": "comment", "# b": "comment",
		" # b":                               "comment",
		"-----BEGIN CERTIFICATE-----\nMII\n": "PEM",
	} {
		what, do := config.Flaw(value)
		if !strings.Contains(what, want) || (what == "") != (want == "") ||
			(do == "") != (want == "") {
			t.Errorf("%q: %q, %q, want %q", value, what, do, want)
		}
	}
}

// Quotes are refused in every variable of every command; the error names the variable and does not
// show the value.
func TestVariablesInQuotes(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, command := range parser.Model.Leaves(false) {
		words := strings.Fields(command.Path())
		for _, f := range command.Flags {
			if !config.IsConfiguration(f) {
				continue
			}
			tried++
			p := &process{env: config.NewEnvironment([]string{config.Variable(f.Name) + `="hush"`})}
			_, err := p.parse(words)
			var usage *config.UsageError
			if !errors.As(err, &usage) {
				t.Errorf("%s, --%s: %v", command.Path(), f.Name, err)
				continue
			}
			text := p.env.Explain(usage.Error())
			want := "--" + f.Name + " (" + config.Variable(f.Name) +
				") begins or ends with a quote: "
			if !strings.HasPrefix(text, want) || strings.Contains(text, "hush") {
				t.Errorf("%s, --%s: %s", command.Path(), f.Name, text)
			}
		}
	}
	if tried < 50 {
		t.Errorf("only %d", tried)
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]string{
		"5": "5 has no unit: 5s", "0.5": "0.5 has no unit: 0.5s",
		"200": "200 has no unit: 200ms or 200s", "5m30": "30 has no unit: 5m30s",
		"1h30": "30 has no unit: 1h30m", "1s500": "500 has no unit: 1s500ms",
		"1d12": "12 has no unit: 24h12h",
		"5 s":  `write "5 s" as 5s`, " 5s": `write " 5s" as 5s`, "5S": `write "5S" as 5s`,
		"5sec":                `write "5sec" as 5s`,
		"2 minutes 5 seconds": `write "2 minutes 5 seconds" as 2m5s`,
		"1d":                  `write "1d" as 24h`, "1D6h": `write "1D6h" as 24h6h`,
		"500 msec": `write "500 msec" as 500ms`, "1.5 hours": `write "1.5 hours" as 1.5h`,
		"":           `"" is not a duration such as 5s or 500ms`,
		"5 30":       `"5 30" is not a duration such as 5s or 500ms`,
		"5ms5":       `"5ms5" is not a duration such as 5s or 500ms`,
		"1.5d":       `"1.5d" is not a duration such as 5s or 500ms`,
		"5w":         `"5w" is not a duration such as 5s or 500ms`,
		"5,5s":       `"5,5s" is not a duration such as 5s or 500ms`,
		"999999999h": `"999999999h" is not a duration such as 5s or 500ms`,
		"00:05":      `"00:05" is not a duration such as 5s or 500ms`,
		"-5":         `"-5" is not a duration such as 5s or 500ms`,
		strings.Repeat("k",
			21): "a value of more than 20 characters is not a duration such as 5s or 500ms",
	} {
		if d, err := config.ParseDuration(text); err == nil || err.Error() != want {
			t.Errorf("%q: %s, %v, want %s", text, d, err, want)
		}
	}
	for _, text := range []string{"5s", "+5s", "0", "1m30s", "1.5h", "3001ms"} {
		if _, err := config.ParseDuration(text); err != nil {
			t.Error(err)
		}
	}
}

// Integers are parsed as people read them: 010 is not 8.
func TestWholeNumbers(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "200": 200, "-1": -1, "+5": 5, "1_000": 1000, "100": 100,
	} {
		if n, err := config.ParseInt(text, 64); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for text, want := range map[string]string{
		"": "not a whole number", "200/s": "not a whole number", "1e3": "not a whole number",
		"500k": "not a whole number", "2.0": "not a whole number",
		"010": "begins with a zero", "-01": "begins with a zero", "089": "begins with a zero",
		"00": "begins with a zero", "0_1": "begins with a zero",
		"9223372036854775808": "too large", strings.Repeat("9",
			21): "a value of more than 20 characters is too large",
	} {
		if n, err := config.ParseInt(text, 64); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d, %v, want %s", text, n, err, want)
		}
	}
	if n, err := config.ParseInt(strconv.Itoa(1<<31), 32); err == nil {
		t.Errorf("32 bits: %d", n)
	}
}

// Variables that Kubernetes and docker create for Services are neither used as a flag's value nor
// warned of; a likely mistake is.
func TestServiceLinks(t *testing.T) {
	p := &process{env: config.NewEnvironment(nil)}
	if _, err := p.parse([]string{"version"}); err != nil {
		t.Fatal(err)
	}
	for name := range p.env.Known {
		if config.IsServiceLink(name, "tcp://10.0.0.7:1") {
			t.Errorf("%s, which is a flag's, could be created for a Service", name)
		}
	}
	for pair, want := range map[string]bool{
		"MARKREAD_PORT=tcp://10.0.0.7:8780": true, "MARKREAD_PORT=8780": true,
		"MARKREAD_SERVICE_HOST=10.0.0.7": true, "MARKREAD_SERVICE_PORT=8780": true,
		"MARKREAD_SERVICE_PORT_HTTP_ADMIN=8780":      true,
		"MARKREAD_PORT_8780_TCP=tcp://10.0.0.7:8780": true,
		"MARKREAD_PORT_8780_UDP_PROTO=udp":           true,
		"MARKREAD_PORT_8780_SCTP_PORT=8780":          true,
		"MARKREAD_PORT_8780_TCP_ADDR=fd00::7":        true,
		"MARKREAD_A_B_SERVICE_HOST=10.0.0.7":         true,
		"MARKREAD_A_PORT=tcp://10.0.0.7:80":          true,
		"MARKREAD_A_B_PORT_80_TCP_ADDR=10.0.0.7":     true,
		"MARKREAD_A_SERVICE_PORT=80":                 true,
		"MARKREAD_ADMIN_PORT=8780":                   false, "MARKREAD_ADMIN_PORT=": false,
		"MARKREAD_PORTS=1": false, "MARKREAD_PORT_8780=x": false, "MARKREAD_PORT_TCP=x": false,
		"MARKREAD_SERVICE=x": false, "MARKREAD_SERVICE_HOSTS=x": false,
		"MARKREAD_SERVICEHOST=x": false, "MARKREAD_HOST=x": false,
		"MARKREAD_PORT_8780_TLS=x":      false,
		"MARKREAD_PORT_8780_TCP_NAME=x": false, "MARKREAD_IM_KEY_PORT=x": false,
		"markread_port=tcp://10.0.0.7:8780": false, "XMARKREAD_PORT=1": false,
	} {
		name, value, _ := strings.Cut(pair, "=")
		if config.IsServiceLink(name, value) != want {
			t.Errorf("%s: %t", pair, !want)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	p := &process{env: config.NewEnvironment([]string{
		"MARKREAD_RATES=1", "MARKREAD_RATE=1", "MARKREAD_IM_KEY=k", "OLD_MARKREAD_RATE=1",
		"MARKREADRATE=1", "MARKREAD=1", "markread_rate=1",
		"export MARKREAD_RATE=1", "\ufeffMARKREAD_RATE=1", "MARKREAD_RATE =1",
		"MARKREAD_IM_KEY: hush=1", "MARKREAD_X-Y=1", "MARKREAD_PORT=1",
	})}
	if _, err := p.parse([]string{"version"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"MARKREAD_RATES": "", "markread_rate": "MARKREAD_RATE",
		"export MARKREAD_RATE": "MARKREAD_RATE", "\ufeffMARKREAD_RATE": "MARKREAD_RATE",
		"MARKREAD_RATE…": "MARKREAD_RATE", "MARKREAD_IM_KEY…": "MARKREAD_IM_KEY",
		"MARKREAD_X…": "",
	}
	got := p.env.Unknown()
	for name, right := range want {
		do, ok := got[name]
		if !ok || (right == "") != (do == "") || !strings.Contains(do, right) {
			t.Errorf("%q: %q, %t, want %q", name, do, ok, right)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%q", got)
	}
}

// A password is read for each new connection, while others connect.
func TestPasswordIsReadAtTheSameTime(t *testing.T) {
	env := config.NewEnvironment([]string{"MARKREAD_SASL_PASSWORD='p'"})
	f := &config.KafkaFlags{SASL: "plain", SASLUser: "u"}
	o, err := f.ClientOptions(env)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, _, err := o.SASL.Start(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
