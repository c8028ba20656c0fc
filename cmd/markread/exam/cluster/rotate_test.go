//go:build exam && unix

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/exam/kit"
)

// certIssuer signs certificates.
type certIssuer struct {
	pem  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) *certIssuer {
	t.Helper()
	a := &certIssuer{}
	a.pem, a.cert, a.key = certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: name},
		IsCA: true, BasicConstraintsValid: true}, nil)
	return a
}

// issue returns a certificate for this machine and its key, in PEM.
func (a *certIssuer) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	cert, _, private := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func certificate(t *testing.T, template *x509.Certificate, issuer *certIssuer) (string,
	*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if issuer == nil {
		issuer = &certIssuer{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), cert, key
}

// TestExamClusterRotations: under load, the user's password, the brokers' certificate and the
// authority that signed it change twenty times, eight in a short run. The brokers change before the
// worker's files do, so that they refuse the worker meanwhile.
func TestExamClusterRotations(t *testing.T) {
	const late = 300 * time.Millisecond
	rotations := 20
	if testing.Short() {
		rotations = 8
	}
	c := newCluster(t)
	lifetime := c.connectionLifetime(t)
	if lifetime == 0 || lifetime > 5*time.Second {
		t.Skip("skipped: connections.max.reauth.ms of the cluster must be set, to at most 5000: " +
			"else connections stay open, and the test proves nothing")
	}
	v := c.variables(t)
	user := c.newUser(t, "rotate")
	c.grantWorker(t, user.name)
	dir := t.TempDir()
	passwordFile, caFile := filepath.Join(dir, "password"), filepath.Join(dir, "ca.crt")
	authority := newIssuer(t, "authority 0")
	listeners := strings.Split(v["SASL_SSL"], ",")
	c.useCertificate(t, dir, 0, authority, listeners)
	t.Cleanup(func() { c.alterListener(t, "") })
	writeFile(t, passwordFile, user.password+"\n")
	writeFile(t, caFile, authority.pem)

	im := kit.StartRecorder(t, "-rate", "200", "-latency", "5ms")
	k := *c.Kafka
	k.Addr = v["SASL_SSL"]
	w := kit.StartWorkerWithEnv(t, &k, im.URL, []string{kit.KeyVariable,
		"MARKREAD_SASL_PASSWORD_FILE=" + passwordFile},
		append(user.flags(), "--tls", "--tls-ca", caFile)...)
	w.WaitReady(t)
	flow := kit.StartTraffic(t, c.Kafka, c.Live, "rotate", 150)
	began := time.Now()
	var wrong []kit.Interval // when the worker's files were wrong
	for i := 1; i <= rotations; i++ {
		changed := time.Now()
		user.password = "exam-password-" + strconv.Itoa(i)
		authority = newIssuer(t, "authority "+strconv.Itoa(i))
		c.setPassword(t, user.name, user.password)
		c.useCertificate(t, dir, i, authority, listeners)
		<-time.After(late)
		writeFile(t, passwordFile, user.password+"\n")
		writeFile(t, caFile, authority.pem)
		wrong = append(wrong, kit.Interval{From: changed, To: time.Now()})
		<-time.After(lifetime - late) // every connection is authenticated again
	}
	ended := time.Now()
	events := flow.End()
	c.WaitCommitted(t, time.Minute, c.Live, c.Backfill)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	arrivals := im.Arrivals(t)
	times := kit.ArrivalTimes(arrivals)
	stood, _ := times.LongestGap(began, ended)
	// the same by a clock that stands still while the files are wrong
	clock := func(t time.Time) time.Time {
		off := time.Duration(0)
		for _, w := range wrong {
			off += w.Overlap(began, t)
		}
		return t.Add(-off)
	}
	for i, at := range times {
		times[i] = clock(at)
	}
	right, _ := times.LongestGap(began, clock(ended))
	kit.Figure(t, "rotations", "%d of password, certificate and authority in %.0f s; %d events, "+
		"%d calls, %d answered calls repeated, longest time without a call %.2f s, %.2f s with "+
		"the correct files, %v generations", rotations, ended.Sub(began).Seconds(), len(events),
		len(arrivals), kit.CountRepeated(arrivals), stood.Seconds(), right.Seconds(),
		metrics.Sum("markread_generations_total"))
	kit.Check(t, right < 5*time.Second, "nobody called for %v with the correct files", right)
	kit.Check(t, metrics.Sum("markread_generations_total") == 1,
		"the worker had to join the group again")
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
	c.CheckNoDeadLetters(t, "rotations")
	out := w.Stdout.String() + w.Stderr.String()
	kit.Check(t, !strings.Contains(out, "exam-password"), "the password is shown")
	kit.Check(t, strings.Contains(out, "--tls-ca") || strings.Contains(out, "--sasl-user"),
		"the worker was never refused: the test proves little")
}

// connectionLifetime returns how long the cluster lets a SASL-authenticated connection live.
func (c *cluster) connectionLifetime(t *testing.T) time.Duration {
	t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
	resource.ConfigNames = []string{"connections.max.reauth.ms"}
	req.Resources = append(req.Resources, resource)
	response, err := req.RequestWith(kit.Context(t), c.Client)
	if err != nil || len(response.Resources) != 1 || len(response.Resources[0].Configs) != 1 ||
		response.Resources[0].Configs[0].Value == nil {
		t.Fatalf("connections.max.reauth.ms: %v, %+v", err, response)
	}
	ms, err := strconv.Atoi(*response.Resources[0].Configs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ms) * time.Millisecond
}

// useCertificate gives the brokers' SASL_SSL listeners a new certificate, and waits until they
// present it.
func (c *cluster) useCertificate(t *testing.T, dir string, i int, authority *certIssuer,
	listeners []string) {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("node-%d.pem", i))
	cert, key := authority.issue(t, "node")
	writeFile(t, path, key+cert)
	c.alterListener(t, path)
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.cert)
	for _, addr := range listeners {
		kit.Wait(t, addr+" presents the new certificate", 20*time.Second, func() bool {
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: trusted})
			if err != nil {
				return false
			}
			return conn.Close() == nil
		})
	}
}

