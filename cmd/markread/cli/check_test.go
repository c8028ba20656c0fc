package cli

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/cli/clitest"
	"markread/worker/preflight"
)

// checkSetup is a broker, with a user who has exactly the permissions of deploy/OPERATIONS.md, and
// an IM server.
type checkSetup struct {
	*testing.T
	cluster *kfake.Cluster
	im      string
	args    []string
	env     []string
}

// neededACLs returns the permissions of deploy/OPERATIONS.md.
func neededACLs() []kfake.ACL {
	topic, group := kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	acl := func(kind kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral,
			Operation: operation,
			Allow:     true}
	}
	all := []kfake.ACL{
		acl(topic, "mark-read-dead-letters", kmsg.ACLOperationWrite),
		acl(group, "markread", kmsg.ACLOperationRead),
	}
	for _, name := range []string{"mark-read", "mark-read-backfill"} {
		all = append(all, acl(topic, name, kmsg.ACLOperationRead))
	}
	for _, name := range []string{"mark-read", "mark-read-backfill", "mark-read-dead-letters"} {
		all = append(all, acl(topic, name, kmsg.ACLOperationDescribeConfigs))
	}
	return all
}

// deadLetterTopicConfig returns the settings that --create-topics sets.
func deadLetterTopicConfig() map[string]string {
	return map[string]string{"retention.ms": "-1", "max.message.bytes": "1114124",
		"cleanup.policy": "delete"}
}

