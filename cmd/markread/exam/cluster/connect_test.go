//go:build exam && unix

package cluster

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/exam/kit"
)

// connectLimit is how long a wrong connection setting may take to be reported.
const connectLimit = 10 * time.Second

// TestExamClusterConnect: wrong connection settings, against the listeners of a real Kafka. If only
// an operator can fix it, `run` and `emit` end with exit status 1, and the last line names the
// flag. If it may recover by itself, `run` waits, and reports that immediately.
func TestExamClusterConnect(t *testing.T) {
	c := newCluster(t)
	v := c.variables(t)
	user := c.newUser(t, "connect")
	c.grantWorker(t, user.name)
	other := newIssuer(t, "another authority")
	dir := t.TempDir()
	otherCA, otherCert, otherKey := filepath.Join(dir, "other.crt"), filepath.Join(dir, "cert.pem"),
		filepath.Join(dir, "key.pem")
	cert, key := other.issue(t, "markread")
	writeFile(t, otherCA, other.pem)
	writeFile(t, otherCert, cert)
	writeFile(t, otherKey, key)
	ca := []string{"--tls", "--tls-ca", v["CA"]}
	ours := slices.Concat(ca,
		[]string{"--tls-cert", v["CLIENT_CERT"], "--tls-key", v["CLIENT_KEY"]})
	password := "MARKREAD_SASL_PASSWORD=" + user.password
	silent := kit.SilentListener(t)

	const waits = -1
	rows := []struct {
		name    string
		brokers string
		flags   []string
		env     string
		status  int // of run; for emit 1, or 0
		names   string
	}{
		{"plaintext to a TLS port", v["SSL"], nil, "", 1, "--tls"},
		{"plaintext to a TLS port with SASL", v["SASL_SSL"], user.flags(), password, 1, "--tls"},
		{"TLS to a plaintext port", v["PLAINTEXT"], ca, "", 1, "omit --tls"},
		{"TLS to a plaintext port with SASL", v["SASL_PLAINTEXT"], slices.Concat(ca, user.flags()),
			password, 1,
			"omit --tls"},
		{"unknown authority, the system's", v["SASL_SSL"],
			slices.Concat([]string{"--tls"}, user.flags()), password, 1, "--tls-ca"},
		{"unknown authority, a file's", v["SASL_SSL"],
			slices.Concat([]string{"--tls", "--tls-ca", otherCA}, user.flags()), password, 1,
			"--tls-ca"},
		{"no client certificate", v["SSL"], ca, "", 1, "--tls-cert"},
		{"client certificate of another authority", v["SSL"],
			slices.Concat(ca, []string{"--tls-cert", otherCert, "--tls-key", otherKey}), "", 1,
			"--tls-cert"},
		{"no SASL where it is required", v["SASL_PLAINTEXT"], nil, "", 1, "--sasl with one of"},
		{"no SASL where it is required, with TLS", v["SASL_SSL"], ca, "", 1, "--sasl with one of"},
		{"SASL where none is used", v["PLAINTEXT"], user.flags(), password, 1, "omit --sasl"},
		{"SASL where none is used, with TLS", v["SSL"], slices.Concat(ours, user.flags()),
			password, 1,
			"omit --sasl"},
		{"wrong password, SCRAM", v["SASL_SSL"], slices.Concat(ca, user.flags()),
			"MARKREAD_SASL_PASSWORD=wrong-password", 1, "MARKREAD_SASL_PASSWORD"},
		{"wrong password, PLAIN", v["SASL_PLAINTEXT"], []string{"--sasl", "plain", "--sasl-user",
			"markread"}, "MARKREAD_SASL_PASSWORD=wrong-password", 1, "MARKREAD_SASL_PASSWORD"},
		{"unknown user", v["SASL_PLAINTEXT"], []string{"--sasl", "scram-sha-256", "--sasl-user",
			"nobody"}, password, 1, "--sasl-user"},
		{"user without a password for this mechanism", v["SASL_PLAINTEXT"],
			[]string{"--sasl", "scram-sha-256", "--sasl-user", user.name}, password, 1,
			"--sasl-user"},
		{"nothing listens", "127.0.0.1:1", nil, "", waits, "--brokers"},
		{"nothing responds", silent, nil, "", waits, "--brokers"},
		{"nothing responds, with TLS and SASL", silent, slices.Concat(ca, user.flags()), password,
			waits, "--brokers"},
		{"one of two responds", "127.0.0.1:1," + v["SASL_SSL"], slices.Concat(ca, user.flags()),
			password, 0, ""},
		// a user without permissions
		{"correct, TLS with a certificate", v["SSL"], ours, "", 1, "--topic"},
		{"right", v["SASL_SSL"], slices.Concat(ca, user.flags()), password, 0, ""},
	}
	im := kit.StartRecorder(t)
	for _, row := range rows {
		t.Run(strings.ReplaceAll(strings.ReplaceAll(row.name, ",", ""), " ", "-"),
			func(t *testing.T) {
				t.Parallel()
				env := []string{kit.KeyVariable}
				if row.env != "" {
					env = append(env, row.env)
				}
				k := *c.Kafka
				k.Addr = row.brokers
				began := time.Now()
				p := kit.Start(t, "run", "product", env,
					slices.Concat(k.RunArgs(im.URL), row.flags)...)
				switch row.status {
				case 1:
					code := p.Exit(t, connectLimit)
					kit.Check(t, code == 1, "exit %d, want 1", code)
					kit.CheckOneError(t, p, row.names)
				default:
					want := "joined the group"
					if row.status == waits {
						want = row.names
					}
					p.Line(t, want, time.Until(began.Add(connectLimit)))
					admin := "http://" + p.Line(t, kit.AdminLine, connectLimit)[1]
					status, _, err := kit.TryGet(admin + "/readyz")
					kit.Check(t, err == nil && (status == 200) == (row.status == 0),
						"/readyz responds with %d, %v", status, err)
					p.Stop(t, syscall.SIGTERM, kit.StopLimit)
				}
				took := time.Since(began)

				if row.status != 1 && row.status != waits ||
					row.name == "correct, TLS with a certificate" {
					return // emit would need a permission that a worker doesn't
				}
				began = time.Now()
				emit := kit.Start(t, "emit", "product", env,
					slices.Concat([]string{"emit", "--brokers", row.brokers, "--topic", k.Live,
						"--report", "r", "--peer", "p"}, row.flags)...)
				code := emit.Exit(t, connectLimit)
				kit.Check(t, code == 1, "emit: exit %d, want 1", code)
				if row.status == 1 {
					kit.CheckOneError(t, emit, row.names)
				}
				kit.Figure(t, "connect", "%s: run %.2f s, emit %.2f s", row.name, took.Seconds(),
					time.Since(began).Seconds())
			})
	}
}

