package cli

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"markread/cmd/markread/cli/terminal"
	"markread/worker/console"
	"markread/worker/format"
	"markread/worker/groupstatus"
)

// Limits of what is shown, so that it fits on one screen; --json has all.
const (
	maxShownMembers    = 20
	maxShownPartitions = 10
	maxShownKinds      = 15
	maxShownUnreadable = 20
)

// behindAfter is the age of a partition's oldest event, in seconds, from which the partition is
// listed. Younger events may be finished and only wait for the next commit.
const behindAfter = 5

// printStatus prints a report as text. Whether the group works comes first. c is nil without a
// watch.
func printStatus(w io.Writer, r *groupstatus.Report, c *changes) error {
	t := terminal.NewTable(w)
	if c != nil {
		if c.width != nil {
			t.Width = c.width()
		}
		c.printHead(t, r)
	}
	if r.Group == nil && r.Lag == nil && r.Letters == nil && r.Worker == nil {
		return t.End() // the errors say why
	}
	printGroup(t, r.Group)
	printLag(t, r.Lag, c)
	printWorker(t, r.Worker, r.At, c)
	printDeadLetters(t, r.Letters, c)
	printBehind(t, r.Lag)
	return t.End()
}

func printGroup(t *terminal.Table, r *groupstatus.Group) {
	if r == nil {
		t.Textf("group: not known")
		return
	}
	text := fmt.Sprintf("group %s: %s", r.Name, strings.ToUpper(r.State))
	if len(r.Members) > 0 {
		text += ", " + format.Count(len(r.Members), "member")
		if r.Rate != nil {
			text += fmt.Sprintf(", %d of %s assigned, %s", r.Assigned,
				format.Count(*r.Partitions, "partition"), format.Rate(*r.Rate))
		}
	}
	t.Textf("%s", text)
	for _, note := range r.Notes {
		t.Textf("  ! %s", note)
	}
	if len(r.Members) == 0 {
		return
	}
	t.Row("  #", "MEMBER", "HOST", "SHARE", "PARTITIONS")
	const more = "  … and %d more (--json has all)"
	for i, m := range terminal.First(t, r.Members, maxShownMembers, more) {
		share := "?"
		if m.Rate != nil && *m.Rate == 0 {
			share = "no limit"
		} else if m.Share != nil {
			share = strconv.Itoa(*m.Share)
		}
		var assigned []string
		for _, a := range m.Assigned {
			assigned = append(assigned, a.Topic+" "+format.Ranges(a.Partitions))
		}
		t.Row("  "+strconv.Itoa(i+1), m.ID, m.Host, share,
			cmp.Or(strings.Join(assigned, ", "), "none"))
	}
	for i, m := range r.Members {
		if m.Note != "" {
			t.Textf("  ! member %d: %s", i+1, m.Note)
		}
	}
}

func printLag(t *terminal.Table, r *groupstatus.Lag, c *changes) {
	t.Textf("")
	if r == nil {
		t.Textf("lag: not known")
		return
	}
	t.Textf("lag: %s", lagSummary(r))
	t.Row(c.withRates([]string{"  TOPIC", "LANE", "LAG", "OLDEST", "PARTITIONS"},
		"IN/S", "DONE/S", "TREND")...)
	var unreadable []partitionRow
	for _, topic := range r.Topics {
		uncommitted, unknown, unread := 0, 0, 0
		for _, p := range topic.Partitions {
			if p.Unreadable != nil {
				unreadable = append(unreadable, partitionRow{topic.Topic, p})
				unread++
			}
			if p.Lag == nil {
				unknown++
			}
			if p.Committed == nil {
				uncommitted++
			}
		}
		text := strconv.Itoa(len(topic.Partitions))
		if uncommitted > 0 {
			text += fmt.Sprintf(", %d without a commit (lag from the oldest record)", uncommitted)
		}
		if unknown > 0 {
			text += fmt.Sprintf(", %d NOT KNOWN", unknown)
		}
		if unread > 0 {
			text += fmt.Sprintf(", %d UNREADABLE", unread)
		}
		lag := "?"
		if topic.Lag != nil {
			lag = format.Thousands(*topic.Lag)
		}
		row := []string{"  " + topic.Topic, topic.Lane, lag, format.AgeOf(topic.Oldest), text}
		t.Row(c.withRates(row, c.topicRates(topic.Topic)...)...)
	}
	for _, topic := range r.Topics {
		if topic.Lost > 0 {
			t.Textf("  ! %s: retention deleted %s before they were read", topic.Topic,
				format.CountOf(topic.Lost, "event"))
		}
	}
	for _, p := range terminal.First(t, unreadable, maxShownUnreadable,
		"  … and %d more that can't be read (--json has all)") {
		u := p.Unreadable
		t.Textf("  ! UNREADABLE %s/%d%s: %s; %s", p.topic, p.Partition, atOffset(u.Offset),
			u.Reason, u.Do)
	}
}

