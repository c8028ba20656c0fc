package cli

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/console"
	"markread/worker/format"
	"markread/worker/groupstatus"
)

var statusAt = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

// partitionsFrom returns n partitions of a topic.
func partitionsFrom(topic string, first, n int) (all []event.TopicPartition) {
	for i := range n {
		all = append(all, event.TopicPartition{Topic: topic, Partition: first + i})
	}
	return all
}

// sampleView returns a group with two workers that agree, and one with another rate.
func sampleView() *consumer.DescribedGroup {
	all := append(partitionsFrom("mark-read", 0, 12),
		partitionsFrom("mark-read-backfill", 0, 12)...)
	own := func(first int) []event.TopicPartition {
		return append(partitionsFrom("mark-read", first, 6),
			partitionsFrom("mark-read-backfill", first, 6)...)
	}
	leaders := &consumer.Terms{Rate: 200, All: all}
	return &consumer.DescribedGroup{State: consumer.GroupStable, Protocol: "markread",
		LeaderTerms: leaders,
		Members: []consumer.DescribedMember{
			{ID: "markread-5d0c", Client: "markread", Host: "10.0.3.17", Assigned: own(0),
				Terms: leaders},
			{ID: "markread-9a41", Client: "markread", Host: "10.0.3.18", Assigned: own(6),
				Terms: leaders},
			{ID: "markread-c7e2", Client: "markread", Host: "10.0.3.19",
				Terms:    &consumer.Terms{Rate: 100, All: all},
				Mismatch: "it uses a rate of 100, the group's leader uses 200"},
		}}
}

// What kafkaclient.WhyUnreadable returns for a partition without a leader.
const (
	sampleReason = "no leader for the partition: the brokers with its replicas are down, or it is " +
		"being moved (kafka-topics --describe --unavailable-partitions)"
	sampleDo = "check that the partition's leader runs and can be reached from here " +
		"(kafka-topics.sh --describe); see deploy/RUNBOOK.md#markreadpartitionunreadable"
)

// sampleReport returns a report with typical problems.
func sampleReport() *groupstatus.Report {
	lags := [][]admin.PartitionLag{nil, nil}
	for p := range 12 {
		live := admin.PartitionLag{TopicPartition: event.TopicPartition{Topic: "mark-read",
			Partition: p},
			Committed: 4711, OffsetRange: kafkaclient.OffsetRange{End: 4711}}
		if p == 7 {
			live.End, live.Lag, live.Finished, live.Oldest = 6028, 1317, 1290,
				statusAt.Add(-12*time.Minute-4*time.Second)
		} else if p == 3 {
			live.End, live.Lag, live.Oldest = 4713, 2, statusAt.Add(-400*time.Millisecond)
		} else if p == 11 {
			live.Err, live.End = errors.New("no leader"), 0
			live.Unreadable = &kafkaclient.Unreadable{Offset: 4711, Reason: sampleReason,
				Do: sampleDo}
		}
		lags[0] = append(lags[0], live)
		lags[1] = append(lags[1],
			admin.PartitionLag{TopicPartition: event.TopicPartition{Topic: "mark-read-backfill",
				Partition: p},
				Committed: -1})
	}
	fold := deadletter.NewIndex(3, deadletter.Filter{})
	offset := int64(0)
	add := func(n int, value []byte, headers ...string) {
		for range n {
			r := event.Record{Offset: offset, Value: value}
			for i := 0; i < len(headers); i += 2 {
				r.Headers = append(r.Headers,
					event.Header{Key: headers[i], Value: []byte(headers[i+1])})
			}
			fold.Add(r)
			offset++
		}
	}
	add(41, []byte("{}"), "markread.class", "rejected", "markread.code", "90048",
		"markread.replays", "0")
	add(2, []byte("{}"), "markread.class", "rejected", "markread.code", "90048", "markread.replays",
		"3")
	add(3, []byte("{}"), "markread.class", "exhausted", "markread.code", "timeout")
	add(1, []byte("?"), "markread.class", "invalid", "markread.code", "")
	add(1, nil, "markread.resolves", "0:0", "markread.resolution", "discarded")
	add(1, nil, "markread.resolves", "0:1", "markread.resolution", "replayed")
	add(1, []byte("hello"))
	r := &groupstatus.Report{At: statusAt, Group: groupstatus.GroupOf("markread", sampleView()),
		Letters: groupstatus.DeadLettersOf("mark-read-dead-letters", fold), Errors: []string{}}
	r.Lag = groupstatus.LagOf(lags, "mark-read-backfill", r.Group, statusAt)
	member, probe := "markread-9a41", statusAt.Add(8*time.Second)
	share, limit := 100, 100
	r.Worker = groupstatus.WorkerOf("http://127.0.0.1:8780", console.State{
		Ready: true, Group: console.Group{Name: "markread", Member: &member},
		Held: []console.Hold{{
			Reason: "outage", Since: statusAt.Add(-12 * time.Minute), NextProbeAt: &probe,
			Detail: "5 calls in a row got no ErrorCode, the last: " +
				"openim/admin_set_msg_read: no connection to the server (console.tim.qq.com)",
			Do: "check --im-url, name resolution, the firewall's rules for outgoing " +
				"connections, and the proxy if the environment names one",
		}},
		Partitions: []console.Partition{{Topic: "mark-read", Partition: 11,
			Unreadable: &console.Unreadable{
				Since: statusAt.Add(-3 * time.Minute), Offset: new(int64(4711)),
				Reason: sampleReason}}},
		Quota: console.Quota{Rate: 200, Share: &share, Limit: &limit},
		Lanes: console.Lanes{Live: console.Lane{Conversations: 24, Events: 27,
			OldestSeconds: 724.2}},
	}, "markread")
	return r
}

