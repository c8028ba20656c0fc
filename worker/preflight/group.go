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

// judgeGroup says what a worker with these flags would find in its group.
func judgeGroup(o Options, g consumer.DescribedGroup, err error) (all Findings) {
	switch {
	case kafkaclient.Denied(err):
		return Findings{Wrong("permission", "group "+o.Group, "the user may not see the group",
			"give the user Read on the group (--group)")}
	case err != nil:
		return Findings{Wrong("group", o.Group, "it can't be described: "+whyNot(err),
			"look at the brokers: the group's coordinator does not answer (--group)")}
	}
	all.Add(judgePermission("group "+o.Group, g.May, kafkaclient.MayRead, "Read",
		"on the group (--group): without, it may neither join nor commit"))
	text := "no worker runs"
	switch {
	case g.Unsupported != nil:
		return append(all, Wrong("group", o.Group, g.Unsupported.Found(), g.Unsupported.Do()))
	case g.State == consumer.GroupRebalancing:
		text = format.Count(len(g.Members), "member") + ", in a rebalance"
	case len(g.Members) > 0 && !g.Ours():
		return append(all, Wrong("group", o.Group,
			fmt.Sprintf("its %s no workers of markread (protocol %q)", areMembers(len(g.Members)),
				g.Protocol),
			"it is another program's: choose another --group"))
	case len(g.Members) > 0:
		text = format.Count(len(g.Members), "worker") + " run"
		if len(g.Members) == 1 {
			text += "s"
		}
	}
	if g.LeaderTerms != nil {
		text += ", " + format.Rate(g.LeaderTerms.Rate) + " for all"
		all.Add(judgeAgreement(o, g.LeaderTerms)...)
	}
	return append(all, Good("group", o.Group, text))
}

func areMembers(n int) string {
	if n == 1 {
		return "one member is"
	}
	return fmt.Sprintf("%d members are", n)
}

// judgeAgreement is about workers that run already: the leader gives partitions only to members
// that go by the same as itself.
func judgeAgreement(o Options, leaders *consumer.Terms) (all Findings) {
	const together = "until all agree, some workers get no partitions: give all workers of the " +
		"group the same "
	if leaders.Rate != o.Rate {
		found := fmt.Sprintf("the workers that run go by %s, this configuration by %s",
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
		found := fmt.Sprintf("the workers that run read %q, this configuration %q", theirs,
			consumed)
		all.Add(Warning("group", o.Group, found, together+"--topic and --backfill-topic"))
	}
	return all
}

// judgeLag says how far the group is behind in one topic.
func judgeLag(v admin.DescribedTopic, lags []admin.PartitionLag, err error,
	now time.Time) (all Findings) {
	switch {
	case kafkaclient.Denied(err):
		return Findings{NotChecked("lag", v.Name,
			"the user may not see what the group has committed", "")}
	case err != nil:
		return Findings{NotChecked("lag", v.Name, whyNot(err), "")}
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
		// when the event happened is nothing to retention
		if !l.Written.IsZero() && (oldest.IsZero() || l.Written.Before(oldest)) {
			oldest = l.Written
		}
	}
	if unknown != nil {
		found := fmt.Sprintf("of %d of %s the leader can't be asked (%s): %s",
			len(unknown), format.Count(len(lags), "partition"), format.Ranges(unknown), whyNot(err))
		all.Add(NotChecked("lag", v.Name, found, ""))
	}
	if found, do := offsetsBeyond(lags); found != "" {
		all.Add(Wrong("lag", v.Name, found, do))
	}
	if lost > 0 {
		all.Add(Warning("lag", v.Name,
			"retention has deleted "+format.CountOf(lost, "event")+" before anybody read them",
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

// offsetsBeyond names the partitions whose committed offset is beyond the end of the log, and what
// to do; "": there is none.
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