// partitionRow is a partition with its topic.
type partitionRow struct {
	topic string
	groupstatus.PartitionLag
}

// printBehind lists the partitions that are the furthest behind: last, because a watch cuts the
// end of a table that is longer than the window.
func printBehind(t *terminal.Table, r *groupstatus.Lag) {
	if r == nil {
		return
	}
	var behind []partitionRow
	for _, topic := range r.Topics {
		for _, p := range topic.Partitions {
			if p.Lag != nil && *p.Lag > 0 && oldestAge(p) >= behindAfter {
				behind = append(behind, partitionRow{topic.Topic, p})
			}
		}
	}
	if len(behind) == 0 {
		return
	}
	slices.SortStableFunc(behind, func(a, b partitionRow) int {
		return cmp.Or(cmp.Compare(oldestAge(b.PartitionLag), oldestAge(a.PartitionLag)),
			cmp.Compare(*b.Lag, *a.Lag))
	})
	t.Textf("")
	t.Row("  PARTITION", "MEMBER", "LAG", "OLDEST", "FINISHED", "COMMITTED", "END")
	for _, p := range terminal.First(t, behind, maxShownPartitions,
		"  … and %d more, less far behind (--json has all)") {
		member, committed := "none", "none"
		if p.MemberNumber > 0 {
			member = "#" + strconv.Itoa(p.MemberNumber)
		}
		if p.Committed != nil {
			committed = strconv.FormatInt(*p.Committed, 10)
		}
		t.Row(fmt.Sprintf("  %s/%d", p.topic, p.Partition), member, format.Thousands(*p.Lag),
			format.AgeOf(p.Oldest), format.Thousands(p.Finished), committed,
			strconv.FormatInt(*p.End, 10))
	}
}

// lagSummary returns the lag in one line.
func lagSummary(r *groupstatus.Lag) string {
	unreadable, unknown := 0, false
	for _, topic := range r.Topics {
		for _, p := range topic.Partitions {
			unknown = unknown || p.Lag == nil
			if p.Unreadable != nil {
				unreadable++
			}
		}
	}
	text := "not known"
	if r.Lag != nil {
		text = format.CountOf(*r.Lag, "event")
		if unknown {
			text = "at least " + text
		}
	}
	if r.Finished > 0 {
		text += fmt.Sprintf(", of which %s finished out of order", format.Thousands(r.Finished))
	}
	if unreadable > 0 {
		text += "; " + format.Count(unreadable, "partition") + " CAN'T BE READ"
	}
	return text
}

// oldestAge returns the age of the oldest event, in seconds; infinity if it is not known.
func oldestAge(p groupstatus.PartitionLag) float64 {
	if p.Oldest == nil {
		return math.Inf(1)
	}
	return *p.Oldest
}

