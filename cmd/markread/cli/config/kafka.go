package config

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"slices"
	"strings"

	"markread/consumer/kafkaclient"

	"github.com/rs/zerolog"
)

// KafkaFlags configures connections to the brokers.
type KafkaFlags struct {
	Brokers []string `required:"" placeholder:"HOST:PORT" help:"Kafka bootstrap brokers."`
	TLS     bool     `name:"tls" help:"Use TLS to the brokers."`
	TLSCA   string   `name:"tls-ca" placeholder:"FILE" help:"PEM file of trusted CAs, instead of the system's."`
	TLSCert string   `name:"tls-cert" placeholder:"FILE" help:"PEM file of the client's certificate; needs --tls-key."`
	TLSKey  string   `name:"tls-key" placeholder:"FILE" help:"PEM file of the client certificate's key."`

	SASL string `enum:",plain,scram-sha-256,scram-sha-512" default:"" placeholder:"MECHANISM" help:"sasl_help"`

	SASLUser string `name:"sasl-user" placeholder:"NAME" help:"User to authenticate as."`
}

// Check checks the flags, and removes spaces and empty entries from Brokers.
func (f *KafkaFlags) Check(env Environment) error {
	f.Brokers = slices.DeleteFunc(f.Brokers,
		func(b string) bool { return strings.TrimSpace(b) == "" })
	if len(f.Brokers) == 0 {
		return Usagef("--brokers must not be empty")
	}
	for i, b := range f.Brokers {
		b = strings.TrimSpace(b)
		f.Brokers[i] = b
		host, port, err := SplitAddr(b)
		switch {
		case err != nil && strings.ContainsAny(b, "; "):
			return Usagef("--brokers: %v; separate brokers by commas", err)
		case err != nil:
			return Usagef("--brokers: %v", err)
		case host == "":
			return Usagef("--brokers: %q is not HOST:PORT: the host is missing", b)
		case port == 0:
			return Usagef("--brokers: %q is not HOST:PORT with a port from 1 to 65535", b)
		}
	}
	password, err := env.Secret(SASLPassword)
	switch {
	case f.TLSCA != "" && !f.TLS:
		return Usagef("--tls-ca has no effect without --tls")
	case f.TLSCert != "" && !f.TLS:
		return Usagef("--tls-cert has no effect without --tls")
	case f.TLSKey != "" && !f.TLS:
		return Usagef("--tls-key has no effect without --tls")
	case (f.TLSCert == "") != (f.TLSKey == ""):
		return Usagef("--tls-cert and --tls-key need each other")
	case err != nil:
		return err
	case f.SASL == "" && f.SASLUser != "":
		return Usagef("--sasl-user has no effect without --sasl")
	case f.SASL != "" && f.SASLUser == "":
		return Usagef("--sasl %s needs --sasl-user", f.SASL)
	case f.SASL != "" && password.IsZero():
		return Usagef("--sasl %s needs %s or %s_FILE", f.SASL, SASLPassword, SASLPassword)
	}
	_, err = f.ClientOptions(env)
	return err
}

// Warn warns of a password that has no effect. It is not a usage error: a deployment may pass the
// same secrets to all programs.
func (f *KafkaFlags) Warn(env Environment, log zerolog.Logger) {
	if password, err := env.Secret(SASLPassword); err == nil && !password.IsZero() && f.SASL == "" {
		log.Warn().Str("variable", SASLPassword).Msg("the password has no effect without --sasl")
	}
}

// Connection describes authentication and TLS in a few words, such as "user u by plain over TLS";
// "" for neither.
func (f *KafkaFlags) Connection() string {
	var words []string
	if f.SASL != "" {
		words = append(words, "user "+f.SASLUser+" by "+f.SASL)
	}
	if f.TLS {
		words = append(words, "over TLS")
	}
	return strings.Join(words, " ")
}

// ClientOptions returns a client's options, without the log, which the caller adds. Certificates
// and the password are read here, so that a wrong file is a usage error, and again for every
// connection, so that they can be renewed without a restart.
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

// Open returns a client, which connects when it is used. It also calls Warn.
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

// tls reads the certificates and returns a TLS configuration.
func (f *KafkaFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.TLSCA != "" {
		pem, err := os.ReadFile(f.TLSCA)
		if err != nil {
			return nil, Usagef("--tls-ca: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, Usagef("--tls-ca %s: it contains no PEM certificate", f.TLSCA)
		}
	}
	pair, err := f.ClientCertificate()
	if err != nil {
		return nil, err
	}
	if pair != nil {
		// Not Certificates: Go would not send a certificate that does not match the broker's
		// request, and the broker could not report it as refused.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return pair, nil
		}
	}
	return config, nil
}

// ClientCertificate reads the client's certificate; nil if --tls-cert is not set.
func (f *KafkaFlags) ClientCertificate() (*tls.Certificate, error) {
	if f.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.TLSCert, f.TLSKey)
	if err != nil {
		return nil, Usagef("--tls-cert, --tls-key: %v", err)
	}
	return &pair, nil
}
