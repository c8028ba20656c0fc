package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/config"
	"markread/worker/console"
	"markread/worker/console/group"
)

// consoleAddrFlag is the address of the group's console.
type consoleAddrFlag struct {
	ConsoleAddr string `default:"127.0.0.1:8781" help:"console_addr_help"`
}

func (f *consoleAddrFlag) check() error {
	if _, _, err := config.SplitAddr(f.ConsoleAddr); err != nil {
		return config.Usagef("--console-addr: %v", err)
	}
	return nil
}

// consoleFlags is the console.
type consoleFlags struct {
	consoleAddrFlag
	Peers    []string `placeholder:"HOST:PORT" help:"peers_help"`
	ReadOnly bool     `help:"No actions: neither pause nor resume nor replay."`
}

// consoleCommand serves the console of a group.
type consoleCommand struct {
	AllowReplay bool `help:"Allow replays of dead letters; its Kafka user must be able to write."`
	// without a variable: Kubernetes creates MARKREAD_PEER_PORT for a Service named markread-peer
	PeerPort int `default:"8780" help:"Port of the workers' admin servers, without --peers."`

	config.KafkaFlags  `embed:"" group:"Kafka:"`
	config.GroupFlags  `embed:"" group:"Topics and group:"`
	config.ReplaysFlag `embed:"" group:"Worker:"`
	consoleFlags       `embed:"" group:"Console:"`
	Log                config.LogFlags `embed:"" group:"Log:"`
}

func (*consoleCommand) Help() string {
	return `A page for the whole group: what is wrong and what to do, plots, what happened, workers,
partitions, dead letters and settings. It reads each worker's /metrics, which is open, and the rest
from Kafka; it joins no group, so it can't slow down a worker. Without --allow-replay it needs only
permissions to read and describe.

Other machines see it only with MARKREAD_ADMIN_TOKEN (or MARKREAD_ADMIN_TOKEN_FILE), and log in with
that token over TLS. It pauses and resumes only workers of its own machine, with the same token.

    markread console --brokers kafka-1:9092
    markread console --brokers kafka-1:9092 --peers worker-1:8780,worker-2:8780
    markread console --brokers kafka-1:9092 --peers markread-headless:8780   # Kubernetes` +
		variablesHelp
}

func (c *consoleCommand) validate(env config.Environment) error {
	if err := cmp.Or(c.KafkaFlags.Check(env), c.GroupFlags.Check(), c.ReplaysFlag.Check(),
		c.consoleAddrFlag.check()); err != nil {
		return err
	}
	if c.ReadOnly && c.AllowReplay {
		return config.Usagef("--read-only and --allow-replay contradict each other")
	}
	if c.PeerPort < 1 || c.PeerPort > 65535 {
		return config.Usagef("--peer-port must be from 1 to 65535")
	}
	return c.checkPeers()
}

// checkPeers checks --peers, and removes spaces and empty entries.
func (c *consoleFlags) checkPeers() error {
	peers := c.Peers
	c.Peers = nil
	for _, p := range peers {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		host, port, err := config.SplitAddr(p)
		switch {
		case err != nil && strings.ContainsAny(p, "; "):
			return config.Usagef("--peers: %v; separate workers by commas", err)
		case err != nil:
			return config.Usagef("--peers: %v", err)
		case host == "" || port == 0:
			return config.Usagef("--peers: %q is not HOST:PORT with a host and a port from 1 to "+
				"65535", p)
		}
		c.Peers = append(c.Peers, p)
	}
	if len(c.Peers) > group.MaxWorkers {
		return config.Usagef("--peers has %d workers; the console reads at most %d", len(c.Peers),
			group.MaxWorkers)
	}
	return nil
}

func (c *consoleCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	token, err := p.env.AdminToken()
	if err != nil {
		return err
	}
	p.beginService(c.Log)
	kafka, err := c.KafkaFlags.Open(p.env, p.log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	v, _ := build()
	return app.Console(ctx, app.ConsoleOptions{Addr: c.ConsoleAddr, Token: token,
		AllowReplay: c.AllowReplay, MaxReplays: c.MaxReplays, Flags: c.commandFlags(),
		ReplayFlags: c.replayFlags(), Settings: p.settings, Version: v, Log: p.log,
		Group: group.Options{Kafka: kafka, Name: c.Group, Topics: c.Topics(), Peers: c.Peers,
			PeerPort: c.PeerPort, ReadOnly: c.ReadOnly},
		Started: func(addr string) {
			fmt.Fprintf(p.stdout, "console  http://%s/\n", console.DialAddr(addr))
		}})
}

// commandFlags returns the flags of a command about the same dead letters, without defaults. None
// is a secret.
func (c *consoleCommand) commandFlags() []string {
	flags := []string{"--brokers", strings.Join(c.Brokers, ",")}
	if c.TLS {
		flags = append(flags, "--tls")
	}
	for _, f := range [][3]string{{"--tls-ca", c.TLSCA}, {"--tls-cert", c.TLSCert},
		{"--tls-key", c.TLSKey}, {"--sasl", c.SASL}, {"--sasl-user", c.SASLUser},
		{"--dead-letter-topic", c.DeadLetterTopic, "mark-read-dead-letters"},
		{"--max-replays", strconv.Itoa(c.MaxReplays), "3"}} {
		if f[1] != f[2] {
			flags = append(flags, f[0], f[1])
		}
	}
	return flags
}

// replayFlags returns the flags of a replay that publishes where the console does.
func (c *consoleCommand) replayFlags() []string {
	switch c.BackfillTopic {
	case "":
		return []string{"--lane", "live", "--topic", c.Topic}
	case "mark-read-backfill":
		return nil
	}
	return []string{"--backfill-topic", c.BackfillTopic}
}
