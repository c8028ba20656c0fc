package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/imclient"
	"markread/imclient/sandbox"
)

// ground is a broker with a user who may do what the README's table says, and no more, and an IM server.
type ground struct {
	*testing.T
	cluster *kfake.Cluster
	im      string
	args    []string
	env     []string
}

// needs are the permissions of the README's table.
func needs() []kfake.ACL {
	topic, group := kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	acl := func(kind kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: operation, Allow: true}
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

// letterTopic are the settings that --create-topics gives.
func letterTopic() map[string]string {
	return map[string]string{"retention.ms": "-1", "max.message.bytes": "1114124", "cleanup.policy": "delete"}
}

// newGround makes the ground on which everything is right, but for what change does: it gets the topics with their settings, the permissions, and
// the broker's options.
func newGround(t *testing.T, change func(topics map[string]map[string]string, may *[]kfake.ACL)) *ground {
	t.Helper()
	topics := map[string]map[string]string{"mark-read": {}, "mark-read-backfill": {}, "mark-read-dead-letters": letterTopic()}
	may := needs()
	if change != nil {
		change(topics, &may)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"),
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
	return &ground{T: t, cluster: cluster, im: im, env: []string{"MARKREAD_IM_KEY=" + testKey, "MARKREAD_SASL_PASSWORD=canary-password"}, args: []string{
		"check", "--brokers", strings.Join(cluster.ListenAddrs(), ","), "--sasl", "plain", "--sasl-user", "worker",
		"--im-url", im, "--im-app-id", "1400000000", "--admin-addr", "127.0.0.1:0",
	}}
}

// check runs the command, with --json, and returns what it found.
func (g *ground) check(extra ...string) checkReport {
	g.Helper()
	return checked(g.T, g.env, append(slices.Clip(g.args), extra...)...)
}

// checked runs a command line of check with --json: what it prints, its exit status and its last words must agree.
func checked(t *testing.T, env []string, args ...string) (r checkReport) {
	t.Helper()
	got := try(t, env, "", append(args, "--json")...)
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if r.OK != (got.status == exitOK) || r.OK != (got.stderr == "") || r.OK != (r.Wrong == 0) || strings.Contains(got.stdout+got.stderr, "canary") {
		t.Errorf("%+v", got)
	}
	if !r.OK {
		for _, f := range r.Checks {
			if f.Result == isWrong && !strings.Contains(lastLine(t, got.stderr), f.name()) {
				t.Errorf("the last line does not name %s: %s", f.name(), got.stderr)
			}
		}
	}
	for _, f := range r.Checks {
		if !slices.Contains(checkNames, f.Check) {
			t.Errorf("%q is no name of a check", f.Check)
		}
		if f.Found == "" || (f.Result == isWrong || f.Result == isWarning) && f.Do == "" {
			t.Errorf("not all is said: %+v", f)
		}
	}
	return r
}

// found returns the findings with a result.
func (r *checkReport) found(g grade) findings {
	return slices.DeleteFunc(slices.Clone(r.Checks), func(f finding) bool { return f.Result != g })
}

// On a ground where everything is right nothing else is said, with the permissions of the README's table and no more; and nothing is changed.
func TestCheckOfWhatIsRight(t *testing.T) {
	noLeaks(t)
	g := newGround(t, nil)
	var mu sync.Mutex
	asked := map[kmsg.Key]int{}
	g.cluster.Fault(kfake.Fault{Count: -1, When: func(r kmsg.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		asked[kmsg.Key(r.Key())]++
		return false
	}})
	r := g.check()
	if n := r.NotChecked + len(r.found(isWrong)) + len(r.found(isWarning)); n != 0 {
		t.Errorf("%+v", r.Checks)
	}
	var names []string
	for _, f := range r.found(isOK) {
		names = append(names, f.name())
	}
	want := []string{"brokers", "topic mark-read", "topic mark-read-backfill", "topic mark-read-dead-letters", "permissions", "group markread", "lag mark-read", "lag mark-read-backfill",
		"IM server", "IM account", "clock", "admin server"}
	if !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	for _, key := range []kmsg.Key{
		kmsg.Produce, kmsg.OffsetCommit, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.CreateTopics, kmsg.CreatePartitions, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs,
		kmsg.DeleteTopics, kmsg.DeleteRecords, kmsg.InitProducerID, kmsg.OffsetDelete, kmsg.DeleteGroups,
	} {
		if asked[key] > 0 {
			t.Errorf("%d requests %s", asked[key], key.Name())
		}
	}
	if asked[kmsg.DescribeConfigs] == 0 || asked[kmsg.DescribeGroups] == 0 || asked[kmsg.OffsetFetch] == 0 {
		t.Errorf("this was no look at it: %v", asked)
	}
	if g.cluster.GroupInfo("markread") != nil {
		t.Error("the group is there now")
	}

	// For people it is a line each, with what to do below it, and a summary.
	text := try(t, g.env, "", g.args...)
	lines := strings.Split(strings.TrimSuffix(text.stdout, "\n"), "\n")
	last := lines[len(lines)-1]
	if text.status != exitOK || text.stderr != "" || last != "0 wrong, 0 warnings, 0 not checked, 12 ok" || len(lines) != 14 ||
		lines[2] != "ok           topic mark-read-backfill      4 partitions, 3 copies, kept for 7d00h" {
		t.Errorf("%d %s%s", text.status, text.stderr, text.stdout)
	}
}

// What is wrong with topics and permissions is found, with what to do, and the rest is found as before.
func TestCheckOfTopics(t *testing.T) {
	type settings = map[string]map[string]string
	without := func(operation kmsg.ACLOperation, name string) func(settings, *[]kfake.ACL) {
		return func(_ settings, may *[]kfake.ACL) {
			*may = slices.DeleteFunc(*may, func(a kfake.ACL) bool { return a.Operation == operation && a.Name == name })
		}
	}
	set := func(topic, name, value string) func(settings, *[]kfake.ACL) {
		return func(topics settings, _ *[]kfake.ACL) { topics[topic][name] = value }
	}
	missing := func(topics settings, _ *[]kfake.ACL) { delete(topics, "mark-read-dead-letters") }
	for name, c := range map[string]struct {
		change func(settings, *[]kfake.ACL)
		args   []string
		want   finding // Found and Do have this in them
	}{
		"missing topic": {missing, nil, wrong("topic", "mark-read-dead-letters", "does not exist", "--create-topics")},
		"missing topic, not to be created": {func(topics settings, may *[]kfake.ACL) { missing(topics, may) }, []string{"--create-topics"},
			wrong("permission", "mark-read-dead-letters", "may not create", "Create")},
		"no write permission": {func(s settings, may *[]kfake.ACL) {
			for i := range *may {
				if (*may)[i].Operation == kmsg.ACLOperationWrite {
					(*may)[i].Operation = kmsg.ACLOperationDescribe
				}
			}
		}, nil, wrong("permission", "mark-read-dead-letters", "may not write", "give the user Write on the topic (--dead-letter-topic)")},
		"no permission at all":        {without(kmsg.ACLOperationWrite, "mark-read-dead-letters"), nil, wrong("permission", "mark-read-dead-letters", "may not see", "Write on the topic (--dead-letter-topic)")},
		"no read permission":          {without(kmsg.ACLOperationRead, "mark-read"), nil, wrong("permission", "mark-read", "may not see", "Read on the topic (--topic)")},
		"no permission for the group": {without(kmsg.ACLOperationRead, "markread"), nil, wrong("permission", "group markread", "may not see", "Read on the group (--group)")},
		"settings may not be read":    {without(kmsg.ACLOperationDescribeConfigs, "mark-read-dead-letters"), nil, notChecked("settings", "mark-read-dead-letters", "may not read", "DescribeConfigs")},
		"compacted dead letters":      {set("mark-read-dead-letters", "cleanup.policy", "compact"), nil, wrong("cleanup.policy", "mark-read-dead-letters", "loses dead letters", "cleanup.policy=delete on the topic (--dead-letter-topic)")},
		"both":                        {set("mark-read-dead-letters", "cleanup.policy", "compact,delete"), nil, wrong("cleanup.policy", "mark-read-dead-letters", "loses dead letters", "cleanup.policy=delete")},
		"compacted events":            {set("mark-read", "cleanup.policy", "compact"), nil, warning("cleanup.policy", "mark-read", "largest MsgReadTime", "cleanup.policy=delete")},
		"dead letters are deleted":    {set("mark-read-dead-letters", "retention.ms", "604800000"), nil, warning("retention", "mark-read-dead-letters", "after 7d00h", "retention.ms=-1")},
		"events are soon deleted":     {set("mark-read-backfill", "retention.ms", "3600000"), nil, warning("retention", "mark-read-backfill", "1h00m", "retention.ms")},
		"dead letters are cut":        {set("mark-read-dead-letters", "max.message.bytes", "1048588"), nil, warning("record size", "mark-read-dead-letters", "1,048,588", "max.message.bytes=1114124")},
		"the broker's time":           {set("mark-read", "message.timestamp.type", "LogAppendTime"), nil, warning("timestamps", "mark-read", "LogAppendTime", "message.timestamp.type=CreateTime")},
		"unequal partitions":          {set("mark-read-backfill", "partitions", "6"), nil, warning("partition counts", "", "mark-read has 4 partitions, mark-read-backfill has 6", "--alter --topic mark-read --partitions 6")},
		"fewer for the backfill":      {set("mark-read", "partitions", "6"), nil, warning("partition counts", "", "mark-read has 6 partitions", "--alter --topic mark-read-backfill --partitions 6")},
		"another program's group":     {nil, []string{"--group", "other"}, wrong("permission", "group other", "may not see", "--group")},
		"a name that does not exist": {func(_ settings, may *[]kfake.ACL) {
			(*may)[0].Name, (*may)[0].Pattern = "mark", kmsg.ACLResourcePatternTypePrefixed
		}, []string{"--dead-letter-topic", "mark-red"}, wrong("topic", "mark-red", "does not exist", "--dead-letter-topic")},
		"not the topic of this worker": {nil, []string{"--topic", "events"}, wrong("permission", "events", "may not see", "--topic")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newGround(t, c.change).check(c.args...)
			if strings.HasPrefix(c.want.Subject, "group ") { // then the lag is not checked
				r.Checks = slices.DeleteFunc(r.Checks, func(f finding) bool { return f.Check == "lag" && f.Result == isNotChecked })
			}
			for _, g := range []grade{isWrong, isWarning, isNotChecked} {
				some := r.found(g)
				switch {
				case g != c.want.Result && len(some) > 0, g == c.want.Result && len(some) != 1:
					t.Errorf("%s: %+v", g, some)
				case g == c.want.Result:
					f := some[0]
					if f.Check != c.want.Check || f.Subject != c.want.Subject || !strings.Contains(f.Found, c.want.Found) || !strings.Contains(f.Do, c.want.Do) {
						t.Errorf("%+v, want %+v", f, c.want)
					}
				}
			}
		})
	}
}

// With the permission, a topic that is missing is fine; it is asked for, and not made.
func TestCheckOfTopicsToBeCreated(t *testing.T) {
	g := newGround(t, func(topics map[string]map[string]string, may *[]kfake.ACL) {
		delete(topics, "mark-read-dead-letters")
		delete(topics, "mark-read")
		for _, name := range []string{"mark-read", "mark-read-dead-letters"} {
			*may = append(*may, kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationCreate, Allow: true})
		}
	})
	r := g.check("--create-topics")
	made := slices.DeleteFunc(r.found(isOK), func(f finding) bool { return !strings.Contains(f.Found, "run creates it (--create-topics)") })
	if !r.OK || len(made) != 2 || made[0].name() != "topic mark-read" || made[1].name() != "topic mark-read-dead-letters" {
		t.Errorf("%+v", r.Checks)
	}
	if g.cluster.TopicInfo("mark-read") != nil || g.cluster.TopicInfo("mark-read-dead-letters") != nil {
		t.Error("a topic was made")
	}
}