// TestExamClusterPermissions: without a permission `run` ends with a line that names the flag.
// Without Write on the dead-letter topic, nothing is committed past the first dead letter until the
// permission is granted.
func TestExamClusterPermissions(t *testing.T) {
	c := newCluster(t)
	v := c.variables(t)
	im := kit.StartRecorder(t)
	start := func(t *testing.T, user user, extra ...string) *kit.Proc {
		k := *c.Kafka
		k.Addr = v["SASL_PLAINTEXT"]
		return kit.Start(t, "run", "product", []string{kit.KeyVariable,
			"MARKREAD_SASL_PASSWORD=" + user.password},
			slices.Concat(k.RunArgs(im.URL), user.flags(), extra)...)
	}
	for missing, flag := range map[string]string{"read live": "--topic",
		"read backfill": "--backfill-topic", "read group": "--group"} {
		t.Run(strings.ReplaceAll(missing, " ", "-"), func(t *testing.T) {
			user := c.newUser(t, strings.ReplaceAll(missing, " ", "-"))
			c.grantWorker(t, user.name, missing)
			p := start(t, user)
			code := p.Exit(t, connectLimit)
			kit.Check(t, code == 1, "exit %d, want 1", code)
			kit.CheckOneError(t, p, flag)
		})
	}
	t.Run("create", func(t *testing.T) {
		user := c.newUser(t, "create")
		c.grantWorker(t, user.name)
		// may not describe it either
		p := start(t, user, "--create-topics", "--topic", c.Live+"-new")
		code := p.Exit(t, connectLimit)
		kit.Check(t, code == 1, "exit %d, want 1", code)
		kit.CheckOneError(t, p, "--topic")
	})
	t.Run("write-dead-letters", func(t *testing.T) {
		user := c.newUser(t, "letters")
		c.grantWorker(t, user.name, "write dead letters")
		// Describe, so that only the write fails
		c.allow(t, user.name, kmsg.ACLResourceTypeTopic, c.DeadLetters, kmsg.ACLOperationDescribe)
		events := kit.OneEventEach(append(kit.Conversations("allowed", 20),
			kit.Conversation{Report: "reject-90048-r", Peer: "p"}))
		kit.ProduceEvents(t, c.Kafka, c.Live, events)
		p := start(t, user)
		admin := "http://" + p.Line(t, kit.AdminLine, connectLimit)[1]
		kit.Wait(t, "held, because the dead letter can't be written", 30*time.Second, func() bool {
			_, body, err := kit.TryGet(admin + "/readyz")
			return err == nil && strings.Contains(body, "dead-letter")
		})
		left := c.Lag(t, c.Live)
		kit.Check(t, left > 0, "all is committed, although a dead letter was not written")
		p.Line(t, "Topic Authorization Failed", connectLimit)
		c.allow(t, user.name, kmsg.ACLResourceTypeTopic, c.DeadLetters, kmsg.ACLOperationWrite)
		c.WaitCommitted(t, 30*time.Second, c.Live, c.Backfill)
		p.Stop(t, syscall.SIGTERM, kit.StopLimit)
		letters := c.ReadAll(t, c.DeadLetters)
		kit.Check(t, len(letters) == 1, "%d dead letters, want 1", len(letters))
	})
}
