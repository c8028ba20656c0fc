package brokertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"markread/consumer/kafkaclient"
)

// Certificate returns a new self-signed certificate for localhost, and the pool that trusts it.
func Certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames:  []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// Mechanism returns a SASL mechanism with a fixed password.
func Mechanism(t *testing.T, name, user, secret string) kafkaclient.Mechanism {
	t.Helper()
	m, err := kafkaclient.SASL(name, user, Password(secret))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Password returns a function that always returns s.
func Password(s string) func() (string, error) { return func() (string, error) { return s, nil } }