// Brokers that are not there, or refuse, or are no brokers: one line each, or one for all that fail alike, and what needs them is not asked.
func TestCheckOfBrokers(t *testing.T) {
	noLeaks(t)
	g := newGround(t, nil)
	all := strings.Join(g.cluster.ListenAddrs(), ", ")
	web := strings.TrimPrefix(g.im, "http://")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	tlsAddr := strings.TrimPrefix(secure.URL, "https://")
	tlsPort := tlsAddr[strings.LastIndexByte(tlsAddr, ':'):]
	trusted := file(t, pemOf(secure.Certificate()))
	rest := g.args[3:]
	with := func(brokers string, extra ...string) []string {
		return slices.Concat([]string{"check", "--brokers", brokers}, rest, extra)
	}
	for name, c := range map[string]struct {
		args []string
		env  []string
		want finding
	}{
		"no broker":         {with(closed.Addr().String()), nil, wrong("broker", closed.Addr().String(), "nothing listens there", "--brokers")},
		"no name":           {with("kafka.invalid:9092"), nil, wrong("broker", "kafka.invalid:9092", "can't be resolved", "--brokers")},
		"wrong password":    {g.args, []string{"MARKREAD_SASL_PASSWORD=canary-wrong"}, wrong("broker", all, "SASL Authentication Failed", "--sasl-user and MARKREAD_SASL_PASSWORD")},
		"wrong user":        {append(slices.Clip(g.args), "--sasl-user", "nobody"), nil, wrong("broker", all, "SASL Authentication Failed", "--sasl-user")},
		"wrong mechanism":   {append(slices.Clip(g.args), "--sasl", "scram-sha-512"), nil, wrong("broker", all, "SASL", "--sasl")},
		"a web server":      {with(web), nil, wrong("broker", web, "does not answer", "--brokers")},
		"TLS wanted":        {with(tlsAddr), nil, wrong("broker", tlsAddr, "", "add --tls")},
		"TLS not wanted":    {append(slices.Clip(g.args), "--tls"), nil, wrong("broker", all, "does not answer", "leave out --tls")},
		"unknown authority": {with(tlsAddr, "--tls"), nil, wrong("broker", tlsAddr, "certificate", "--tls-ca")},
		"wrong name":        {with("localhost"+tlsPort, "--tls", "--tls-ca", trusted), nil, wrong("broker", "localhost"+tlsPort, "not localhost", "name the broker in --brokers")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some take seconds
			r := checked(t, append(c.env, g.env...), c.args...)
			some, unasked := r.found(isWrong), r.found(isNotChecked)
			if len(some) != 1 || len(unasked) != 1 || unasked[0].name() != "Kafka topics, group, lag" || len(r.found(isWarning)) != 0 {
				t.Fatalf("%+v", r.Checks)
			}
			if f := some[0]; f.Check != c.want.Check || f.Subject != c.want.Subject || !strings.Contains(f.Found, c.want.Found) || !strings.Contains(f.Do, c.want.Do) {
				t.Errorf("%+v, want %+v", f, c.want)
			}
		})
	}

	// One that is down among others that are not costs nothing.
	r := g.check("--brokers", closed.Addr().String()+","+g.cluster.ListenAddrs()[0])
	if some := r.found(isWarning); !r.OK || len(some) != 1 || some[0].Subject != closed.Addr().String() || !strings.Contains(some[0].Do, "--brokers") || r.NotChecked != 0 {
		t.Errorf("%+v", r.Checks)
	}
}