// alterListener sets the key store of the SASL_SSL listener of all nodes; "" restores the original
// one.
func (c *cluster) alterListener(t *testing.T, keyStore string) {
	t.Helper()
	const name = "listener.name.sasl_ssl.ssl.keystore.location"
	values := map[string]*string{name: &keyStore,
		"listener.name.sasl_ssl.ssl.keystore.type": kmsg.StringPtr("PEM")}
	if keyStore == "" {
		values = map[string]*string{name: nil, "listener.name.sasl_ssl.ssl.keystore.type": nil}
	}
	for node := 1; node <= nodes; node++ {
		c.alterConfigs(t, kmsg.ConfigResourceTypeBroker, strconv.Itoa(node), values)
	}
}

// alterConfigs sets configuration values of a topic or a node; nil restores the default.
func (c *cluster) alterConfigs(t *testing.T, kind kmsg.ConfigResourceType, name string,
	values map[string]*string) {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kind, name
	for key, value := range values {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = key, value
		if value == nil {
			config.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		resource.Configs = append(resource.Configs, config)
	}
	req.Resources = append(req.Resources, resource)
	response, err := req.RequestWith(kit.Context(t), c.Client)
	if err == nil && len(response.Resources) == 1 {
		if err = kerr.ErrorForCode(response.Resources[0].ErrorCode); err != nil &&
			response.Resources[0].ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *response.Resources[0].ErrorMessage)
		}
	}
	if err != nil {
		t.Fatalf("configure %s with %v: %v", name, slices.Collect(maps.Keys(values)), err)
	}
}
