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

// usable reports whether a worker can talk to a broker, and be understood.
func usable(b admin.DescribedBroker) bool { return b.Err == nil && len(b.Unsupported) == 0 }

// judgeBrokers says what a worker would make of the brokers. connection is how they are talked to.
func judgeBrokers(brokers []admin.DescribedBroker, connection string) (all Findings) {
	some := slices.ContainsFunc(brokers, func(b admin.DescribedBroker) bool { return b.Err == nil })
	for _, b := range brokers {
		release, found, do := cmp.Or(b.Release, "of an unknown release"), "", ""
		if b.Err != nil {
			found, do = unreachable(b.Err)
		}
		switch {
		case usable(b):
			found = "it answers"
			if !b.Listed() { // so that who counts brokers does not count it
				found = "it leads to the cluster"
			}
			all.Add(Good("broker", b.Addr, fmt.Sprintf("%s, Kafka %s, %s", found, release,
				cmp.Or(connection, "without TLS and authentication"))))
		case b.Err == nil:
			all.Add(Wrong("broker", b.Addr,
				fmt.Sprintf("it does not understand what markread says in %s (Kafka %s)",
					strings.Join(b.Unsupported, ", "), release),
				"use Kafka 0.11 or later (--brokers); if it is a newer one than markread, update "+
					"markread"))
		case b.Listed():
			all.Add(Wrong("broker", b.Addr,
				found+"; the cluster sends its clients there (advertised.listeners)",
				"partitions that it leads can't be read: correct its advertised.listeners if "+
					"that is no address for here (in Docker often kafka:9092 or localhost:9092), "+
					"else "+do))
		case some:
			all.Add(Warning("broker", b.Addr, found,
				"the others are used meanwhile: "+withFlag(do)))
		default:
			all.Add(Wrong("broker", b.Addr, found, withFlag(do)))
		}
	}
	return all
}

// withFlag adds the flag that has the address, unless what to do names one already.
func withFlag(do string) string {
	if strings.Contains(do, "--") {
		return do
	}
	return do + " (--brokers)"
}

// whyNot says why something can't be found out, with the broker that this is about.
func whyNot(err error) string {
	var located *kafkaclient.UnreachableError
	if errors.As(err, &located) {
		return located.Error()
	}
	found, _ := unreachable(err)
	return found
}

// unreachable says why a broker can't be talked to, without its address, so that several that fail
// alike are one line, and what to do.
func unreachable(err error) (found, do string) {
	var refused *kafkaclient.RefusedError
	var located *kafkaclient.UnreachableError
	var unnamed *net.DNSError
	var dialled *net.OpError
	switch {
	case errors.As(err, &refused):
		found, _ = unreachable(refused.Err)
		return found, refused.Remedy
	case errors.As(err, &located):
		return unreachable(located.Err)
	case errors.As(err, &unnamed):
		return "its name can't be resolved here",
			"correct the name, or this machine's name resolution (DNS)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there (connection refused)", "look whether it runs, and at the port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to it", "look at the network between here and there"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it hangs up without an answer",
			"look at its log, and whether this port wants TLS (--tls) or authentication (--sasl)"
	case errors.As(err, &dialled) && dialled.Op == "dial" && dialled.Timeout():
		return "no connection in time",
			"look at firewalls between here and there, and whether that machine runs"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "it accepts connections and says nothing",
			"look whether it is frozen or overloaded, and at proxies in between"
	default:
		return err.Error(), "look whether it runs, and at the network between here and there"
	}
}
