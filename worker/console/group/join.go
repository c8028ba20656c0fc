package group

import (
	"cmp"
	"slices"
	"time"

	"markread/consumer"
	"markread/worker/console/overview"
	"markread/worker/console/sample"
	"markread/worker/groupstatus"
)

// unknownFor is how long a member may export an ID that Kafka does not report: Kafka is read every
// kafkaEvery, and may be slow.
const unknownFor = 15 * time.Second

// join joins what the workers report with what Kafka reports. Each peer is a row, and so is each
// member that no peer is. It also updates the peers' members.
func join(at time.Time, peers []*peer, view *kafkaView, letters lettersCount) overview.Input {
	in := overview.Input{At: at}
	var members []groupstatus.Member
	if view != nil && view.group != nil {
		members = view.group.Members
	}
	identify(at, peers, members, view != nil && view.current)
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

// identify sets the member of each peer: the one whose ID the worker exports. A worker that does not
// respond remains what it was, while Kafka knows that member. One that exports no ID is the member at
// its address, if it is the only one there. Two peers are never the same member: the second one is
// the same worker under another address, and is not counted.
func identify(at time.Time, peers []*peer, members []groupstatus.Member, current bool) {
	exists := map[string]bool{}
	for _, m := range members {
		exists[m.ID] = true
	}
	owners := map[string]*peer{}
	exports := map[*peer]bool{} // an ID
	for _, p := range peers {
		id := ""
		if p.sample != nil {
			id = p.sample.ID
		}
		exports[p] = id != ""
		if id == "" || exists[id] || !current || !hasProof(p.sample) {
			p.unknownSince = time.Time{}
		} else if p.unknownSince.IsZero() {
			p.unknownSince = at
		}
		switch other := owners[id]; {
		case id != "" && other != nil:
			p.member = ""
			p.fail("it is the same worker as " + other.addr + ": remove one of them from --peers")
		case id != "" && exists[id]:
			p.member, owners[id] = id, p
		case id != "" || !exists[p.member]:
			p.member = ""
		}
		if !p.unknownSince.IsZero() && at.Sub(p.unknownSince) >= unknownFor {
			p.fail("it is no member of this console's group, but of another Kafka cluster's: see " +
				"--brokers, --peers and --peer-port")
		}
	}
	for _, p := range peers { // what a silent one was, unless another one is it now
		if p.member != "" && owners[p.member] == nil {
			owners[p.member] = p
		} else if p.member != "" && owners[p.member] != p {
			p.member = ""
		}
	}
	unidentified := func(p *peer) bool { return p.member == "" && !exports[p] }
	for _, p := range peers {
		if !unidentified(p) || !p.ip.IsValid() || slices.ContainsFunc(peers, func(other *peer) bool {
			return other != p && other.ip == p.ip && unidentified(other)
		}) {
			continue
		}
		var there []string
		for _, m := range members {
			if addressOf(m.Host) == p.ip && owners[m.ID] == nil {
				there = append(there, m.ID)
			}
		}
		if len(there) == 1 {
			p.member, owners[there[0]] = there[0], p
		}
	}
}

// hasProof reports whether a coordinator has just accepted this worker as a member. One that is cut
// off, or that its coordinator has removed, exports the ID that it had.
func hasProof(m *sample.Member) bool {
	return m.Ready && !slices.ContainsFunc(m.Held,
		func(h sample.Held) bool { return h.Reason == "membership" })
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
