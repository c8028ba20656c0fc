package preflight

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"markread/consumer/admin"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/format"
)

// shortRetention is shorter than realistic outages: a weekend, or a night.
const shortRetention = 24 * time.Hour

// topicFindings returns whether a worker could use the topics; views are their descriptions, and
// create is --create-topics.
func topicFindings(topics event.Topics, views []admin.DescribedTopic, create bool) (all Findings) {
	largest, counts := admin.LargestEvent(topics, views), map[string]int{}
	for _, v := range views {
		counts[v.Name] = len(v.Partitions)
		letters := v.Name == topics.DeadLetter
		flag, operation, needed := "--topic", "Read", kafkaclient.MayRead
		switch {
		case letters:
			flag, operation, needed = "--dead-letter-topic", "Write", kafkaclient.MayWrite
		case v.Name == topics.Backfill:
			flag = "--backfill-topic"
		}
		if v.Err != nil || v.Missing {
			all.Add(missingTopicFinding(v, flag, operation, create))
			continue
		}
		all.Add(replicaFindings(v, letters)...)
		all.Add(settingsFindings(v, letters, flag, largest)...)
		all.Add(Good("topic", v.Name, describe(v)))
		all.Add(permissionFinding(v.Name, v.May, needed, operation,
			fmt.Sprintf("on the topic (%s)", flag)))
	}
	if live, backfill := counts[topics.Live], counts[topics.Backfill]; live > 0 && backfill > 0 &&
		live != backfill {
		fewer, n := topics.Live, backfill
		if backfill < live {
			fewer, n = topics.Backfill, live
		}
		found := fmt.Sprintf("%s has %d partitions, %s has %d: one conversation may be in two "+
			"workers, which costs calls", topics.Live, live, topics.Backfill, backfill)
		all.Add(Warning("partition counts", "", found,
			fmt.Sprintf("give %s %d partitions: kafka-topics --alter --topic %s --partitions %d "+
				"(--topic, --backfill-topic)", fewer, n, fewer, n)))
	}
	return all
}

// permissionFinding returns whether the user has the permission for an operation that a worker
// needs.
func permissionFinding(subject string, may, needed kafkaclient.Operations, operation,
	where string) Finding {
	switch {
	case !may.Known():
		return NotChecked("permission", subject, "this broker does not report what the user may do",
			"")
	case !may.Has(needed):
		return Wrong("permission", subject, "the user may not "+strings.ToLower(operation),
			fmt.Sprintf("give the user %s %s", operation, where))
	default:
		return Good("permission", subject, "the user may "+strings.ToLower(operation))
	}
}

// missingTopicFinding returns why a topic is missing or can't be described.
func missingTopicFinding(v admin.DescribedTopic, flag, operation string, create bool) Finding {
	switch {
	case kafkaclient.Denied(v.Err):
		return Wrong("permission", v.Name, "the user may not see the topic, if there is one",
			fmt.Sprintf("give the user %s on the topic (%s); deploy/OPERATIONS.md lists the "+
				"permissions that a worker needs", operation, flag))
	case v.Err != nil:
		return Wrong("topic", v.Name, v.Err.Error(),
			"check the brokers, then check again ("+flag+")")
	case !create:
		return Wrong("topic", v.Name, "it does not exist",
			"create it, correct "+flag+", or use --create-topics")
	case kafkaclient.Denied(v.Refused):
		return Wrong("permission", v.Name, "it does not exist, and the user may not create it",
			"give the user Create on the topic, or create it yourself and omit --create-topics ("+
				flag+")")
	case v.Refused != nil:
		return Wrong("topic", v.Name, "it does not exist, and --create-topics would fail: "+
			v.Refused.Error(), "fix that, or create it yourself ("+flag+")")
	default:
		return Good("topic", v.Name, "it does not exist; run creates it (--create-topics)")
	}
}

// describe returns partitions, replication and retention of an existing topic.
func describe(v admin.DescribedTopic) string {
	text := format.Count(len(v.Partitions), "partition")
	if len(v.Partitions) > 0 {
		text += ", " + replication(v)
	}
	if d, limited := Retention(v); limited {
		text += ", kept for " + format.Age(d)
	} else if v.Settings != nil {
		text += ", kept for ever"
	}
	if n, _ := strconv.ParseInt(v.Settings[kafkaclient.RetentionBytes], 10, 64); n > 0 {
		text += fmt.Sprintf(" and up to %s bytes a partition", format.Thousands(n))
	}
	return text
}

// replication returns the smallest number of replicas of a partition.
func replication(v admin.DescribedTopic) string {
	least := v.Partitions[0].Replicas
	for _, p := range v.Partitions {
		least = min(least, p.Replicas)
	}
	if least == 1 {
		return "one copy"
	}
	return strconv.Itoa(least) + " copies"
}

// Retention returns how long a topic keeps its records; false if forever, or if it is not known.
func Retention(v admin.DescribedTopic) (time.Duration, bool) {
	kept, known := kafkaclient.RetentionOf(v.Settings)
	return kept, known && kept != kafkaclient.Forever
}

