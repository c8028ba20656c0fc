package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"markread/worker/preflight"
)

// Brokers that are not there, or refuse, or are no brokers: one line each, or one for all that fail alike, and what needs them is not asked.
func TestCheckOfBrokers(t *testing.T) {
	noLeaks(t)
	g := newGround(t, nil)
	all := strings.Join(g.cluster.ListenAddrs(), " ")
	web := strings.TrimPrefix(g.im, "http://")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	tlsAddr := strings.TrimPrefix(secure.URL, "https://")
	tlsPort := tlsAddr[strings.LastIndexByte(tlsAddr, ':'):]
	trusted := file(t, pemOf(secure.Certificate()))
	rest := g.args[3:]
	with := func(brokers string, extra ...string) []string {
		return slices.Concat([]string{"check", "--brokers", brokers}, rest, extra)
	}
	for name, c := range map[string]struct {
		args []string
		env  []string
		want preflight.Finding
	}{
		"no broker":         {with(closed.Addr().String()), nil, preflight.Wrong("broker", closed.Addr().String(), "nothing listens there", "--brokers")},
		"no name":           {with("kafka.invalid:9092"), nil, preflight.Wrong("broker", "kafka.invalid:9092", "can't be resolved", "--brokers")},
		"wrong password":    {g.args, []string{"MARKREAD_SASL_PASSWORD=canary-wrong"}, preflight.Wrong("broker", all, "SASL Authentication Failed", "--sasl-user and MARKREAD_SASL_PASSWORD")},
		"wrong user":        {append(slices.Clip(g.args), "--sasl-user", "nobody"), nil, preflight.Wrong("broker", all, "SASL Authentication Failed", "--sasl-user")},
		"wrong mechanism":   {append(slices.Clip(g.args), "--sasl", "scram-sha-512"), nil, preflight.Wrong("broker", all, "SASL", "--sasl")},
		"a web server":      {with(web), nil, preflight.Wrong("broker", web, "it is an HTTP server", "look at the port in --brokers")},
		"TLS wanted":        {with(tlsAddr), nil, preflight.Wrong("broker", tlsAddr, "", "add --tls")},
		"TLS not wanted":    {append(slices.Clip(g.args), "--tls"), nil, preflight.Wrong("broker", all, "says nothing", "leave out --tls")},
		"unknown authority": {with(tlsAddr, "--tls"), nil, preflight.Wrong("broker", tlsAddr, "certificate", "--tls-ca")},
		"wrong name":        {with("localhost"+tlsPort, "--tls", "--tls-ca", trusted), nil, preflight.Wrong("broker", "localhost"+tlsPort, "not localhost", "name the broker in --brokers")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some take seconds
			r := checked(t, append(c.env, g.env...), c.args...)
			r.Checks = slices.DeleteFunc(r.Checks, func(f preflight.Finding) bool { return f.Check == "password" }) // of those that are not on this machine
			some, unasked := found(r, preflight.IsWrong), found(r, preflight.IsNotChecked)
			if len(some) != len(strings.Fields(c.want.Subject)) || len(unasked) != 6 || len(found(r, preflight.IsWarning)) != 0 {
				t.Fatalf("%+v", r.Checks)
			}
			for i, addr := range strings.Fields(c.want.Subject) {
				if f := some[i]; f.Check != c.want.Check || f.Subject != addr || !strings.Contains(f.Found, c.want.Found) || !strings.Contains(f.Do, c.want.Do) {
					t.Errorf("%+v, want %+v", f, c.want)
				}
			}
		})
	}

	// One that is down among others that are not costs nothing.
	r := g.check("--brokers", closed.Addr().String()+","+g.cluster.ListenAddrs()[0])
	if some := found(r, preflight.IsWarning); !r.OK || len(some) != 1 || some[0].Subject != closed.Addr().String() || !strings.Contains(some[0].Do, "--brokers") || r.NotChecked != 0 {
		t.Errorf("%+v", r.Checks)
	}
}