// newCheckSetup returns a setup in which nothing is wrong, except for what change does: it may
// change the topics and their settings, the permissions, and the broker's options.
func newCheckSetup(t *testing.T,
	change func(topics map[string]map[string]string, may *[]kfake.ACL)) *checkSetup {
	t.Helper()
	topics := map[string]map[string]string{"mark-read": {}, "mark-read-backfill": {},
		"mark-read-dead-letters": deadLetterTopicConfig()}
	may := neededACLs()
	if change != nil {
		change(topics, &may)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "admin", "admin"),
		kfake.User("PLAIN", "worker", "canary-password", may...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for name, settings := range topics {
		partitions := int32(4)
		if settings["partitions"] == "6" {
			partitions = 6
			delete(settings, "partitions")
		}
		if err := cluster.CreateTopic(name, partitions, settings); err != nil {
			t.Fatal(err)
		}
	}
	_, im := server(t)
	return &checkSetup{T: t, cluster: cluster, im: im,
		env: []string{"MARKREAD_IM_KEY=" + clitest.TestKey,
			"MARKREAD_SASL_PASSWORD=canary-password"}, args: []string{
			"check", "--brokers", strings.Join(cluster.ListenAddrs(), ","), "--sasl", "plain",
			"--sasl-user", "worker",
			"--im-url", im, "--im-app-id", "1400000000", "--admin-addr", "127.0.0.1:0",
		}}
}

// check runs the command with --json and returns its findings.
func (g *checkSetup) check(extra ...string) preflight.Report {
	g.Helper()
	return runCheck(g.T, g.env, append(slices.Clip(g.args), extra...)...)
}

// runCheck runs a check command line with --json: its output, its exit status and its last log line
// must agree.
func runCheck(t *testing.T, env []string, args ...string) (r preflight.Report) {
	t.Helper()
	got := try(t, env, "", append(args, "--json")...)
	if err := json.Unmarshal([]byte(got.Stdout), &r); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if r.OK != (got.Status == ExitOK) || r.OK != (got.Stderr == "") || r.OK != (r.Wrong == 0) ||
		strings.Contains(got.Stdout+got.Stderr, "canary") {
		t.Errorf("%+v", got)
	}
	if !r.OK {
		for _, f := range r.Checks {
			if f.Result == preflight.IsWrong &&
				!strings.Contains(clitest.LastLine(t, got.Stderr), f.Subject) {
				t.Errorf("the last line does not name %s: %s", f.Name(), got.Stderr)
			}
		}
	}
	for _, f := range r.Checks {
		if !slices.Contains(checkNames, f.Check) {
			t.Errorf("%q is no name of a check", f.Check)
		}
		if f.Found == "" || (f.Result == preflight.IsWrong || f.Result == preflight.IsWarning) &&
			f.Do == "" {
			t.Errorf("an incomplete finding: %+v", f)
		}
	}
	return r
}

// findingsOf returns the findings with one result.
func findingsOf(r preflight.Report, g preflight.Grade) preflight.Findings {
	return slices.DeleteFunc(slices.Clone(r.Checks),
		func(f preflight.Finding) bool { return f.Result != g })
}

// If nothing is wrong, nothing else is reported, with exactly the permissions of the README's
// table; and nothing is changed.
func TestCheckWithNothingWrong(t *testing.T) {
	clitest.NoLeaks(t)
	g := newCheckSetup(t, nil)
	var mu sync.Mutex
	asked := map[kmsg.Key]int{}
	g.cluster.Fault(kfake.Fault{Count: -1, When: func(r kmsg.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		asked[kmsg.Key(r.Key())]++
		return false
	}})
	r := g.check()
	if n := r.NotChecked + len(findingsOf(r, preflight.IsWrong)) + len(findingsOf(r,
		preflight.IsWarning)); n != 0 {
		t.Errorf("%+v", r.Checks)
	}
	var names []string
	for _, f := range findingsOf(r, preflight.IsOK) {
		names = append(names, f.Name())
	}
	want := []string{}
	for _, addr := range g.cluster.ListenAddrs() {
		want = append(want, "broker "+addr)
	}
	want = append(want, "topic mark-read", "permission mark-read", "topic mark-read-backfill",
		"permission mark-read-backfill", "topic mark-read-dead-letters",
		"permission mark-read-dead-letters", "permission group markread", "group markread",
		"lag mark-read",
		"lag mark-read-backfill", "IM server", "IM account", "clock", "admin server")
	if !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	for _, key := range []kmsg.Key{
		kmsg.Produce, kmsg.OffsetCommit, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.CreateTopics,
		kmsg.CreatePartitions,
		kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs,
		kmsg.DeleteTopics, kmsg.DeleteRecords, kmsg.InitProducerID, kmsg.OffsetDelete,
		kmsg.DeleteGroups,
	} {
		if asked[key] > 0 {
			t.Errorf("%d requests %s", asked[key], key.Name())
		}
	}
	if asked[kmsg.DescribeConfigs] == 0 || asked[kmsg.DescribeGroups] == 0 ||
		asked[kmsg.OffsetFetch] == 0 {
		t.Errorf("not all requests were made: %v", asked)
	}
	if g.cluster.GroupInfo("markread") != nil {
		t.Error("the group is there now")
	}

	// The text has one line for each check, the remedy below it, and a summary.
	text := try(t, g.env, "", g.args...)
	lines := strings.Split(strings.TrimSuffix(text.Stdout, "\n"), "\n")
	last := lines[len(lines)-1]
	if text.Status != ExitOK || text.Stderr != "" ||
		last != "0 wrong, 0 warnings, 0 not checked, 11 ok" ||
		len(lines) != 13 ||
		!strings.HasPrefix(lines[0], "ok           broker (3)  ") ||
		!strings.HasSuffix(lines[0], ", user worker by plain") ||
		lines[1] != "ok           topic mark-read, mark-read-backfill  4 partitions, 3 copies, "+
			"kept for 7d00h" {
		t.Errorf("%d %s%s", text.Status, text.Stderr, text.Stdout)
	}
}

// A problem with topics or permissions is reported with its remedy; the other findings are
// unchanged.
func TestCheckOfTopics(t *testing.T) {
	type settings = map[string]map[string]string
	without := func(operation kmsg.ACLOperation, name string) func(settings, *[]kfake.ACL) {
		return func(_ settings, may *[]kfake.ACL) {
			*may = slices.DeleteFunc(*may,
				func(a kfake.ACL) bool { return a.Operation == operation && a.Name == name })
		}
	}
	set := func(topic, name, value string) func(settings, *[]kfake.ACL) {
		return func(topics settings, _ *[]kfake.ACL) { topics[topic][name] = value }
	}
	missing := func(topics settings, _ *[]kfake.ACL) { delete(topics, "mark-read-dead-letters") }
	for name, c := range map[string]struct {
		change func(settings, *[]kfake.ACL)
		args   []string
		want   preflight.Finding // Found and Do must contain these texts
	}{
		"missing topic": {missing, nil,
			preflight.Wrong("topic", "mark-read-dead-letters", "does not exist",
				"--create-topics")},
		"missing topic, not to be created": {func(topics settings, may *[]kfake.ACL) {
			missing(topics, may)
		},
			[]string{"--create-topics"},
			preflight.Wrong("permission", "mark-read-dead-letters", "may not create", "Create")},
		"no write permission": {func(s settings, may *[]kfake.ACL) {
			for i := range *may {
				if (*may)[i].Operation == kmsg.ACLOperationWrite {
					(*may)[i].Operation = kmsg.ACLOperationDescribe
				}
			}
		}, nil, preflight.Wrong("permission", "mark-read-dead-letters", "may not write",
			"give the user Write on the topic (--dead-letter-topic)")},
		"no permission at all": {without(kmsg.ACLOperationWrite, "mark-read-dead-letters"), nil,
			preflight.Wrong("permission", "mark-read-dead-letters", "may not see",
				"Write on the topic (--dead-letter-topic)")},
		"no read permission": {without(kmsg.ACLOperationRead, "mark-read"), nil,
			preflight.Wrong("permission", "mark-read", "may not see",
				"Read on the topic (--topic)")},
		"no permission for the group": {without(kmsg.ACLOperationRead, "markread"), nil,
			preflight.Wrong("permission", "group markread", "may not see",
				"Read on the group (--group)")},
		"settings may not be read": {without(kmsg.ACLOperationDescribeConfigs,
			"mark-read-dead-letters"), nil,
			preflight.NotChecked("settings", "mark-read-dead-letters", "may not read",
				"DescribeConfigs")},
		"compacted dead letters": {set("mark-read-dead-letters", "cleanup.policy", "compact"), nil,
			preflight.Wrong("cleanup.policy", "mark-read-dead-letters", "loses dead letters",
				"cleanup.policy=delete on the topic (--dead-letter-topic)")},
		"both": {set("mark-read-dead-letters", "cleanup.policy", "compact,delete"), nil,
			preflight.Wrong("cleanup.policy", "mark-read-dead-letters", "loses dead letters",
				"cleanup.policy=delete")},
		"compacted events": {set("mark-read", "cleanup.policy", "compact"), nil,
			preflight.Warning("cleanup.policy", "mark-read", "largest MsgReadTime",
				"cleanup.policy=delete")},
		"dead letters are deleted": {set("mark-read-dead-letters", "retention.ms", "604800000"),
			nil,
			preflight.Warning("retention", "mark-read-dead-letters", "after 7d00h",
				"retention.ms=-1")},
		"events are soon deleted": {set("mark-read-backfill", "retention.ms", "3600000"), nil,
			preflight.Warning("retention", "mark-read-backfill", "1h00m", "retention.ms")},
		"dead letters are cut": {set("mark-read-dead-letters", "max.message.bytes", "1048588"), nil,
			preflight.Warning("record size", "mark-read-dead-letters", "1,048,588",
				"max.message.bytes=1114124")},
		"the broker's time": {set("mark-read", "message.timestamp.type", "LogAppendTime"), nil,
			preflight.Warning("timestamps", "mark-read", "LogAppendTime",
				"message.timestamp.type=CreateTime")},
		"unequal partitions": {set("mark-read-backfill", "partitions", "6"), nil,
			preflight.Warning("partition counts", "",
				"mark-read has 4 partitions, mark-read-backfill has 6",
				"--alter --topic mark-read --partitions 6")},
		"fewer for the backfill": {set("mark-read", "partitions", "6"), nil,
			preflight.Warning("partition counts", "", "mark-read has 6 partitions",
				"--alter --topic mark-read-backfill --partitions 6")},
		"another program's group": {nil, []string{"--group", "other"},
			preflight.Wrong("permission", "group other", "may not see", "--group")},
		"a name that does not exist": {func(_ settings, may *[]kfake.ACL) {
			(*may)[0].Name, (*may)[0].Pattern = "mark", kmsg.ACLResourcePatternTypePrefixed
		}, []string{"--dead-letter-topic", "mark-red"},
			preflight.Wrong("topic", "mark-red", "does not exist", "--dead-letter-topic")},
		"not the topic of this worker": {nil, []string{"--topic", "events"},
			preflight.Wrong("permission", "events", "may not see", "--topic")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newCheckSetup(t, c.change).check(c.args...)
			if strings.HasPrefix(c.want.Subject, "group ") { // the lag is then not checked
				r.Checks = slices.DeleteFunc(r.Checks,
					func(f preflight.Finding) bool {
						return f.Check == "lag" &&
							f.Result == preflight.IsNotChecked
					})
			}
			for _, g := range []preflight.Grade{preflight.IsWrong, preflight.IsWarning,
				preflight.IsNotChecked} {
				some := findingsOf(r, g)
				switch {
				case g != c.want.Result && len(some) > 0, g == c.want.Result && len(some) != 1:
					t.Errorf("%s: %+v", g, some)
				case g == c.want.Result:
					f := some[0]
					if f.Check != c.want.Check || f.Subject != c.want.Subject ||
						!strings.Contains(f.Found, c.want.Found) ||
						!strings.Contains(f.Do, c.want.Do) {
						t.Errorf("%+v, want %+v", f, c.want)
					}
				}
			}
		})
	}
}

