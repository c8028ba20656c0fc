package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"markread/consumer/admin"
	"markread/consumer/kafkaclient"
)

// usable reports whether a worker can connect to a broker, and the broker supports its requests.
func usable(b admin.DescribedBroker) bool { return b.Err == nil && len(b.Unsupported) == 0 }

// brokerFindings returns whether a worker could use the brokers. connection describes
// authentication and TLS.
func brokerFindings(brokers []admin.DescribedBroker, connection string) (all Findings) {
	some := slices.ContainsFunc(brokers, func(b admin.DescribedBroker) bool { return b.Err == nil })
	for _, b := range brokers {
		release, found, do := cmp.Or(b.Release, "of an unknown release"), "", ""
		if b.Err != nil {
			found, do = connectionProblem(b.Err)
		}
		switch {
		case usable(b):
			found = "it responds"
			if !b.Listed() { // another text, so that it is not counted as a broker of the cluster
				found = "it leads to the cluster"
			}
			all.Add(Good("broker", b.Addr, fmt.Sprintf("%s, Kafka %s, %s", found, release,
				cmp.Or(connection, "without TLS and authentication"))))
		case b.Err == nil:
			all.Add(Wrong("broker", b.Addr,
				fmt.Sprintf("it does not support markread's versions of %s (Kafka %s)",
					strings.Join(b.Unsupported, ", "), release),
				"use Kafka 0.11 or later (--brokers); if it is newer than markread, update "+
					"markread"))
		case b.Listed():
			all.Add(Wrong("broker", b.Addr,
				found+"; the cluster sends its clients there (advertised.listeners)",
				"partitions that it leads can't be read: correct its advertised.listeners if "+
					"this machine can't use that address (in Docker often kafka:9092 or "+
					"localhost:9092), else "+do))
		case some:
			all.Add(Warning("broker", b.Addr, found,
				"the others are used meanwhile: "+withFlag(do)))
		default:
			all.Add(Wrong("broker", b.Addr, found, withFlag(do)))
		}
	}
	return all
}

// withFlag adds the flag with the address to a remedy, unless it already names a flag.
func withFlag(do string) string {
	if strings.Contains(do, "--") {
		return do
	}
	return do + " (--brokers)"
}

// causeText returns why a request failed, with the broker that it failed at.
func causeText(err error) string {
	if located, ok := errors.AsType[*kafkaclient.UnreachableError](err); ok {
		return located.Error()
	}
	found, _ := connectionProblem(err)
	return found
}

// connectionProblem returns why a broker can't be used, and the remedy. The texts don't contain the
// address, so that brokers that fail in the same way share one line.
func connectionProblem(err error) (found, do string) {
	var refused *kafkaclient.RefusedError
	var located *kafkaclient.UnreachableError
	var unnamed *net.DNSError
	var dialled *net.OpError
	switch {
	case errors.As(err, &refused):
		found, _ = connectionProblem(refused.Err)
		return found, refused.Remedy
	case errors.As(err, &located):
		return connectionProblem(located.Err)
	case errors.As(err, &unnamed):
		return "its name can't be resolved here",
			"correct the name, or this machine's name resolution (DNS)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there (connection refused)", "check whether it runs, and the port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to it", "check the network between here and there"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it closes the connection without a response",
			"check its log, and whether this port requires TLS (--tls) or authentication (--sasl)"
	case errors.As(err, &dialled) && dialled.Op == "dial" && dialled.Timeout():
		return "no connection in time",
			"check firewalls between here and there, and whether that machine runs"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "it accepts connections but does not respond",
			"check whether it is frozen or overloaded, and proxies in between"
	default:
		return err.Error(), "check whether it runs, and the network between here and there"
	}
}
