package cli

import (
	"strings"
	"sync"
	"testing"

	"markread/cmd/markread/cli/config"
)

// What Kubernetes and docker create for Services is neither taken for a flag's value nor warned of;
// what may be a slip is.
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
		"MARKREAD_PORT_8780_SCTP_PORT=8780":          true, "MARKREAD_PORT_8780_TCP_ADDR=fd00::7": true,
		"MARKREAD_A_B_SERVICE_HOST=10.0.0.7": true,
		"MARKREAD_A_PORT=tcp://10.0.0.7:80":  true, "MARKREAD_A_B_PORT_80_TCP_ADDR=10.0.0.7": true,
		"MARKREAD_A_SERVICE_PORT=80": true,
		"MARKREAD_ADMIN_PORT=8780":   false, "MARKREAD_ADMIN_PORT=": false,
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
		"MARKREAD_RATE…": "MARKREAD_RATE", "MARKREAD_IM_KEY…": "MARKREAD_IM_KEY", "MARKREAD_X…": "",
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

// A password is read for each new connection, while others are made.
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
