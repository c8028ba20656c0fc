package preflight

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
)

// expectFindings checks that exactly the wanted findings are wrong, are warnings or are not
// checked: their names, and the texts that they must contain.
func expectFindings(t *testing.T, name string, got Findings, want ...Finding) {
	t.Helper()
	bad := slices.DeleteFunc(slices.Clone(got), func(f Finding) bool { return f.Result == IsOK })
	if len(bad) != len(want) {
		t.Errorf("%s: %+v, want %+v", name, bad, want)
		return
	}
	for i, f := range bad {
		w := want[i]
		if f.Check != w.Check || f.Subject != w.Subject || f.Result != w.Result ||
			!strings.Contains(f.Found, w.Found) || !strings.Contains(f.Do, w.Do) {
			t.Errorf("%s: %+v, want %+v", name, f, w)
		}
	}
}

func TestBrokerFindings(t *testing.T) {
	fine := admin.DescribedBroker{Addr: "a:1", Configured: true, Release: "4.4"}
	bad := func(listed bool, err error) admin.DescribedBroker {
		return admin.DescribedBroker{Addr: "b:1", Configured: !listed,
			Node: map[bool]int{true: 1, false: -1}[listed],
			Err:  err}
	}
	unnamed := &net.OpError{Op: "dial", Err: &net.DNSError{Name: "b", IsNotFound: true}}
	for name, c := range map[string]struct {
		brokers []admin.DescribedBroker
		want    []Finding
	}{
		"all answer": {[]admin.DescribedBroker{fine, fine}, nil},
		"advertised without name": {[]admin.DescribedBroker{fine, bad(true, unnamed)},
			[]Finding{Wrong("broker", "b:1",
				"its name can't be resolved here; the cluster sends its clients there",
				"advertised.listeners")}},
		"advertised without route": {[]admin.DescribedBroker{fine, bad(true, syscall.EHOSTUNREACH)},
			[]Finding{Wrong("broker", "b:1", "no route", "advertised.listeners")}},
		"given, one of two": {[]admin.DescribedBroker{fine, bad(false, unnamed)},
			[]Finding{Warning("broker", "b:1", "can't be resolved",
				"the others are used meanwhile")}},
		"given, the only one": {[]admin.DescribedBroker{bad(false, unnamed)},
			[]Finding{Wrong("broker", "b:1", "can't be resolved", "(--brokers)")}},
		"reset": {[]admin.DescribedBroker{bad(false, syscall.ECONNRESET)},
			[]Finding{Wrong("broker", "b:1", "closes the connection", "--tls")}},
		"hung up": {[]admin.DescribedBroker{bad(false, io.EOF)},
			[]Finding{Wrong("broker", "b:1", "closes the connection", "--sasl")}},
		"a firewall": {[]admin.DescribedBroker{bad(false, &net.OpError{Op: "dial",
			Err: os.ErrDeadlineExceeded})},
			[]Finding{Wrong("broker", "b:1", "no connection in time", "firewalls")}},
		"odd": {[]admin.DescribedBroker{bad(false, errors.New("odd"))},
			[]Finding{Wrong("broker", "b:1", "odd", "(--brokers)")}},
		"refused": {[]admin.DescribedBroker{fine,
			bad(false, &kafkaclient.RefusedError{Broker: "b:1", Remedy: "omit --tls",
				Err: errors.New("no")})},
			[]Finding{Warning("broker", "b:1", "no", "omit --tls")}},
		"too old": {[]admin.DescribedBroker{{Addr: "b:1", Release: "0.10",
			Unsupported: []string{"Fetch", "Produce"}}},
			[]Finding{Wrong("broker", "b:1", "of Fetch, Produce (Kafka 0.10)",
				"Kafka 0.11 or later")}},
	} {
		expectFindings(t, name, brokerFindings(c.brokers, ""), c.want...)
	}
	entrance := admin.DescribedBroker{Addr: "bootstrap:1", Configured: true, Node: -1,
		Release: "4.4"}
	if f := brokerFindings([]admin.DescribedBroker{entrance}, "")[0]; f != Good("broker",
		"bootstrap:1", "it leads to the cluster, Kafka 4.4, without TLS and authentication") {
		t.Errorf("%+v", f)
	}
}

