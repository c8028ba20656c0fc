package preflight

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"markread/imclient"
	"markread/worker/console"
	"markread/worker/format"
)

// checkMachine checks this machine: the admin server's port, files, limits.
func (e *checker) checkMachine(ctx context.Context) (all Findings) {
	all.Add(e.checkAdminAddr(ctx))
	all.Add(e.Secrets...)
	all.Add(secretFileFindings(e.SecretFiles)...)
	if e.ClientCertificate != nil {
		all.Add(clientCertificateFindings(e.ClientCertificate, time.Now())...)
	}
	all.Add(passwordFindings(e.Options)...)
	if limit, known := openFilesLimit(); known {
		all.Add(openFilesFindings(limit, e.Calls, len(e.Brokers))...)
	}
	return all
}

// checkAdminAddr listens on the admin server's address and closes it again.
func (e *checker) checkAdminAddr(ctx context.Context) Finding {
	addr := e.AdminAddr
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		_ = listener.Close()
		return Good("admin server", "", addr+" is free")
	case !errors.Is(err, syscall.EADDRINUSE):
		return Wrong("admin server", "", fmt.Sprintf("can't listen on %s: %v", addr, err),
			"set --admin-addr to an address of this machine, and a port that the user may use")
	}
	limited, cancel := context.WithTimeout(ctx, workerTimeout)
	defer cancel()
	// /readyz needs no token.
	client, err := console.NewClient("http://"+console.DialAddr(addr), imclient.Secret{})
	if err == nil {
		_, err = client.Readiness(limited)
	}
	switch {
	case err == nil:
		return Warning("admin server", "", "a worker already runs here, and listens on "+addr,
			"stop it first, or choose another --admin-addr for this one")
	case limited.Err() != nil:
		return Wrong("admin server", "",
			addr+" is in use by something that does not respond (a worker that hangs?)",
			"find what is listening (ss -ltnp) and stop it, or choose another --admin-addr")
	}
	return Wrong("admin server", "", addr+" is in use by another program",
		"stop it, or choose another --admin-addr")
}

// workerTimeout is long for a worker, which responds in milliseconds.
const workerTimeout = 2 * time.Second

// secretFileFindings checks who may read the files with secrets.
func secretFileFindings(files map[string]string) (all Findings) {
	if runtime.GOOS == "windows" {
		return nil // it has other permissions
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := files[name]
		info, err := os.Stat(path)
		if err != nil {
			continue // reading the configuration has read it: it can only be gone since then
		}
		if mode := info.Mode().Perm(); mode&0o007 != 0 {
			all.Add(Warning("secret file", name,
				fmt.Sprintf("everybody on this machine may use it (mode %04o)", mode),
				"chmod o= "+path+"; where it is mounted from a secret, set the secret's "+
					"defaultMode to 0440"))
		} else {
			all.Add(Good("secret file", name, "not open to everybody"))
		}
	}
	return all
}

// clientCertificateFindings checks how long the certificate of --tls-cert is valid.
func clientCertificateFindings(leaf *x509.Certificate, now time.Time) Findings {
	const check = "client certificate"
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return Findings{Wrong(check, "", "it has expired on "+leaf.NotAfter.UTC().
			Format(time.DateOnly), "put a new one in the file of --tls-cert")}
	case leaf.NotBefore.After(now):
		return Findings{Wrong(check, "", "it is not valid before "+leaf.NotBefore.UTC().
			Format(time.RFC3339), "check this machine's clock, and --tls-cert")}
	case left < soonExpired:
		return Findings{Warning(check, "", "it expires in "+format.Age(left),
			"put a new one in the file of --tls-cert; run reads it for every connection")}
	default:
		return Findings{Good(check, "", "it is valid for "+format.Age(left))}
	}
}

// passwordFindings warns if the SASL password can be read on the network.
func passwordFindings(o Options) Findings {
	away := slices.ContainsFunc(o.Brokers, func(broker string) bool {
		host, _, err := net.SplitHostPort(broker)
		return err == nil && !imclient.IsLoopback(host)
	})
	if o.SASL != "plain" || o.TLS || !away {
		return nil
	}
	return Findings{Warning("password", "",
		"with --sasl plain and without --tls everybody on the way to the brokers can read it",
		"add --tls, or use --sasl scram-sha-512")}
}

// spareFiles is the number of files that a worker opens in addition to its connections for calls
// and to brokers: logs, files, listeners, connections to the admin server.
const spareFiles = 160

// openFilesFindings compares the process's limit of open files with a worker's largest need: a
// connection for each call in flight, and some 20 for each broker.
func openFilesFindings(limit uint64, calls, brokers int) Findings {
	if need := uint64(calls + 20*max(brokers, 3) + spareFiles); limit < need {
		return Findings{Warning("open files", "",
			fmt.Sprintf("this process may open %d, a worker needs up to %d", limit, need),
			"raise the limit (ulimit -n, LimitNOFILE=), or lower --rate or --max-in-flight")}
	}
	return nil
}
