package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"markread/consumer"
)

// options turns the flags into a client's options; the log is the caller's to add. Files are read here, so that a wrong one is wrong usage.
func (f *kafkaFlags) options(env environment) (consumer.Options, error) {
	o := consumer.Options{Brokers: f.Brokers}
	if f.TLS {
		config, err := f.tls()
		if err != nil {
			return o, err
		}
		o.TLS = config
	}
	if f.SASL != "" {
		password, err := env.secret(saslPassword)
		if err != nil {
			return o, err
		}
		if o.SASL, err = consumer.SASL(f.SASL, f.SASLUser, password.Reveal()); err != nil {
			return o, usagef("--sasl %s: %v", f.SASL, err)
		}
	}
	return o, nil
}

func (f *kafkaFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.TLSCA != "" {
		pem, err := os.ReadFile(f.TLSCA)
		if err != nil {
			return nil, usagef("--tls-ca: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("--tls-ca %s: no PEM certificate in it", f.TLSCA)
		}
	}
	if f.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(f.TLSCert, f.TLSKey); err != nil {
			return nil, usagef("--tls-cert, --tls-key: %v", err)
		}
		// Read again for every connection, so that a rotated certificate needs no restart.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.TLSCert, f.TLSKey)
			return &pair, err
		}
	}
	return config, nil
}