func TestReplicaFindings(t *testing.T) {
	settings := map[string]string{kafkaclient.MinInSync: "2", kafkaclient.CleanupPolicy: "delete",
		kafkaclient.RetentionMs: "-1"}
	full := kafkaclient.Partition{Replicas: 3, InSync: 3}
	for name, c := range map[string]struct {
		settings map[string]string
		last     kafkaclient.Partition
		events   []Finding // for an event topic
		letters  []Finding
	}{
		"all in sync": {settings, full, nil, nil},
		"one is behind": {settings, kafkaclient.Partition{Replicas: 3, InSync: 2},
			[]Finding{Warning("replicas", "t", "1 of 2 partitions are not fully in sync", "down")},
			[]Finding{Warning("replicas", "t", "1 of 2 partitions", "")}},
		"no leader": {settings, kafkaclient.Partition{Leaderless: true, Replicas: 3},
			[]Finding{Wrong("replicas", "t", "1 of 2 partitions have no leader",
				"bring back the brokers")},
			[]Finding{Wrong("replicas", "t", "no leader", "")}},
		"too few in sync": {settings, kafkaclient.Partition{Replicas: 3, InSync: 1},
			[]Finding{Warning("replicas", "t", "min.insync.replicas=2, so producers can't write",
				"bring")},
			[]Finding{Wrong("replicas", "t", "calls would be held at the first dead letter",
				"bring")}},
		"too few replicas": {settings, kafkaclient.Partition{Replicas: 1, InSync: 1},
			[]Finding{Warning("replicas", "t", "min.insync.replicas=2 is more than",
				"add replicas"),
				Warning("replicas", "t", "one copy", "replication factor")},
			[]Finding{Warning("replicas", "t", "an older Kafka then accepts no writes", "lower"),
				Warning("replicas", "t", "one copy", "")}},
		"too few of both": {map[string]string{kafkaclient.MinInSync: "4"},
			kafkaclient.Partition{Replicas: 3,
				InSync: 2}, []Finding{Warning("replicas", "t", "1 of 2 partitions accept no writes",
				""),
				Warning("replicas", "t", "min.insync.replicas=4 is more", "")},
			[]Finding{Wrong("replicas", "t", "1 of 2 partitions accept no writes", ""),
				Warning("replicas", "t", "min.insync.replicas=4 is more", "")}},
		"one copy": {map[string]string{kafkaclient.MinInSync: "1"},
			kafkaclient.Partition{Replicas: 1,
				InSync: 1}, []Finding{Warning("replicas", "t", "one copy", "3")},
			[]Finding{Warning("replicas", "t", "one copy", "3")}},
	} {
		v := admin.DescribedTopic{Name: "t", Settings: c.settings,
			Partitions: []kafkaclient.Partition{full, c.last}}
		expectFindings(t, name, replicaFindings(v, false), c.events...)
		expectFindings(t, name+", dead letters", replicaFindings(v, true), c.letters...)
	}
}

