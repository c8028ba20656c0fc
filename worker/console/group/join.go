package group

import (
	"cmp"
	"slices"
	"time"

	"markread/consumer"
	"markread/consumer/event"
	"markread/worker/console/overview"
	"markread/worker/groupstatus"
)

// join joins what the workers report with what Kafka reports. Each peer is a row, and so is each
// member that no peer is. It also updates the peers' members.
func join(at time.Time, peers []*peer, view *kafkaView, letters lettersCount) overview.Input {
	in := overview.Input{At: at}
	var members []groupstatus.Member
	if view != nil && view.group != nil {
		members = view.group.Members
	}
	identify(peers, members)
	names := map[string]string{} // of rows, by member ID
	notes := map[string]string{}
	for _, m := range members {
		names[m.ID], notes[m.ID] = m.ID, m.Note
	}
	for _, p := range peers {
		if p.member != "" {
			names[p.member] = p.addr
		}
		in.Members = append(in.Members, overview.Member{Sample: p.sample, Details: p.details,
			Worker: overview.Worker{
				Name: p.addr, Address: p.addr, Member: p.member, Note: notes[p.member],
				Silent: p.silent}})
	}
	for _, m := range members {
		if names[m.ID] == m.ID {
			in.Members = append(in.Members, overview.Member{Worker: overview.Worker{Name: m.ID,
				Member: m.ID, Note: m.Note, Silent: unknownAddress(m, peers)}})
		}
	}
	if view == nil {
		return in
	}
	in.Kafka = &overview.Kafka{Errors: slices.Clone(view.errors), Unreachable: view.unreachable,
		DeadLetters: letters.count}
	if letters.err != "" && !view.unreachable {
		in.Kafka.Errors = append(in.Kafka.Errors, letters.err)
	}
	if view.group != nil && !view.unreachable {
		in.Kafka.Empty = len(members) == 0 &&
			view.group.State != string(consumer.GroupRebalancing)
		in.Kafka.Rebalancing = view.group.State == string(consumer.GroupRebalancing)
	}
	if view.lag != nil {
		in.Kafka.Partitions = partitionsOf(view.lag, names)
	}
	return in
}

// unknownAddress says why a member is not read.
func unknownAddress(m groupstatus.Member, peers []*peer) string {
	if ip := addressOf(m.Host); ip.IsValid() &&
		slices.ContainsFunc(peers, func(p *peer) bool { return p.ip == ip }) {
		return "the admin server that is known of its host, " + m.Host + ", is another worker's, or " +
			"does not respond; list all of them in --peers"
	}
	return "no admin server is known of its host, " + cmp.Or(m.Host, "which Kafka does not report") +
		"; add it to --peers"
}

// identify sets the member of each peer. The partitions that a worker reports say which member it
// is: Kafka knows their owner. A worker without partitions, or one that does not respond, remains
// what it was; otherwise it is the member at its address, if it is the only one.
func identify(peers []*peer, members []groupstatus.Member) {
	owners := map[event.TopicPartition]string{}
	exists := map[string]bool{}
	for _, m := range members {
		exists[m.ID] = true
		for _, a := range m.Assigned {
			for _, n := range a.Partitions {
				owners[event.TopicPartition{Topic: a.Topic, Partition: n}] = m.ID
			}
		}
	}
	taken := map[string]bool{}
	for _, p := range peers {
		if member := ownerOf(p, owners); member != "" && !taken[member] {
			taken[member], p.member = true, member
		} else if p.member != "" && (member != "" || !exists[p.member]) {
			p.member = "" // another worker is it, or it has left the group
		}
	}
	// A member belongs to one peer: the one that reports its partitions.
	for _, p := range peers {
		switch {
		case p.member != "" && taken[p.member] && ownerOf(p, owners) != p.member:
			p.member = ""
		case p.member != "":
			taken[p.member] = true
		}
	}
	for _, p := range peers {
		if p.member != "" || !p.ip.IsValid() || slices.ContainsFunc(peers, func(other *peer) bool {
			return other != p && other.ip == p.ip && other.member == ""
		}) {
			continue
		}
		var there []string
		for _, m := range members {
			if addressOf(m.Host) == p.ip && !taken[m.ID] {
				there = append(there, m.ID)
			}
		}
		if len(there) == 1 {
			p.member, taken[there[0]] = there[0], true
		}
	}
}

// ownerOf returns the member that owns most of the partitions that a peer reports; "" if none does.
// During a rebalance they may have different owners.
func ownerOf(p *peer, owners map[event.TopicPartition]string) (member string) {
	if p.sample == nil {
		return ""
	}
	count := map[string]int{}
	for _, part := range p.sample.Partitions {
		owner := owners[event.TopicPartition{Topic: part.Topic, Partition: part.Number}]
		if owner == "" {
			continue
		}
		if count[owner]++; count[owner] > count[member] {
			member = owner
		}
	}
	return member
}

// partitionsOf returns the partitions with their lag, and the names of their owners' rows.
func partitionsOf(lag *groupstatus.Lag, names map[string]string) (all []overview.Partition) {
	for _, topic := range lag.Topics {
		for _, p := range topic.Partitions {
			row := overview.Partition{Topic: topic.Topic, Partition: p.Partition, Lane: topic.Lane}
			if p.Member != nil {
				row.Worker = names[*p.Member]
			}
			if p.Lag != nil {
				row.Lag = new(float64(*p.Lag))
			}
			if p.Oldest != nil {
				row.OldestSeconds = *p.Oldest
			}
			if u := p.Unreadable; u != nil {
				row.Unreadable = &overview.Unreadable{Offset: u.Offset, Reason: u.Reason, Do: u.Do}
			}
			all = append(all, row)
		}
	}
	return all
}