func printed(t *testing.T, r *groupstatus.Report) string {
	t.Helper()
	var b strings.Builder
	if err := printStatus(&b, r, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The operations manual shows what is printed, and knows every name of the JSON document.
func TestDocsStatus(t *testing.T) {
	r := sampleReport()
	checkGenerated(t, operationsFile, "status", "```\n"+printed(t, r)+"```\n")
	checkJSONNames(t, operationsFile, r)
}

// A watch's table has the time, the errors and the changes in addition. What is not known, as at
// first, is a hyphen.
func TestStatusChanges(t *testing.T) {
	text := func(c *changes, last, now *groupstatus.Report, took time.Duration) string {
		c.add(last, now, took)
		var b strings.Builder
		if err := printStatus(&b, now, c); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	check := func(text string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains("\n"+text, "\n"+line+"\n") {
				t.Errorf("no %q in\n%s", line, text)
			}
		}
	}
	// What changes from one report to the next one, two seconds later.
	after := func(seconds int) *groupstatus.Report {
		r := sampleReport()
		r.At = statusAt.Add(time.Duration(seconds) * time.Second)
		r.Worker.Calls = int64(190 * seconds)
		r.Letters.Reading = 1
		r.Letters.Open += int64(seconds) * 1000
		live, backfill := &r.Lag.Topics[0], &r.Lag.Topics[1]
		unreadable := live.Partitions[11]
		live.Partitions = live.Partitions[:11]
		*live.Partitions[7].Lag -= int64(10 * seconds)
		*live.Lag -= int64(10 * seconds)
		*backfill.Partitions[0].End += int64(75 * seconds)
		*backfill.Partitions[0].Lag += int64(75 * seconds)
		if seconds == 6 {
			live.Partitions = append(live.Partitions, unreadable)
		}
		return r
	}

	c := &changes{every: 2 * time.Second}
	first, second, third := after(0), after(2), after(4)
	check(text(c, nil, first, 300*time.Millisecond), "2026-03-01 03:00:00 UTC, every 2.0s",
		"  TOPIC                LANE       LAG     OLDEST   IN/S   DONE/S   TREND   PARTITIONS",
		"  mark-read            live       1,319   12m04s   -      -        -       11",
		"  calls: -/s now; a share of 100 of 200 calls a second, limit now 100, 0 in flight",
		"  new: -")
	second.Errors = []string{"1", "2", "3", "4", "5", "6", "7"}
	check(text(c, first, second, 1200*time.Millisecond),
		"2026-03-01 03:00:02 UTC, every 2.0s, this refresh took 1.2s", "  ! 5",
		"  … and 2 more errors",
		"  mark-read            live       1,299   12m04s   0      10       -10/s   11",
		"  mark-read-backfill   backfill   0       -        75     0        +75/s   12, 12 "+
			"without a commit (lag from the oldest record)",
		"  calls: 190/s now; a share of 100 of 200 calls a second, limit now 100, 0 in flight",
		"  time to drain: unknown during a hold",
		"  new: 2,000 since the last refresh, 2,000 since 2026-03-01 03:00:00 UTC")

	// Retention has deleted dead letters: they were read again.
	third.Letters.Reading = 2
	check(text(c, second, third, 0), "  new: -")
	fourth, fifth := after(6), after(8)
	fourth.Letters.Reading, fifth.Letters.Reading = 0, 2
	check(text(c, third, fourth, 0), "  new: -",
		"  mark-read            live       1,259   12m04s   0      10       -10/s   12, 1 NOT "+
			"KNOWN, 1 UNREADABLE")
	fourth.Lag, fourth.Worker = nil, nil
	check(text(c, fourth, fifth, 0),
		"  new: - since the last refresh, 4,000 since 2026-03-01 03:00:04 UTC",
		"  calls: -/s now; a share of 100 of 200 calls a second, limit now 100, 0 in flight")
	nothing := &groupstatus.Report{At: statusAt, Errors: []string{"no broker\x1b[2J"}}
	if got := text(c, fifth, nothing, 8*time.Second); got != "2026-03-01 03:00:00 UTC, every "+
		"2.0s, this refresh took 8.0s\n  ! no broker?[2J\n\n" {
		t.Errorf("%q", got)
	}
}

func TestStatusTrend(t *testing.T) {
	for _, c := range []struct {
		in, done float64
		want     string
	}{
		{100, 101, "-1/s"},
		{0, 1000, "-1,000/s"},
		{300.25, 1200, "-900/s"},
		{0, 0.4, "steady"},
		{0.4, 0, "steady"},
		{0.5, 0, "+0.5/s"},
		{3, 0.3, "+2.7/s"},
	} {
		shown := &changes{Rates: groupstatus.Rates{Topics: map[string]groupstatus.TopicRates{
			"t": {In: &c.in, Done: &c.done}}}}
		if got := shown.topicRates("t")[2]; got != c.want {
			t.Errorf("%g - %g: %q, want %q", c.in, c.done, got, c.want)
		}
	}
}

// The time to drain is the one on the worker's page, with the calls that were made instead of the
// limit.
func TestStatusTimeToDrain(t *testing.T) {
	unreadable := []groupstatus.WorkerUnreadable{{}}
	for name, c := range map[string]struct {
		calls  *float64
		change func(w *groupstatus.Worker)
		want   string
	}{
		"both lanes": {new(100.), func(*groupstatus.Worker) {}, "about 4m00s"},
		"half a call a second": {new(0.5), func(w *groupstatus.Worker) {
			w.Lanes.Backfill.Conversations = 0
		}, "about 2h46m"},
		"some are unreadable": {new(100.), func(w *groupstatus.Worker) { w.Unreadable = unreadable },
			"about 4m00s, without the unreadable partitions"},
		"only unreadable": {new(100.), func(w *groupstatus.Worker) {
			w.Lanes, w.Unreadable = console.Lanes{}, unreadable
		}, "unknown: the unreadable events are in Kafka"},
		"nothing waits": {new(100.), func(w *groupstatus.Worker) {
			w.Lanes, w.Held = console.Lanes{}, []console.Hold{{}}
		}, "no events wait"},
		"held": {new(100.), func(w *groupstatus.Worker) { w.Held = []console.Hold{{}} },
			"unknown during a hold"},
		"no calls":           {new(0.04), func(*groupstatus.Worker) {}, "unknown: no calls now"},
		"as slow as it gets": {new(0.05), func(*groupstatus.Worker) {}, "about 5d13h"},
		"first refresh":      {nil, func(*groupstatus.Worker) {}, "-"},
		"outside a generation": {new(100.), func(w *groupstatus.Worker) { w.Member = nil },
			"unknown: outside a generation the worker does not see the events in Kafka"},
	} {
		worker := &groupstatus.Worker{Member: new("m"), Lanes: console.Lanes{
			Live:     console.Lane{Conversations: 5000, Events: 12_345},
			Backfill: console.Lane{Conversations: 19_000, Events: 20_000}}}
		c.change(worker)
		var b strings.Builder
		shown := &changes{Rates: groupstatus.Rates{Calls: c.calls}}
		if err := printStatus(&b, &groupstatus.Report{Worker: worker}, shown); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), " in flight\n  time to drain: "+c.want+"\n") {
			t.Errorf("%s: no %q in\n%s", name, c.want, &b)
		}
	}
}