// replicaFindings checks leaders and replicas of the partitions.
func replicaFindings(v admin.DescribedTopic, letters bool) (all Findings) {
	least, err := strconv.Atoi(v.Settings[kafkaclient.MinInSync])
	if err != nil {
		least = 1
	}
	leaderless, unwritable, behind, few, single := 0, 0, 0, false, false
	for _, p := range v.Partitions {
		few = few || p.Replicas < least
		switch {
		case p.Leaderless:
			leaderless++
		case p.InSync < min(least, p.Replicas): // Kafka requires no more than exist; see few
			unwritable++
		case p.InSync < p.Replicas:
			behind++
		}
		single = single || p.Replicas == 1
	}
	of := func(n int) string {
		return fmt.Sprintf("%d of %s", n, format.Count(len(v.Partitions), "partition"))
	}
	if leaderless > 0 {
		all.Add(Wrong("replicas", v.Name,
			of(leaderless)+" have no leader: they can be neither read nor written",
			"bring back the brokers that have their replicas (kafka-topics --describe "+
				"--unavailable-partitions)"))
	}
	if unwritable > 0 {
		found := fmt.Sprintf("%s accept no writes: fewer replicas are in sync than "+
			"min.insync.replicas=%d", of(unwritable), least)
		const do = "bring the missing brokers back"
		if letters {
			all.Add(Wrong("replicas", v.Name,
				found+", so calls would be held at the first dead letter", do))
		} else {
			all.Add(Warning("replicas", v.Name, found+", so producers can't write", do))
		}
	}
	if few {
		all.Add(Warning("replicas", v.Name,
			fmt.Sprintf("min.insync.replicas=%d is more than there are replicas: an older Kafka "+
				"then accepts no writes", least), "add replicas, or lower min.insync.replicas"))
	}
	if behind > 0 {
		all.Add(Warning("replicas", v.Name, of(behind)+" are not fully in sync",
			"check whether a broker is down, or behind"))
	}
	if single {
		all.Add(Warning("replicas", v.Name, "there is only one copy: what its broker loses is lost",
			"raise the replication factor to 3"))
	}
	return all
}

// settingsFindings checks how the topic keeps records. largest is the largest batch that an event
// topic accepts, in bytes; 0 if not known.
func settingsFindings(v admin.DescribedTopic, letters bool, flag string,
	largest int) (all Findings) {
	if v.Settings == nil {
		found, do := "the user may not read the topic's settings",
			"give the user DescribeConfigs on the topic"
		if v.SettingsErr != nil && !kafkaclient.Denied(v.SettingsErr) {
			found, do = "the topic's settings can't be read: "+causeText(v.SettingsErr),
				"check again"
		}
		return append(all, NotChecked("settings", v.Name, found,
			do+", or check cleanup.policy, retention.ms and max.message.bytes yourself"))
	}
	compacted := strings.Contains(v.Settings[kafkaclient.CleanupPolicy], "compact")
	kept, limited := Retention(v)
	bytes, _ := strconv.ParseInt(v.Settings[kafkaclient.RetentionBytes], 10, 64)
	if !letters {
		if compacted {
			all.Add(Warning("cleanup.policy", v.Name,
				"compaction keeps only the last event of a key, which may not be the one with "+
					"the largest MsgReadTime", "set cleanup.policy=delete on the topic"))
		}
		if limited && kept < shortRetention {
			all.Add(Warning("retention", v.Name,
				"events that have waited for "+format.Age(kept)+" are deleted, read or not",
				"raise retention.ms of the topic above the longest outage to survive"))
		}
		if bytes > 0 {
			all.Add(Warning("retention", v.Name, "events are deleted when a partition has more than "+
				format.Thousands(bytes)+" bytes, read or not, and no metric warns of that",
				"set retention.bytes=-1 on the topic, and choose retention.ms"))
		}
		if v.Settings[kafkaclient.TimestampType] == "LogAppendTime" {
			all.Add(Warning("timestamps", v.Name,
				"with LogAppendTime, an event without MsgReadTime counts as read when Kafka "+
					"received it, not when the user read",
				"set message.timestamp.type=CreateTime on the topic, or have producers set "+
					"MsgReadTime or the header markread.event-time"))
		}
		return all
	}
	if compacted {
		all.Add(Wrong("cleanup.policy", v.Name,
			"compaction keeps one record of a key, so it loses dead letters: run does not start",
			"set cleanup.policy=delete on the topic ("+flag+")"))
	}
	if limited || bytes > 0 {
		found := "dead letters are deleted after " + format.Age(kept)
		if !limited {
			found = "dead letters are deleted when a partition has more than " +
				format.Thousands(bytes) + " bytes"
		}
		all.Add(Warning("retention", v.Name, found+", resolved or not",
			"set retention.ms=-1 and retention.bytes=-1 on the topic"))
	}
	takes, err := strconv.Atoi(v.Settings[kafkaclient.MaxMessageBytes])
	if want := largest + event.LetterOverhead; err == nil && largest > 0 && takes < want {
		found := fmt.Sprintf("it accepts records of %s bytes, the events' topics %s: a large "+
			"event's dead letter lacks the value", format.Thousands(takes),
			format.Thousands(largest))
		all.Add(Warning("record size", v.Name, found,
			fmt.Sprintf("set max.message.bytes=%d on the topic", want)))
	}
	return all
}
