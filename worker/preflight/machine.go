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

// lookHere looks at this machine: the port of the admin server, files, limits.
func (e *examination) lookHere(ctx context.Context) (all Findings) {
	all.Add(e.tryAdminAddr(ctx))
	all.Add(e.Secrets...)
	all.Add(judgeFiles(e.SecretFiles)...)
	if e.ClientCertificate != nil {
		all.Add(judgeClientCertificate(e.ClientCertificate, time.Now())...)
	}
	all.Add(judgePassword(e.Options)...)
	if limit, known := openFilesLimit(); known {
		all.Add(judgeOpenFiles(limit, e.Calls, len(e.Brokers))...)
	}
	return all
}

// tryAdminAddr takes the admin server's port and gives it back.
func (e *examination) tryAdminAddr(ctx context.Context) Finding {
	addr := e.AdminAddr
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		_ = listener.Close()
		return Good("admin server", "", addr+" is free")
	case !errors.Is(err, syscall.EADDRINUSE):
		return Wrong("admin server", "", fmt.Sprintf("can't listen on %s: %v", addr, err),
			"give an address of this machine in --admin-addr, and a port that the user may take")
	}
	limited, cancel := context.WithTimeout(ctx, workerTimeout)
	defer cancel()
	// /readyz is open to everybody
	client, err := console.NewClient("http://"+console.DialAddr(addr), imclient.Secret{})
	if err == nil {
		_, err = client.Readiness(limited)
	}
	switch {
	case err == nil:
		return Warning("admin server", "", "a worker runs here already, and has "+addr,
			"stop it first, or give this one another --admin-addr")
	case limited.Err() != nil:
		return Wrong("admin server", "",
			addr+" is taken by something that does not answer (a worker that hangs?)",
			"look what has it (ss -ltnp), and stop that, or give another --admin-addr")
	}
	return Wrong("admin server", "", addr+" is taken by another program",
		"stop that, or give another --admin-addr")
}

// workerTimeout is long for a worker, which answers in milliseconds.
const workerTimeout = 2 * time.Second

// judgeFiles looks at who may read files with secrets.
func judgeFiles(files map[string]string) (all Findings) {
	if runtime.GOOS == "windows" {
		return nil // its permissions are others
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := files[name]
		info, err := os.Stat(path)
		if err != nil {
			continue // it was read before
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

// judgeClientCertificate looks at how long brokers will take the certificate of --tls-cert.
func judgeClientCertificate(leaf *x509.Certificate, now time.Time) Findings {
	const check = "client certificate"
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return Findings{Wrong(check, "", "it has expired on "+leaf.NotAfter.UTC().
			Format(time.DateOnly), "put a new one in the file of --tls-cert")}
	case leaf.NotBefore.After(now):
		return Findings{Wrong(check, "", "it is not valid before "+leaf.NotBefore.UTC().
			Format(time.RFC3339), "look at this machine's clock, and at --tls-cert")}
	case left < soonExpired:
		return Findings{Warning(check, "", "it expires in "+format.Age(left),
			"put a new one in the file of --tls-cert; run reads it for every connection")}
	default:
		return Findings{Good(check, "", "it is valid for "+format.Age(left))}
	}
}

// judgePassword looks at whether it can be read on its way to the brokers.
func judgePassword(o Options) Findings {
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

// spareFiles is what a worker opens beside its calls and its connections to brokers: logs, files,
// listeners, visitors of the admin server.
const spareFiles = 160

// judgeOpenFiles compares the process's limit of open files with what a worker may need: a
// connection for each call at a time, and for each broker some 20.
func judgeOpenFiles(limit uint64, calls, brokers int) Findings {
	if need := uint64(calls + 20*max(brokers, 3) + spareFiles); limit < need {
		return Findings{Warning("open files", "",
			fmt.Sprintf("this process may open %d, a worker needs up to %d", limit, need),
			"raise the limit (ulimit -n, LimitNOFILE=), or lower --rate or --max-in-flight")}
	}
	return nil
}