// Long numbers have separators, as everywhere.
func TestStatusOfABacklog(t *testing.T) {
	text := printed(t, &groupstatus.Report{Worker: &groupstatus.Worker{Lanes: console.Lanes{
		Live: console.Lane{Conversations: 1709, Events: 3893, OldestSeconds: 5}}}})
	if !strings.Contains(text, ": 1,709 conversations, 3,893 events, the oldest 5.0s\n") {
		t.Errorf("%s", text)
	}
}

// Notes explain problems of a group in words.
func TestStatusNotes(t *testing.T) {
	live := [][]admin.PartitionLag{{}, {}}
	for p := range 12 {
		live[0] = append(live[0],
			admin.PartitionLag{TopicPartition: event.TopicPartition{Topic: "mark-read",
				Partition: p}})
		live[1] = append(live[1],
			admin.PartitionLag{TopicPartition: event.TopicPartition{Topic: "mark-read-backfill",
				Partition: p}})
	}
	for name, c := range map[string]struct {
		change func(g *consumer.DescribedGroup)
		want   []string
		not    []string
	}{
		"as it should be": {func(g *consumer.DescribedGroup) { g.Members = g.Members[:2] },
			[]string{"STABLE, 2 members, 24 of 24 partitions assigned, 200 calls a second"},
			[]string{"!"}},
		"absent": {func(g *consumer.DescribedGroup) {
			*g = consumer.DescribedGroup{State: consumer.GroupAbsent}
		}, []string{"ABSENT", "no such group", "--group"}, []string{"MEMBER "}},
		"empty": {func(g *consumer.DescribedGroup) {
			*g = consumer.DescribedGroup{State: consumer.GroupEmpty}
		}, []string{"EMPTY", "no worker runs"}, []string{"MEMBER "}},
		"rebalancing": {func(g *consumer.DescribedGroup) {
			*g = consumer.DescribedGroup{State: consumer.GroupRebalancing,
				Members: []consumer.DescribedMember{{ID: "x"}}}
		}, []string{"REBALANCING, 1 member\n", "check again"},
			[]string{"version", "no partitions", "that no member has"}},
		"another's": {func(g *consumer.DescribedGroup) {
			*g = consumer.DescribedGroup{State: consumer.GroupStable, Protocol: "range\x1b",
				Members: []consumer.DescribedMember{{ID: "x\x1b[31m"}}}
		}, []string{`not markread workers (protocol "range?")`, "x?[31m"},
			[]string{"\x1b", "that no member has"}},
		"other rate": {func(*consumer.DescribedGroup) {},
			[]string{"! member 3: it uses a rate of 100, the group's leader uses 200", "24 of 24"},
			nil},
		"other version": {func(g *consumer.DescribedGroup) {
			g.Members[2].Terms, g.Members[2].Mismatch = nil, ""
		},
			[]string{"! member 3: its rate and topics can't be read"}, nil},
		"too many members": {func(g *consumer.DescribedGroup) {
			g.Members[2].Terms, g.Members[2].Mismatch = g.LeaderTerms, ""
		},
			[]string{"! member 3: it is a spare: there are more members than partitions, or than " +
				"calls a second"}, nil},
		"no share": {func(g *consumer.DescribedGroup) {
			g.LeaderTerms.Rate = 1 // the only permit belongs to the first partition
		}, []string{"1 calls a second", "! member 2: its share of the rate is 0"},
			[]string{"! member 1"}},
		"no limit": {func(g *consumer.DescribedGroup) { g.LeaderTerms.Rate = 0 },
			[]string{"no limit"},
			[]string{"its share"}},
		"not dealt": {func(g *consumer.DescribedGroup) {
			g.Members[0].Assigned = g.Members[0].Assigned[2:]
		},
			[]string{"22 of 24 partitions assigned",
				"partitions of topic mark-read that no member has: 0-1;"},
			[]string{"mark-read-backfill that"}},
	} {
		g := sampleView()
		c.change(g)
		r := &groupstatus.Report{At: statusAt, Group: groupstatus.GroupOf("markread", g)}
		r.Group.NoteUnassigned(live)
		text := printed(t, r)
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		for _, not := range c.not {
			if strings.Contains(text, not) {
				t.Errorf("%s: %q in\n%s", name, not, text)
			}
		}
	}
}