// With the permission, a missing topic is fine: the check asks the broker without creating it.
func TestCheckOfTopicsToBeCreated(t *testing.T) {
	g := newCheckSetup(t, func(topics map[string]map[string]string, may *[]kfake.ACL) {
		delete(topics, "mark-read-dead-letters")
		delete(topics, "mark-read")
		for _, name := range []string{"mark-read", "mark-read-dead-letters"} {
			*may = append(*may, kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name,
				Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationCreate,
				Allow: true})
		}
	})
	r := g.check("--create-topics")
	made := slices.DeleteFunc(findingsOf(r, preflight.IsOK),
		func(f preflight.Finding) bool {
			return !strings.Contains(f.Found, "run creates it (--create-topics)")
		})
	if !r.OK || len(made) != 2 || made[0].Name() != "topic mark-read" ||
		made[1].Name() != "topic mark-read-dead-letters" {
		t.Errorf("%+v", r.Checks)
	}
	if g.cluster.TopicInfo("mark-read") != nil ||
		g.cluster.TopicInfo("mark-read-dead-letters") != nil {
		t.Error("a topic was made")
	}
}

// Equal findings share one line, the most urgent come first, and text from outside can't color the
// terminal.
func TestCheckReport(t *testing.T) {
	now := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	r := preflight.ReportOf(now,
		preflight.Findings{preflight.Good("broker", "kafka-1.example:9092", "it responds"),
			preflight.Good("broker", "kafka-2.example:9092", "it responds"),
			preflight.Warning("replicas", "a", "one copy", "add"),
			preflight.Good("topic", "a", "12 partitions")},
		preflight.Findings{preflight.Warning("replicas", "b", "one copy", "add"),
			preflight.Wrong("IM account", "",
				"no\x1b[31m\nkey", "set it"), preflight.NotChecked("clock", "", "no Date", "")})
	var b bytes.Buffer
	if err := printCheck(&b, r); err != nil {
		t.Fatal(err)
	}
	const want = `WRONG        IM account     no?[31m key
             do: set it
warning      replicas a, b  one copy
             do: add
not checked  clock          no Date
ok           broker (2)     it responds
ok           topic a        12 partitions

1 wrong, 1 warning, 1 not checked, 2 ok
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	if err := wrongError(r); err == nil || err.Error() != "check: wrong: IM account" || r.OK ||
		r.Warnings != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r := preflight.ReportOf(now,
		preflight.Findings{preflight.Warning("replicas", "a", "one copy", "add")}); !r.OK ||
		wrongError(r) != nil {
		t.Errorf("a warning fails: %+v", r)
	}
}
