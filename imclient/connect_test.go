package imclient_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"markread/imclient"
)

func TestTLSIsVerified(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("speaks %s", r.Proto)
		}
		fmt.Fprint(w, apiResult(0, ""))
	})
	quiet := log.New(io.Discard, "", 0)
	start := func(version uint16, auth tls.ClientAuthType) *httptest.Server {
		server := httptest.NewUnstartedServer(handler)
		server.Config.ErrorLog = quiet
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version,
			ClientAuth: auth}
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	good, old := start(tls.VersionTLS13, tls.NoClientCert), start(tls.VersionTLS11,
		tls.NoClientCert)
	// requires it only after the handshake
	picky := start(tls.VersionTLS13, tls.RequireAnyClientCert)
	plain := httptest.NewServer(handler)
	defer plain.Close()
	trusting := func(server *httptest.Server) func(*imclient.Options) {
		return func(o *imclient.Options) {
			transport := imclient.NewTransport(o.Timeout, 1)
			transport.TLSClientConfig.RootCAs = x509.NewCertPool()
			transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
			o.Transport = transport
		}
	}
	call := func(base string, change ...func(*imclient.Options)) error {
		o := options(base)
		for _, change := range change {
			change(&o)
		}
		c := client(t, o)
		defer c.Close()
		return c.MarkRead(t.Context(), validRead)
	}
	if err := call(good.URL, trusting(good)); err != nil {
		t.Errorf("with the right certificate: %v", err)
	}
	want := outcome{imclient.Transient, "tls", 0, 0}
	localhost := strings.Replace(good.URL, "127.0.0.1", "localhost", 1)
	for name, err := range map[string]error{
		"unknown authority":    call(good.URL),
		"other name":           call(localhost, trusting(good)),
		"TLS 1.1":              call(old.URL, trusting(old)),
		"client's certificate": call(picky.URL, trusting(picky)),
		"no TLS there":         call(strings.Replace(plain.URL, "http:", "https:", 1)),
	} {
		if got := outcomeOf(t, err); got != want {
			t.Errorf("%s: %+v: %v", name, got, err)
		}
	}
}

func TestNoConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + listener.Addr().String()
	listener.Close()
	dialing := func(err error) func(*imclient.Options) {
		return func(o *imclient.Options) {
			transport := imclient.NewTransport(o.Timeout, 1)
			transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, err
			}
			o.Transport = transport
		}
	}
	want := outcome{imclient.Transient, "connect", 0, 0}
	for name, c := range map[string]*imclient.Client{
		"refused": client(t, options(refused)),
		"no name": offlineClient(t,
			dialing(&net.DNSError{Err: "no such host", Name: "im.test", IsNotFound: true})),
		"anything": offlineClient(t, dialing(errors.New("no route"))),
		"odd": offlineClient(t, withTransport(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
		})),
	} {
		if err := c.MarkRead(t.Context(), validRead); outcomeOf(t, err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = offlineClient(t, dialing(&net.DNSError{Err: "i/o timeout", Name: "im.test",
		IsTimeout: true})).MarkRead(t.Context(), validRead)
	if got := outcomeOf(t, err); got.label != "timeout" {
		t.Errorf("a name server that is silent: %v", err)
	}
	err = client(t, options(refused)).MarkRead(t.Context(), validRead)
	if !errors.Is(err, syscall.ECONNREFUSED) ||
		!strings.Contains(err.Error(), strings.TrimPrefix(refused, "http://")) {
		t.Errorf("loses the cause, or does not say where: %v", err)
	}
}

// net/http reads the environment only once, so this needs a process of its own.
func TestProxiesOfTheEnvironment(t *testing.T) {
	if proxied := os.Getenv("IMCLIENT_TEST_PROXIED"); proxied != "" {
		o := options("http://im.test")
		c := client(t, o)
		defer c.Close()
		if err := c.MarkRead(t.Context(), validRead); err != nil {
			t.Error(err)
		}
		return
	}
	var seen atomic.Pointer[http.Request]
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		fmt.Fprint(w, apiResult(0, ""))
	}))
	defer proxy.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxiesOfTheEnvironment$")
	child.Env = append(os.Environ(), "IMCLIENT_TEST_PROXIED=1", "HTTP_PROXY="+proxy.URL,
		"http_proxy=", "NO_PROXY=", "no_proxy=")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r := seen.Load(); r == nil || r.URL.Host != "im.test" || r.Method != "POST" {
		t.Errorf("the proxy saw %+v", r)
	}
}