// A throttled hold has no probes: status shows when it ends. A probe that is due is not shown.
func TestStatusNextProbe(t *testing.T) {
	later, due := statusAt.Add(8*time.Second), statusAt.Add(-time.Second)
	for name, c := range map[string]struct {
		reason string
		at     time.Time
		want   string
	}{
		"probe":     {"outage", later, "UTC; next probe in 8.0s\n"},
		"due":       {"outage", due, "UTC\n"},
		"throttled": {"throttled", later, "UTC; ends in 8.0s\n"},
	} {
		r := &groupstatus.Report{At: statusAt, Worker: groupstatus.WorkerOf("", console.State{
			Held: []console.Hold{{Reason: c.reason, Since: due, NextProbeAt: &c.at}},
		}, "markread")}
		if text := printed(t, r); !strings.Contains(text, c.want) {
			t.Errorf("%s: no %q in\n%s", name, c.want, text)
		}
	}
}

// The shares that are shown are the workers' own, and add up to the rate.
func TestStatusShares(t *testing.T) {
	r := groupstatus.GroupOf("markread", sampleView())
	if a, b, c := *r.Members[0].Share, *r.Members[1].Share, *r.Members[2].Share; a != 100 ||
		b != 100 || c != 0 {
		t.Errorf("%d, %d and %d", a, b, c)
	}
}