func TestTopicFindings(t *testing.T) {
	topics := event.Topics{Live: "live", Backfill: "", DeadLetter: "letters"}
	one := []kafkaclient.Partition{{Replicas: 3, InSync: 3}}
	events := admin.DescribedTopic{Name: "live", Partitions: one, May: kafkaclient.MayRead,
		Settings: map[string]string{kafkaclient.RetentionMs: "604800000",
			kafkaclient.RetentionBytes:  "-1",
			kafkaclient.MaxMessageBytes: "1000"}}
	letters := admin.DescribedTopic{Name: "letters", Partitions: one, May: kafkaclient.MayWrite,
		Settings: map[string]string{kafkaclient.RetentionMs: "-1", kafkaclient.RetentionBytes: "-1",
			kafkaclient.MaxMessageBytes: "66536"}}
	findings := func(change func(events, letters *admin.DescribedTopic)) Findings {
		e, l := events, letters
		change(&e, &l)
		return topicFindings(topics, []admin.DescribedTopic{e, l}, true)
	}
	expectFindings(t, "right", findings(func(_, _ *admin.DescribedTopic) {}))
	expectFindings(t, "an old broker",
		findings(func(e, _ *admin.DescribedTopic) { e.May = -1 << 31 }),
		NotChecked("permission", "live", "does not report", ""))
	expectFindings(t, "may only describe",
		findings(func(e, _ *admin.DescribedTopic) { e.May = 1 << 8 }),
		Wrong("permission", "live", "may not read", "Read on the topic (--topic)"))
	expectFindings(t, "odd",
		findings(func(e, _ *admin.DescribedTopic) {
			*e = admin.DescribedTopic{Name: "live",
				Err: errors.New("odd")}
		}), Wrong("topic", "live", "odd", "--topic"))
	expectFindings(t, "can't be made", findings(func(_, l *admin.DescribedTopic) {
		*l = admin.DescribedTopic{Name: "letters", Missing: true,
			Refused: errors.New("policy violation")}
	}), Wrong("topic", "letters", "--create-topics would fail: policy violation",
		"--dead-letter-topic"))
	expectFindings(t, "a limit of bytes", findings(func(_, l *admin.DescribedTopic) {
		l.Settings = map[string]string{kafkaclient.RetentionMs: "-1",
			kafkaclient.RetentionBytes: "1000000"}
	}), Warning("retention", "letters", "more than 1,000,000 bytes", "retention.bytes=-1"))
	expectFindings(t, "a little too small", findings(func(_, l *admin.DescribedTopic) {
		l.Settings = map[string]string{kafkaclient.MaxMessageBytes: "66535"}
	}), Warning("record size", "letters", "66,535", "max.message.bytes=66536"))
	expectFindings(t, "settings fail",
		findings(func(e, _ *admin.DescribedTopic) {
			e.Settings, e.SettingsErr = nil,
				errors.New("timed out")
		}), NotChecked("settings", "live", "timed out", "check again, or check cleanup.policy"))
	for ms, text := range map[string]string{"86400000": "kept for 24h00m",
		"86399999":            "kept for 23h59m",
		"9223372036854775807": "kept for ever", "-1": "kept for ever"} {
		got := findings(func(e, _ *admin.DescribedTopic) {
			e.Settings = map[string]string{kafkaclient.RetentionMs: ms,
				kafkaclient.RetentionBytes: "5000"}
		})
		if want := Good("topic", "live",
			"1 partition, 3 copies, "+text+
				" and up to 5,000 bytes a partition"); !slices.Contains(got, want) {
			t.Errorf("%s: %+v, want %+v", ms, got, want)
		}
		short, small := 0, 0
		for _, f := range got {
			switch {
			case f.Check == "retention" && strings.Contains(f.Found, "5,000 bytes"):
				small++
			case f.Check == "retention":
				short++
			}
		}
		if (short == 1) != (ms == "86399999") || small != 1 {
			t.Errorf("%s: %+v", ms, got)
		}
	}
}

func TestGroupFindings(t *testing.T) {
	o := Options{Group: "markread", Rate: 200,
		Topics: event.Topics{Live: "mark-read", Backfill: "mark-read-backfill"}}
	all := []event.TopicPartition{{Topic: "mark-read"}, {Topic: "mark-read", Partition: 1},
		{Topic: "mark-read-backfill"}}
	for name, c := range map[string]struct {
		view consumer.DescribedGroup
		err  error
		want []Finding
	}{
		"nobody": {consumer.DescribedGroup{State: consumer.GroupAbsent}, nil, nil},
		"rebalancing": {consumer.DescribedGroup{State: consumer.GroupRebalancing,
			Members: make([]consumer.DescribedMember, 2)}, nil, nil},
		"of another kind": {consumer.DescribedGroup{
			State: consumer.GroupUnsupported, May: kafkaclient.MayRead,
			Unsupported: &consumer.UnsupportedGroupError{Group: "markread", Kind: "consumer"},
		}, nil, []Finding{Wrong("group", "markread",
			"it is used by consumers of the new group protocol (group.protocol=consumer, KIP-848)",
			"another --group")}},
		"an old broker": {consumer.DescribedGroup{State: consumer.GroupEmpty, May: -1 << 31}, nil,
			[]Finding{NotChecked("permission", "group markread", "does not report", "")}},
		"another program": {consumer.DescribedGroup{State: consumer.GroupStable, Protocol: "range",
			Members: make([]consumer.DescribedMember, 2)}, nil,
			[]Finding{Wrong("group", "markread",
				`its 2 members are not markread workers (protocol "range")`, "another --group")}},
		"may not read": {consumer.DescribedGroup{State: consumer.GroupEmpty, May: 1 << 8}, nil,
			[]Finding{Wrong("permission", "group markread", "may not read",
				"Read on the group (--group): without it, a worker can neither join nor commit")}},
		"no answer": {consumer.DescribedGroup{}, errors.New("no response; gave up after 8s"),
			[]Finding{Wrong("group", "markread", "gave up", "--group")}},
		"they agree": {consumer.DescribedGroup{State: consumer.GroupStable,
			LeaderTerms: &consumer.Terms{Rate: 200, All: all}}, nil, nil},
		"another rate": {consumer.DescribedGroup{State: consumer.GroupStable,
			LeaderTerms: &consumer.Terms{Rate: 0,
				All: all}}, nil,
			[]Finding{Warning("group", "markread", "use no limit, this configuration 200",
				"--rate")}},
		"other topics": {consumer.DescribedGroup{State: consumer.GroupStable,
			LeaderTerms: &consumer.Terms{Rate: 200,
				All: all[:2]}}, nil, []Finding{Warning("group", "markread", `read ["mark-read"], `+
			`this configuration `+
			`["mark-read" "mark-read-backfill"]`, "--backfill-topic")}},
	} {
		if c.view.May == 0 {
			c.view.May = kafkaclient.MayRead
		}
		expectFindings(t, name, groupFindings(o, c.view, c.err), c.want...)
	}
}

