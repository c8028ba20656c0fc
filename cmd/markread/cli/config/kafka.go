package config

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"markread/consumer/kafkaclient"

	"github.com/rs/zerolog"
)

// ClientOptions turns the flags into a client's options; the log is the caller's to add.
// Certificates and the password are read here, so that a wrong file is wrong usage, and again for
// every connection, so that they may be renewed without a restart.
func (f *KafkaFlags) ClientOptions(env Environment) (kafkaclient.Options, error) {
	o := kafkaclient.Options{Brokers: f.Brokers}
	if f.TLS {
		o.TLS = f.tls
		if _, err := f.tls(); err != nil {
			return o, err
		}
	}
	if f.SASL == "" {
		return o, nil
	}
	password := func() (string, error) {
		secret, err := env.readSecret(SASLPassword)
		return secret.Reveal(), err
	}
	mechanism, err := kafkaclient.SASL(f.SASL, f.SASLUser, password)
	if err != nil {
		return o, Usagef("--sasl %s: %v", f.SASL, err)
	}
	o.SASL = mechanism
	return o, nil
}

// Open makes a client, which connects when it is used, and warns of what is set without effect.
func (f *KafkaFlags) Open(env Environment, log zerolog.Logger) (*kafkaclient.Client, error) {
	f.Warn(env, log)
	options, err := f.ClientOptions(env)
	if err != nil {
		return nil, err
	}
	options.Log = log
	client, err := kafkaclient.New(options)
	if err != nil {
		return nil, Usagef("--brokers: %v", err)
	}
	return client, nil
}

// tls reads the files.
func (f *KafkaFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.TLSCA != "" {
		pem, err := os.ReadFile(f.TLSCA)
		if err != nil {
			return nil, Usagef("--tls-ca: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, Usagef("--tls-ca %s: no PEM certificate in it", f.TLSCA)
		}
	}
	pair, err := f.Pair()
	if err != nil {
		return nil, err
	}
	if pair != nil {
		// Not Certificates: one that the broker does not want would not be sent, and it could not
		// say so.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate,
			error) {
			return pair, nil
		}
	}
	return config, nil
}

// Pair reads the client's certificate; nil: there is none.
func (f *KafkaFlags) Pair() (*tls.Certificate, error) {
	if f.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.TLSCert, f.TLSKey)
	if err != nil {
		return nil, Usagef("--tls-cert, --tls-key: %v", err)
	}
	return &pair, nil
}