// Long lists don't scroll the screen; what is not known is not shown as 0.
func TestStatusIsOneScreen(t *testing.T) {
	g := &consumer.DescribedGroup{State: consumer.GroupStable, Protocol: "markread"}
	var lag []admin.PartitionLag
	for p := range 500 {
		g.Members = append(g.Members, consumer.DescribedMember{ID: "m"})
		lag = append(lag, admin.PartitionLag{
			TopicPartition: event.TopicPartition{Topic: "mark-read", Partition: p}, Committed: -1,
			Lag: 10, Lost: 2,
			Oldest: statusAt.Add(-time.Duration(p) * time.Second),
		})
	}
	lag[7].Err, lag[7].Lag, lag[7].Oldest = errors.New("no leader"), 0, time.Time{}
	fold := deadletter.NewIndex(3, deadletter.Filter{})
	for i := range 300 {
		fold.Add(event.Record{Offset: int64(i),
			Headers: []event.Header{{Key: "markread.class",
				Value: []byte{'c', byte('a' + i%26), byte('a' + i/26)}}}})
	}
	r := &groupstatus.Report{At: statusAt, Group: groupstatus.GroupOf("g", g),
		Lag:     groupstatus.LagOf([][]admin.PartitionLag{lag}, "", nil, statusAt),
		Letters: groupstatus.DeadLettersOf("d", fold)}
	for i := range g.Members {
		r.Group.Members[i].Note = ""
	}
	text := printed(t, r)
	if lines := strings.Count(text, "\n"); lines > 70 {
		t.Errorf("%d lines", lines)
	}
	for _, want := range []string{
		"… and 480 more", "… and 484 more, less far behind", "… and 285 more kinds",
		"500, 500 without a commit (lag from the oldest record), 1 NOT KNOWN",
		"mark-read   live   4,990   8m19s",
		"retention deleted 998 events before they were read", "mark-read/499",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if r.Lag.Topics[0].Partitions[7].Lag != nil {
		t.Error("the lag of a partition that is not known is given")
	}
}

// Unreadable partitions are named one by one, up to a limit, and nothing suggests that no events
// wait there.
func TestStatusOfUnreadablePartitions(t *testing.T) {
	reportOf := func(partitions int, change func(l *admin.PartitionLag)) *groupstatus.Report {
		var lag []admin.PartitionLag
		for p := range partitions {
			l := admin.PartitionLag{TopicPartition: event.TopicPartition{Topic: "mark-read",
				Partition: p},
				Committed: 7}
			l.End = 7
			change(&l)
			lag = append(lag, l)
		}
		return &groupstatus.Report{At: statusAt,
			Lag: groupstatus.LagOf([][]admin.PartitionLag{lag}, "", nil, statusAt)}
	}
	denied := &kafkaclient.Unreadable{Offset: 7, Reason: "not\x1b[31m allowed\u202e",
		Do: "allow it"}
	errorsOf := func(r *groupstatus.Report) (texts []string) {
		for _, err := range r.Lag.Topics[0].Unreadable() {
			texts = append(texts, err.Error())
		}
		return texts
	}

	r := reportOf(30, func(l *admin.PartitionLag) { l.Unreadable = denied })
	text := printed(t, r)
	for _, want := range []string{
		"lag: not known; 30 partitions CAN'T BE READ\n",
		"  mark-read   live   ?     -        30, 30 NOT KNOWN, 30 UNREADABLE\n",
		"  ! UNREADABLE mark-read/19 at offset 7: not?[31m allowed?; allow it\n",
		"… and 10 more that can't be read (--json has all)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if r.Lag.Lag != nil || r.Lag.Topics[0].Lag != nil || r.Lag.Topics[0].Partitions[0].Lag != nil {
		t.Error("the lag of what can't be read is given")
	}
	if got := errorsOf(r); len(got) != 1 ||
		got[0] != `topic "mark-read", partitions 0-29 can't be read: not?[31m allowed?; allow it` {
		t.Errorf("%q", got)
	}

	// Several reasons, some with a known lag.
	r = reportOf(30, func(l *admin.PartitionLag) {
		if l.Partition%2 == 1 {
			l.Unreadable = &kafkaclient.Unreadable{Offset: -1,
				Reason: "reason " + strconv.Itoa(l.Partition), Do: "do"}
			l.End, l.Lag = 9, 2
		}
	})
	text = printed(t, r)
	for _, want := range []string{"lag: 30 events; 15 partitions CAN'T BE READ\n",
		"  ! UNREADABLE mark-read/1: reason 1; do\n", "30, 15 UNREADABLE\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := errorsOf(r); len(got) != 11 ||
		got[0] != `topic "mark-read", partition 1 can't be read: reason 1; do` ||
		!strings.HasSuffix(got[10], "5 other reasons") {
		t.Errorf("%q", got)
	}
	r = reportOf(3, func(l *admin.PartitionLag) {
		if l.Partition == 1 {
			l.Unreadable = denied
		} else {
			l.End, l.Lag = 10, 3
		}
	})
	if text := printed(t, r); !strings.Contains(text,
		"lag: at least 6 events; 1 partition CAN'T BE READ\n") {
		t.Errorf("%s", text)
	}
	if got := errorsOf(reportOf(3, func(*admin.PartitionLag) {})); got != nil {
		t.Errorf("%q", got)
	}

	// The worker's own unreadable partitions.
	worker := groupstatus.WorkerOf("http://x",
		console.State{Lanes: console.Lanes{Live: console.Lane{OldestSeconds: 60}}}, "")
	for p := range 25 {
		worker.Unreadable = append(worker.Unreadable,
			groupstatus.WorkerUnreadable{Topic: "mark-read", Partition: p,
				Unreadable: console.Unreadable{Since: statusAt.Add(-time.Minute),
					Reason: "because"}})
	}
	text = printed(t, &groupstatus.Report{At: statusAt, Worker: worker})
	for _, want := range []string{
		"  UNREADABLE: mark-read/19 for 1m00s, since 2026-03-01 02:59:00 UTC: because\n",
		"… and 5 more that it can't read", "waiting, live: nothing in memory, the oldest 1m00s",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestNumbersAndAges(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456",
		1234567: "1,234,567",
		-123:    "-123", -1234: "-1,234"} {
		if got := format.Thousands(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 1234 * time.Millisecond: "1.2s", 59 * time.Second: "59s",
		61 * time.Second:            "1m01s",
		2*time.Hour + 3*time.Minute: "2h03m", 50 * time.Hour: "2d02h",
	} {
		if got := format.Age(d); got != want {
			t.Errorf("%s is %s", d, got)
		}
	}
	for want, numbers := range map[string][]int{"": nil, "3": {3},
		"0-2,4,7-8": {0, 1, 2, 4, 7, 8}} {
		if got := format.Ranges(numbers); got != want {
			t.Errorf("%v is %s", numbers, got)
		}
	}
}