func TestLagFindings(t *testing.T) {
	now := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	v := admin.DescribedTopic{Name: "t",
		Settings: map[string]string{kafkaclient.RetentionMs: "604800000"}}
	// a backfill: the event is much older than its record
	behind := func(lag int64, waited time.Duration) admin.PartitionLag {
		return admin.PartitionLag{Lag: lag, Committed: 7, Oldest: now.Add(-1000 * time.Hour),
			Written: now.Add(-waited)}
	}
	for name, c := range map[string]struct {
		lags []admin.PartitionLag
		err  error
		want []Finding
	}{
		"little": {[]admin.PartitionLag{behind(5, time.Hour), {}}, nil, nil},
		"half gone": {[]admin.PartitionLag{behind(5, time.Hour), behind(5, 4*24*time.Hour)}, nil,
			[]Finding{Warning("lag", "t", "waited for 4d00h, and the topic keeps 7d00h",
				"retention.ms")}},
		"lost": {[]admin.PartitionLag{{Lost: 1234}}, nil,
			[]Finding{Warning("lag", "t", "deleted 1,234 events before they were read",
				"retention.ms")}},
		"beyond": {[]admin.PartitionLag{{},
			{TopicPartition: event.TopicPartition{Topic: "t", Partition: 1},
				Committed: 500, OffsetRange: kafkaclient.OffsetRange{End: 200}, Beyond: 300}}, nil,
			[]Finding{Wrong("lag", "t", "beyond the end of the log in partitions 1 (partition 1: "+
				"500, end 200)", "--reset-offsets")}},
		"no leader": {[]admin.PartitionLag{
			{OffsetRange: kafkaclient.OffsetRange{Err: errors.New("no leader")}}, {}},
			nil, []Finding{NotChecked("lag", "t",
				"the request to the leader failed for 1 of 2 partitions (0): no leader", "")}},
		"no answer": {nil, errors.New("no response; gave up after 8s"),
			[]Finding{NotChecked("lag", "t", "gave up", "")}},
	} {
		expectFindings(t, name, lagFindings(v, c.lags, c.err, now), c.want...)
	}
	if f := lagFindings(v,
		[]admin.PartitionLag{{Lag: 1200, Finished: 200, Committed: -1,
			Oldest:  now.Add(-99 * time.Hour),
			Written: now.Add(-time.Hour)}}, nil,
		now)[0]; f.Found != "1,000 events to do, the oldest for 1h00m; the group has no offsets: "+
		"run begins with the "+
		"oldest record" {
		t.Error(f.Found)
	}
}