// imUnlike is an IM server with something wrong.
func imUnlike(t *testing.T, handler func(im http.Handler) http.Handler) string {
	t.Helper()
	im := sandbox.New(sandbox.Options{AppID: localAppID, Admin: localAdmin, Key: imclient.NewSecret(testKey), OpenAccounts: true})
	s := httptest.NewServer(handler(im))
	t.Cleanup(s.Close)
	return s.URL
}

// What is wrong with the IM server, or the way to it, is found, with what to do, and the rest is found as before.
func TestCheckOfTheIMServer(t *testing.T) {
	noLeaks(t)
	g := newGround(t, nil)
	answers := func(code int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { verdict(w, code, "no") })
		}
	}
	dated := func(ahead time.Duration) func(http.Handler) http.Handler {
		return func(im http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				im.ServeHTTP(w, r)
			})
		}
	}
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	trusted := file(t, pemOf(untrusted.Certificate()))
	nameless := strings.Replace(untrusted.URL, "127.0.0.1", "localhost", 1)
	unasked := "account, clock"
	for name, c := range map[string]struct {
		args    []string
		env     []string
		want    finding
		unasked string // what is not checked
	}{
		"wrong key":            {nil, []string{"MARKREAD_IM_KEY=canary-other"}, wrong("IM account", "", "ErrorCode 70009", "MARKREAD_IM_KEY"), ""},
		"another app":          {[]string{"--im-app-id", "1400000001"}, nil, wrong("IM account", "", "ErrorCode", "--im-app-id"), ""},
		"no administrator":     {[]string{"--im-admin", "alice"}, nil, wrong("IM account", "", "not an App administrator", "--im-admin"), ""},
		"another region":       {[]string{"--im-url", imUnlike(t, answers(60026))}, nil, wrong("IM account", "", "ErrorCode 60026", "check --im-url: it must be the host of the data centre that the app of --im-app-id lives in: china, singapore"), ""},
		"unpaid":               {[]string{"--im-url", imUnlike(t, answers(60020))}, nil, wrong("IM account", "", "ErrorCode 60020", "plan is paid"), ""},
		"ambiguous":            {[]string{"--im-url", imUnlike(t, answers(60004))}, nil, wrong("IM account", "", "ErrorCode 60004", "MARKREAD_IM_KEY"), ""},
		"busy":                 {[]string{"--im-url", imUnlike(t, answers(60007))}, nil, warning("IM account", "", "ErrorCode 60007", "again"), ""},
		"no such account":      {[]string{"--im-url", imUnlike(t, answers(90003))}, nil, warning("IM account", "", "ErrorCode 90003", "--im-admin"), ""},
		"clock an hour behind": {[]string{"--im-url", imUnlike(t, dated(time.Hour))}, nil, wrong("clock", "", "behind the IM server's", "NTP"), ""},
		"clock an hour ahead":  {[]string{"--im-url", imUnlike(t, dated(-time.Hour))}, nil, wrong("clock", "", "ahead of the IM server's", "NTP"), ""},
		"clock a minute ahead": {[]string{"--im-url", imUnlike(t, dated(-time.Minute))}, nil, warning("clock", "", "ahead of the IM server's", "NTP"), ""},
		"clock a second ahead": {[]string{"--im-url", imUnlike(t, dated(-time.Second))}, nil, finding{}, ""},
		"nobody listens":       {[]string{"--im-url", "http://127.0.0.1:1"}, nil, wrong("IM server", "", "refused", "--im-url"), unasked},
		"no name":              {[]string{"--im-url", "https://im.invalid"}, nil, wrong("IM server", "", "the name im.invalid can't be resolved here", "--im-url"), unasked},
		"unknown authority":    {[]string{"--im-url", untrusted.URL}, nil, wrong("IM server", "", "unknown authority", "root certificates"), unasked},
		"no TLS":               {[]string{"--im-url", strings.Replace(g.im, "http:", "https:", 1)}, nil, wrong("IM server", "", "does not speak TLS", "--im-url"), unasked},
		"TLS, not expected":    {[]string{"--im-url", strings.Replace(untrusted.URL, "https:", "http:", 1)}, nil, wrong("IM server", "", "HTTP status 400", "--im-url"), unasked},
		"a page": {[]string{"--im-url", imUnlike(t, func(http.Handler) http.Handler { return http.NotFoundHandler() })}, nil,
			wrong("IM server", "", "HTTP status 404", "--im-url"), unasked},
	} {
		t.Run(name, func(t *testing.T) {
			r := checked(t, append(c.env, g.env...), append(slices.Clip(g.args), c.args...)...)
			some := append(r.found(isWrong), r.found(isWarning)...)
			if c.want.Check == "" {
				if len(some) > 0 || r.NotChecked > 0 {
					t.Errorf("%+v", r.Checks)
				}
				return
			}
			if len(some) != 1 || (r.NotChecked > 0) != (c.unasked != "") || r.NotChecked > 0 && r.found(isNotChecked)[0].Subject != c.unasked {
				t.Fatalf("%+v", r.Checks)
			}
			if f := some[0]; f.Result != c.want.Result || f.Check != c.want.Check || !strings.Contains(f.Found, c.want.Found) || !strings.Contains(f.Do, c.want.Do) {
				t.Errorf("%+v, want %+v", f, c.want)
			}
		})
	}

	// A signature that is refused once is made anew, as in a worker.
	calls := 0
	url := imUnlike(t, func(im http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls++; calls == 1 {
				verdict(w, 70001, "expired")
				return
			}
			im.ServeHTTP(w, r)
		})
	})
	if r := g.check("--im-url", url); !r.OK || calls != 2 {
		t.Errorf("%d calls: %+v", calls, r.Checks)
	}

	// Whether a certificate is of the right name shows only when it is trusted: a process of its own trusts it.
	t.Run("wrong name", func(t *testing.T) {
		r := childCheck(t, append(g.env, "SSL_CERT_FILE="+trusted), append(slices.Clip(g.args), "--im-url", nameless)...)
		if some := r.found(isWrong); len(some) != 1 || some[0].Check != "IM server" || !strings.Contains(some[0].Found, "localhost") || !strings.Contains(some[0].Do, "names the host as its certificate does") {
			t.Errorf("%+v", r.Checks)
		}
	})
}

