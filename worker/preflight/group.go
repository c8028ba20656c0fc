package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/kafkaclient"
	"markread/worker/format"
)

// groupFindings returns what a worker with these flags would find in its group.
func groupFindings(o Options, g consumer.DescribedGroup, err error) (all Findings) {
	switch {
	case kafkaclient.Denied(err):
		return Findings{Wrong("permission", "group "+o.Group, "the user may not see the group",
			"give the user Read on the group (--group)")}
	case err != nil:
		return Findings{Wrong("group", o.Group, "it can't be described: "+causeText(err),
			"check the brokers: the group's coordinator does not respond (--group)")}
	}
	all.Add(permissionFinding("group "+o.Group, g.May, kafkaclient.MayRead, "Read",
		"on the group (--group): without it, a worker can neither join nor commit"))
	text := "no worker runs"
	switch {
	case g.Unsupported != nil:
		return append(all, Wrong("group", o.Group, g.Unsupported.Found(), g.Unsupported.Do()))
	case g.State == consumer.GroupRebalancing:
		text = format.Count(len(g.Members), "member") + ", in a rebalance"
	case len(g.Members) > 0 && !g.Ours():
		return append(all, Wrong("group", o.Group,
			fmt.Sprintf("its %s (protocol %q)", notWorkers(len(g.Members)), g.Protocol),
			"it belongs to another program: choose another --group"))
	case len(g.Members) > 0:
		text = format.Count(len(g.Members), "worker") + " run"
		if len(g.Members) == 1 {
			text += "s"
		}
	}
	if g.LeaderTerms != nil {
		text += ", " + format.Rate(g.LeaderTerms.Rate) + " for all"
		all.Add(termsFindings(o, g.LeaderTerms)...)
	}
	return append(all, Good("group", o.Group, text))
}

func notWorkers(n int) string {
	if n == 1 {
		return "one member is not a markread worker"
	}
	return fmt.Sprintf("%d members are not markread workers", n)
}

// termsFindings compares the configuration with the one of the running workers: the leader assigns
// partitions only to members with its own rate and topics.
func termsFindings(o Options, leaders *consumer.Terms) (all Findings) {
	const together = "until all agree, some workers get no partitions: give all workers of the " +
		"group the same "
	if leaders.Rate != o.Rate {
		found := fmt.Sprintf("the running workers use %s, this configuration %s",
			format.Rate(leaders.Rate), format.Rate(o.Rate))
		all.Add(Warning("group", o.Group, found, together+"--rate"))
	}
	consumed := []string{o.Topics.Live}
	if o.Topics.Backfill != "" {
		consumed = append(consumed, o.Topics.Backfill)
	}
	slices.Sort(consumed)
	var theirs []string
	for _, p := range leaders.All {
		if !slices.Contains(theirs, p.Topic) {
			theirs = append(theirs, p.Topic)
		}
	}
	if !slices.Equal(consumed, theirs) { // both are sorted
		found := fmt.Sprintf("the running workers read %q, this configuration %q", theirs, consumed)
		all.Add(Warning("group", o.Group, found, together+"--topic and --backfill-topic"))
	}
	return all
}

// lagFindings returns how far the group is behind in one topic.
func lagFindings(v admin.DescribedTopic, lags []admin.PartitionLag, err error,
	now time.Time) (all Findings) {
	switch {
	case kafkaclient.Denied(err):
		return Findings{NotChecked("lag", v.Name,
			"the user may not read the group's committed offsets", "")}
	case err != nil:
		return Findings{NotChecked("lag", v.Name, causeText(err), "")}
	}
	var waiting, lost int64
	var oldest time.Time
	uncommitted := 0
	var unknown []int
	for _, l := range lags {
		if l.Err != nil {
			unknown = append(unknown, l.Partition)
			err = l.Err
			continue
		}
		waiting += l.Lag - l.Finished
		lost += l.Lost
		if l.Committed < 0 {
			uncommitted++
		}
		// Retention depends on when the record was written, not on the event time.
		if !l.Written.IsZero() && (oldest.IsZero() || l.Written.Before(oldest)) {
			oldest = l.Written
		}
	}
	if unknown != nil {
		found := fmt.Sprintf("the request to the leader failed for %d of %s (%s): %s",
			len(unknown), format.Count(len(lags), "partition"), format.Ranges(unknown),
			causeText(err))
		all.Add(NotChecked("lag", v.Name, found, ""))
	}
	if found, do := offsetsBeyond(lags); found != "" {
		all.Add(Wrong("lag", v.Name, found, do))
	}
	if lost > 0 {
		all.Add(Warning("lag", v.Name,
			"retention deleted "+format.CountOf(lost, "event")+" before they were read",
			"raise retention.ms of the topic, and run workers"))
	}
	waited := now.Sub(oldest)
	if kept, limited := Retention(v); limited && !oldest.IsZero() && waited > kept/2 {
		all.Add(Warning("lag", v.Name,
			fmt.Sprintf("the oldest record has waited for %s, and the topic keeps %s",
				format.Age(waited), format.Age(kept)),
			"run workers before retention deletes it, or raise retention.ms of the topic"))
	}
	text := format.CountOf(waiting, "event") + " to do"
	if !oldest.IsZero() {
		text += ", the oldest for " + format.Age(waited)
	}
	if uncommitted > 0 && uncommitted == len(lags) {
		text += "; the group has no offsets: run begins with the oldest record"
	}
	if len(unknown) < len(lags) {
		all.Add(Good("lag", v.Name, text))
	}
	return all
}

// offsetsBeyond names the partitions whose committed offset is beyond the end of the log, and the
// remedy; "" if there are none.
func offsetsBeyond(lags []admin.PartitionLag) (found, do string) {
	var beyond []int
	for _, l := range lags {
		if l.Beyond > 0 {
			beyond = append(beyond, l.Partition)
			found = cmp.Or(found,
				fmt.Sprintf("partition %d: %d, end %d", l.Partition, l.Committed, l.End))
		}
	}
	if beyond == nil {
		return "", ""
	}
	found = fmt.Sprintf("the committed offset is beyond the end of the log in partitions %s (%s)",
		format.Ranges(beyond), found)
	return found, "the topic was recreated or truncated, or the offset was set wrongly: workers " +
		"read such a partition from its oldest record; for another offset stop them and use " +
		"Kafka's kafka-consumer-groups --reset-offsets"
}
