package main

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

	"markread/consumer"
)

// anyAnswers reports whether some broker can be talked to.
func anyAnswers(brokers []consumer.BrokerView) bool {
	return slices.ContainsFunc(brokers, func(b consumer.BrokerView) bool { return b.Err == nil })
}

// judgeBrokers says what a worker would make of the brokers. connection is how they are talked to.
func judgeBrokers(brokers []consumer.BrokerView, connection string) (all findings) {
	some := anyAnswers(brokers)
	answered, releases := 0, []string{}
	for _, b := range brokers {
		switch {
		case b.Err == nil && len(b.Lacks) > 0:
			found := fmt.Sprintf("it does not understand what markread says in %s (Kafka %s)", strings.Join(b.Lacks, ", "), cmp.Or(b.Release, "of an unknown release"))
			all.add(wrong("broker", b.Addr, found, "use Kafka 0.11 or later (--brokers); if it is a newer one than markread, update markread"))
		case b.Err == nil:
			answered++
			if b.Release != "" && !slices.Contains(releases, b.Release) {
				releases = append(releases, b.Release)
			}
		case b.Listed:
			found, do := unreachable(b.Err)
			all.add(wrong("broker", b.Addr, "the cluster sends its clients to it, but "+found,
				"partitions that it leads can't be read: "+do+"; the address is that of the broker's advertised.listeners"))
		case some:
			found, do := unreachable(b.Err)
			all.add(warning("broker", b.Addr, found, "the others are used meanwhile: "+withFlag(do)))
		default:
			found, do := unreachable(b.Err)
			all.add(wrong("broker", b.Addr, found, withFlag(do)))
		}
	}
	if answered > 0 {
		text := fmt.Sprintf("%d of %d answer", answered, len(brokers))
		if len(releases) > 0 {
			text += ", Kafka " + strings.Join(releases, " and ")
		}
		all.add(ok("brokers", "", text+", "+cmp.Or(connection, "without TLS and authentication")))
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

// unreachable says why a broker can't be talked to, without its address, so that several that fail alike are one line, and what to do.
func unreachable(err error) (found, do string) {
	var refused *consumer.RefusedError
	var unnamed *net.DNSError
	var dialled *net.OpError
	switch {
	case errors.As(err, &refused):
		found, _ = unreachable(refused.Err)
		return found, refused.Remedy
	case errors.As(err, &unnamed):
		return "its name can't be resolved here", "correct the name, or this machine's name resolution (DNS)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there (connection refused)", "look whether it runs, and at the port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to it", "look at the network between here and there"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it hangs up without an answer", "look at its log, and whether this port wants TLS (--tls) or authentication (--sasl)"
	case errors.As(err, &dialled) && dialled.Op == "dial" && dialled.Timeout():
		return "no connection in time", "look at firewalls between here and there, and whether that machine runs"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "it accepts connections and says nothing", "look whether it is frozen or overloaded, and at proxies in between"
	default:
		return err.Error(), "look whether it runs, and at the network between here and there"
	}
}