func printWorker(t *terminal.Table, r *groupstatus.Worker, now time.Time, c *changes) {
	if r == nil {
		return
	}
	t.Textf("")
	ready := "ready"
	if !r.Ready {
		ready = "NOT READY: not a member of its group"
	}
	if r.Member != nil {
		ready += ", member " + *r.Member
	}
	t.Textf("worker %s: %s", r.URL, ready)
	if r.Note != "" {
		t.Textf("  ! %s", r.Note)
	}
	for _, h := range r.Held {
		next := ""
		if h.NextProbeAt != nil && h.NextProbeAt.After(now) {
			next = "; next probe in "
			if h.Reason == "throttled" { // it has no probes, but ends then
				next = "; ends in "
			}
			next += format.Age(h.NextProbeAt.Sub(now))
		}
		t.Textf("  HELD: %s for %s, since %s%s", h.Reason, format.Age(now.Sub(h.Since)),
			format.Time(h.Since), next)
		t.Textf("    observed: %s", h.Detail)
		if h.Do != "" {
			t.Textf("    do: %s", h.Do)
		}
	}
	for _, p := range terminal.First(t, r.Unreadable, maxShownUnreadable,
		"  … and %d more that it can't read (--json has all)") {
		t.Textf("  UNREADABLE: %s/%d%s for %s, since %s: %s", p.Topic, p.Partition,
			atOffset(p.Offset), format.Age(now.Sub(p.Since)), format.Time(p.Since), p.Reason)
	}
	if len(r.Held) == 0 {
		t.Textf("  held: nothing")
	}
	for _, lane := range []struct {
		name string
		console.Lane
	}{{"live", r.Lanes.Live}, {"backfill", r.Lanes.Backfill}} {
		text := "nothing"
		if lane.OldestSeconds > 0 { // of an unreadable partition
			text = "nothing in memory, the oldest " + format.AgeOf(&lane.OldestSeconds)
		}
		if lane.Events > 0 || lane.Conversations > 0 {
			text = format.CountOf(lane.Conversations, "conversation") + ", " +
				format.CountOf(lane.Events, "event") + ", the oldest " +
				format.Age(time.Duration(lane.OldestSeconds*float64(time.Second)))
		}
		t.Textf("  waiting, %s: %s", lane.name, text)
	}
	quota := "no limit"
	if r.Quota.Share != nil && r.Quota.Limit != nil {
		quota = fmt.Sprintf("a share of %d of %s, limit now %d", *r.Quota.Share,
			format.Rate(r.Quota.Rate), *r.Quota.Limit)
	}
	if c != nil {
		quota = perSecond(c.Calls) + "/s now; " + quota
	}
	t.Textf("  calls: %s, %d in flight", quota, r.Quota.InFlight)
	if c != nil {
		t.Textf("  time to drain: %s", c.drain(r))
	}
}

func printDeadLetters(t *terminal.Table, r *groupstatus.DeadLetters, c *changes) {
	t.Textf("")
	if r == nil {
		t.Textf("dead letters: not known")
		return
	}
	printStateCounts(t, r.Topic, r.StateCounts, r.Foreign)
	if c != nil {
		t.Textf("  new: %s", c.written())
	}
	unresolved := slices.DeleteFunc(slices.Clone(r.Kinds),
		func(k groupstatus.Kind) bool { return k.Open+k.Parked == 0 })
	if len(unresolved) == 0 {
		return
	}
	t.Row("  CLASS", "CODE", "OPEN", "PARKED", "MEANING")
	const more = "  … and %d more kinds (--json has all)"
	for _, k := range terminal.First(t, unresolved, maxShownKinds, more) {
		t.Row("  "+cmp.Or(k.Class, "?"), cmp.Or(k.Code, "-"), format.Thousands(k.Open),
			format.Thousands(k.Parked), explainKind(k.Class, k.Code).meaning)
	}
}

// printStateCounts prints the number of dead letters in each state.
func printStateCounts(t *terminal.Table, which string, n groupstatus.StateCounts, unknown int64) {
	t.Textf("dead letters in %s: %s open, %s parked, %s replayed, %s discarded", which,
		format.Thousands(n.Open), format.Thousands(n.Parked), format.Thousands(n.Replayed),
		format.Thousands(n.Discarded))
	if unknown > 0 {
		t.Textf("  ! %s there that markread has not written", format.CountOf(unknown, "record"))
	}
}

// atOffset returns " at offset N"; "" without an offset.
func atOffset(offset *int64) string {
	if offset == nil {
		return ""
	}
	return fmt.Sprintf(" at offset %d", *offset)
}