// The server's Date has whole seconds, and a call takes time: differences within these are not a
// skew.
func TestClockFindings(t *testing.T) {
	sent := time.Date(2026, 3, 1, 3, 0, 0, 900e6, time.UTC)
	came := sent.Add(3 * time.Second)
	for date, want := range map[time.Duration]time.Duration{
		0: 0, -900 * time.Millisecond: 0, -time.Second: 0, 2 * time.Second: 0,
		-2 * time.Second: time.Second,
		4 * time.Second:  -time.Second, -3601 * time.Second: time.Hour,
	} {
		if got := skewOf(Call{Sent: sent, Received: came,
			Answer: imclient.Response{Date: sent.Add(date)}}); got != want {
			t.Errorf("Date at %s: %s, want %s", date, got, want)
		}
	}
	at := func(ahead time.Duration, until time.Time) Findings {
		return clockFindings(Call{URL: "https://im.test", Sent: sent, Received: sent,
			Answer: imclient.Response{Date: sent.Add(-ahead - time.Second), CertExpires: until}})
	}
	expectFindings(t, "30 s", at(30*time.Second, time.Time{}))
	expectFindings(t, "31 s", at(31*time.Second, time.Time{}),
		Warning("clock", "", "31s ahead", "NTP"))
	expectFindings(t, "5 min", at(5*time.Minute, time.Time{}),
		Warning("clock", "", "5m00s ahead", "NTP"))
	expectFindings(t, "more", at(5*time.Minute+time.Second, time.Time{}),
		Wrong("clock", "", "5m01s ahead", "NTP"))
	expectFindings(t, "expires", at(0, sent.Add(13*24*time.Hour)),
		Warning("certificate", "im.test", "expires in 13d00h", "--im-url"))
	expectFindings(t, "expires later", at(0, sent.Add(15*24*time.Hour)))
	expectFindings(t, "no Date", clockFindings(Call{}),
		NotChecked("clock", "", "does not send", ""))
}

// A proxy that requires a password is named, whichever way it refuses the call.
func TestCallFindingsThroughAProxy(t *testing.T) {
	for name, failure := range map[string]*imclient.Error{
		"for https": {Label: imclient.LabelConnect,
			Err: errors.New("Proxy Authentication Required")},
		"for http": {Label: "http_407", Status: 407},
	} {
		expectFindings(t, name,
			CallFindings(Call{URL: "https://im.test", proxy: "proxy:3128", Err: failure}),
			Wrong("IM server", "", "https://im.test through the proxy proxy:3128: ",
				"give the proxy its user and password"),
			NotChecked("IM account", "", "does not respond", ""),
			NotChecked("clock", "", "does not respond", ""))
	}
}

func TestMachineFindings(t *testing.T) {
	now := time.Now()
	expectFindings(t, "expired",
		clientCertificateFindings(&x509.Certificate{NotAfter: now.Add(-time.Hour)}, now),
		Wrong("client certificate", "", "has expired", "--tls-cert"))
	expectFindings(t, "soon",
		clientCertificateFindings(&x509.Certificate{NotAfter: now.Add(time.Hour)}, now),
		Warning("client certificate", "", "expires in 1h00m", "--tls-cert"))
	expectFindings(t, "not yet",
		clientCertificateFindings(&x509.Certificate{NotBefore: now.Add(time.Hour),
			NotAfter: now.Add(99 * time.Hour)},
			now), Wrong("client certificate", "", "not valid before", "--tls-cert"))
	expectFindings(t, "valid",
		clientCertificateFindings(&x509.Certificate{NotAfter: now.Add(1000 * time.Hour)}, now))
	password := func(sasl, broker string, secure bool) Findings {
		return passwordFindings(Options{Brokers: []string{"127.0.0.1:9092", broker}, SASL: sasl,
			TLS: secure})
	}
	expectFindings(t, "in clear", password("plain", "kafka:9092", false),
		Warning("password", "", "can read it", "--tls"))
	expectFindings(t, "on this machine", password("plain", "localhost:9092", false))
	expectFindings(t, "over TLS", password("plain", "kafka:9092", true))
	expectFindings(t, "SCRAM", password("scram-sha-512", "kafka:9092", false))
	expectFindings(t, "few files", openFilesFindings(256, 200, 1),
		Warning("open files", "", "may open 256, a worker needs up to 420", "LimitNOFILE="))
	expectFindings(t, "files", openFilesFindings(1024, 200, 3))
}