// A worker runs here already, or another program has the port; files with secrets that everybody may read.
func TestCheckOfThisMachine(t *testing.T) {
	noLeaks(t)
	g := newGround(t, nil)
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	worker, admin := beginWorkerAs(t, g)
	open := file(t, testKey)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	group := file(t, testKey)
	if err := os.Chmod(group, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env, args []string
		want      finding
	}{
		"a worker":      {g.env, []string{"--admin-addr", admin}, warning("admin server", "", "a worker runs here already", "--admin-addr")},
		"another":       {g.env, []string{"--admin-addr", strings.TrimPrefix(taken.URL, "http://")}, wrong("admin server", "", "taken by another program", "--admin-addr")},
		"no address":    {g.env, []string{"--admin-addr", "192.0.2.1:8780"}, wrong("admin server", "", "can't listen on 192.0.2.1:8780", "--admin-addr")},
		"open key":      {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + open}, nil, warning("secret file", "MARKREAD_IM_KEY_FILE", "mode 0644", "chmod o= "+open)},
		"a group's key": {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + group}, nil, ok("secret files", "", "1 file")},
		"closed key":    {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + file(t, testKey)}, nil, ok("secret files", "", "1 file")},
		"another rate":  {g.env, []string{"--rate", "100"}, warning("group", "markread", "go by 200 calls a second, this configuration by 100", "--rate")},
		"other topics":  {g.env, []string{"--backfill-topic="}, warning("group", "markread", "mark-read-backfill", "--topic and --backfill-topic")},
		"it does agree": {g.env, nil, ok("group", "markread", "1 worker runs, 200 calls a second for all")},
	} {
		t.Run(name, func(t *testing.T) {
			r := checked(t, c.env, append(slices.Clip(g.args), c.args...)...)
			if !slices.ContainsFunc(r.Checks, func(f finding) bool {
				return f.Result == c.want.Result && f.Check == c.want.Check && f.Subject == c.want.Subject && strings.Contains(f.Found, c.want.Found) && strings.Contains(f.Do, c.want.Do)
			}) {
				t.Errorf("%+v, want %+v", r.Checks, c.want)
			}
			if bad := len(r.found(isWrong)) + len(r.found(isWarning)); bad > 1 || bad == 1 && c.want.Result == isOK {
				t.Errorf("%+v", r.Checks)
			}
		})
	}
	if status := worker.stopped(); status != exitOK {
		t.Errorf("the worker: exit status %d", status)
	}
}

// beginWorkerAs begins a worker with the same configuration, and waits until it has its partitions.
func beginWorkerAs(t *testing.T, g *ground) (*running, string) {
	t.Helper()
	r := begin(t, g.env, append([]string{"run"}, g.args[1:]...)...)
	admin := r.found(t, `"addr":"(127\.0\.0\.1:\d+)"`)
	until(t, "the worker has partitions", func() bool { return strings.Contains(fetch(t, "http://"+admin+"/readyz"), `"ready":true`) })
	until(t, "the group is stable", func() bool {
		info := g.cluster.GroupInfo("markread")
		return info != nil && info.State == "Stable"
	})
	return r, admin
}
