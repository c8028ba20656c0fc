//go:build exam && unix

package cluster

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/exam/kit"
	"markread/worker/preflight"
)

// TestExamClusterCheck: `check` on a real Kafka of three nodes with ACLs finds each problem, one at
// a time, with its flag, and nothing else.
func TestExamClusterCheck(t *testing.T) {
	c := newCluster(t)
	v := c.variables(t)
	im := kit.StartSandbox(t)
	secure := *c.Kafka
	secure.Addr = v["SASL_SSL"]
	other := newIssuer(t, "another authority")
	otherCA := filepath.Join(t.TempDir(), "other.crt")
	writeFile(t, otherCA, other.pem)
	ca := []string{"--tls", "--tls-ca", v["CA"]}
	check := func(t *testing.T, user user, extra ...string) kit.CheckResult {
		t.Helper()
		return kit.RunCheck(t, &secure, im.URL, []string{"MARKREAD_SASL_PASSWORD=" + user.password},
			slices.Concat(ca, user.flags(), extra)...)
	}
	full := c.newUser(t, "check")
	c.grantWorker(t, full.name)
	missing := c.DeadLetters + "-missing"

	for name, row := range map[string]struct {
		omitted string // a permission not granted
		also    func(user user)
		flags   []string
		want    preflight.Finding
	}{
		"right": {"", nil, nil, preflight.Good("broker", "", "it responds, Kafka 4.4, user ")},
		"read live": {"read live", nil, nil,
			preflight.Wrong("permission", c.Live, "may not see", "Read on the topic (--topic)")},
		"read backfill": {"read backfill", nil, nil,
			preflight.Wrong("permission", c.Backfill, "may not see", "--backfill-topic")},
		"read group": {"read group", nil, nil,
			preflight.Wrong("permission", "group "+c.Group, "may not see", "--group")},
		"settings dead letters": {"settings dead letters", nil, nil,
			preflight.NotChecked("settings", c.DeadLetters, "may not read", "DescribeConfigs")},
		"write dead letters": {"write dead letters", func(u user) {
			c.allow(t, u.name, kmsg.ACLResourceTypeTopic, c.DeadLetters, kmsg.ACLOperationDescribe)
		}, nil, preflight.Wrong("permission", c.DeadLetters, "may not write",
			"Write on the topic (--dead-letter-topic)")},
		"missing topic": {"", func(u user) {
			c.allow(t, u.name, kmsg.ACLResourceTypeTopic, missing, kmsg.ACLOperationWrite)
		}, []string{"--dead-letter-topic", missing},
			preflight.Wrong("topic", missing, "does not exist", "--create-topics")},
		"may not create": {"", func(u user) {
			c.allow(t, u.name, kmsg.ACLResourceTypeTopic, missing, kmsg.ACLOperationWrite)
		}, []string{"--dead-letter-topic", missing, "--create-topics"},
			preflight.Wrong("permission", missing, "may not create", "Create on the topic")},
		"may create": {"", func(u user) {
			c.allow(t, u.name, kmsg.ACLResourceTypeTopic, missing, kmsg.ACLOperationWrite)
			c.allow(t, u.name, kmsg.ACLResourceTypeTopic, missing, kmsg.ACLOperationCreate)
		}, []string{"--dead-letter-topic", missing, "--create-topics"},
			preflight.Good("topic", missing, "run creates it")},
		"may create in the cluster": {"", func(u user) {
			c.allow(t, u.name, kmsg.ACLResourceTypeTopic, missing, kmsg.ACLOperationWrite)
			c.allow(t, u.name, kmsg.ACLResourceTypeCluster, "kafka-cluster",
				kmsg.ACLOperationCreate)
		}, []string{"--dead-letter-topic", missing, "--create-topics"},
			preflight.Good("topic", missing, "run creates it")},
		"unknown authority": {"", nil, []string{"--tls-ca", otherCA},
			preflight.Wrong("broker", "", "certificate", "--tls-ca")},
		"another mechanism": {"", nil, []string{"--sasl", "scram-sha-256"},
			preflight.Wrong("broker", "", "SASL Authentication Failed", "--sasl-user")},
		"one is down": {"", nil, []string{"--brokers", "127.0.0.1:1," + v["SASL_SSL"]},
			preflight.Warning("broker", "127.0.0.1:1", "nothing listens", "--brokers")},
		"no such name": {"", nil, []string{"--brokers", "kafka.invalid:9092," + v["SASL_SSL"]},
			preflight.Warning("broker", "kafka.invalid:9092", "can't be resolved", "--brokers")},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			user := full
			if row.omitted != "" || row.also != nil {
				user = c.newUser(t, "check-"+strings.ReplaceAll(name, " ", "-"))
				c.grantWorker(t, user.name, row.omitted)
				if row.also != nil {
					row.also(user)
				}
			}
			check(t, user, row.flags...).Expect(t, row.want)
		})
	}
	check(t, user{full.name, "wrong-password"}).
		Expect(t, preflight.Wrong("broker", "", "SASL Authentication Failed",
			"MARKREAD_SASL_PASSWORD"))

	admin := func(t *testing.T, extra ...string) kit.CheckResult {
		t.Helper()
		return kit.RunCheck(t, c.Kafka, im.URL, nil, extra...)
	}
	set := func(topic, setting, value string) {
		t.Helper()
		c.alterConfigs(t, kmsg.ConfigResourceTypeTopic, topic, map[string]*string{setting: &value})
	}
	for name, row := range map[string]struct {
		topic, setting, value string
		want                  preflight.Finding
	}{
		"compacted dead letters": {c.DeadLetters, "cleanup.policy", "compact",
			preflight.Wrong("cleanup.policy", c.DeadLetters,
				"loses dead letters", "cleanup.policy=delete on the topic (--dead-letter-topic)")},
		"size of dead letters": {c.Live, "max.message.bytes", "2000000",
			preflight.Warning("record size", c.DeadLetters, "2,000,000",
				"max.message.bytes=2065536")},
		"soon deleted": {c.Live, "retention.ms", "3600000",
			preflight.Warning("retention", c.Live, "1h00m", "retention.ms")},
		"time of append": {c.Backfill, "message.timestamp.type", "LogAppendTime",
			preflight.Warning("timestamps", c.Backfill, "LogAppendTime", "CreateTime")},
		"four in sync": {c.DeadLetters, "min.insync.replicas", "4",
			preflight.Warning("replicas", c.DeadLetters, "min.insync.replicas=4",
				"min.insync.replicas")},
	} {
		set(row.topic, row.setting, row.value)
		kit.Wait(t, name, connectLimit, func() bool { // each broker learns of it separately
			return slices.ContainsFunc(admin(t).Checks,
				func(f preflight.Finding) bool {
					return f.Check == row.want.Check && f.Result == row.want.Result
				})
		})
		admin(t).Expect(t, row.want)
		set(row.topic, row.setting, map[string]string{
			"cleanup.policy": "delete", "max.message.bytes": "1048588", "retention.ms": "604800000",
			"message.timestamp.type": "CreateTime", "min.insync.replicas": "2",
		}[row.setting])
	}
	c.AddPartitions(t, c.Backfill, kit.Partitions+3)
	admin(t).Expect(t,
		preflight.Warning("partition counts", "", c.Backfill, "--alter --topic "+c.Live))

	if testing.Short() {
		return // the command's tests have a frozen broker in virtual time
	}
	frozen := c.otherLeader(t)
	c.nodeCommand(t, "freeze", frozen)
	r := admin(t)
	c.nodeCommand(t, "thaw", frozen)
	found := slices.ContainsFunc(r.Checks, func(f preflight.Finding) bool {
		return f.Check == "broker" && f.Result == preflight.IsWrong &&
			strings.Contains(f.Found, "accepts connections but does not respond")
	})
	kit.Check(t, found, "the frozen broker is not found: %+v", r.Checks)
	kit.Figure(t, "check", "one of three brokers frozen %.2f s", r.Took.Seconds())
}
