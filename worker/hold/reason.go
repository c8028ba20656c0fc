package hold

// Reason is why calls are held. The texts are part of the contract.
type Reason string

// The reasons.
const (
	Outage      Reason = "outage"      // the service doesn't respond, or not sensibly
	Credentials Reason = "credentials" // any call would be refused: key, admin, app, host, billing
	Throttled   Reason = "throttled"   // the service asked for a pause
	// almost all events of a lane are rejected or invalid: wrong app, topic or schema
	Rejections Reason = "rejections"
	DeadLetter Reason = "dead-letter" // the dead-letter topic accepts no records
	Membership Reason = "membership"  // this worker may have been removed from its group
	Quota      Reason = "quota"       // this worker's share of the rate is 0
	Paused     Reason = "paused"      // paused by an operator
)

// Reasons returns all reasons, so that metrics can show inactive ones as 0.
func Reasons() []Reason {
	return []Reason{
		Outage, Credentials, Throttled, Rejections, DeadLetter, Membership, Quota, Paused,
	}
}

// Meaning explains the reason in general to an operator.
func (r Reason) Meaning() string { return r.advice().meaning }

// Do returns what to do about the reason in general.
func (r Reason) Do() string { return r.advice().do }

type advice struct{ meaning, do string }

func (r Reason) advice() advice {
	switch r {
	case Outage:
		return advice{"The IM server does not respond, or responds to almost every call " +
			"with a transient failure. Nothing is dead-lettered because of it.",
			"check that the server is reachable from here, and Tencent's status page; " +
				"calls resume when a probe succeeds"}
	case Credentials:
		return advice{"The IM server refuses this app's signature, its admin account or the app " +
			"itself; any other call would fail the same way.",
			"check --im-app-id, --im-admin, --im-url (the app's data centre) and the key; " +
				"a new key in its file is tried within a second or two"}
	case Throttled:
		return advice{"The IM server asked for a pause; all calls wait for its end.",
			"nothing: calls resume when the pause is over. If it recurs, " +
				"find what else calls the API for this app, and lower --rate by its share"}
	case Rejections:
		return advice{"Almost every recent event of this lane was rejected or invalid. " +
			"That is more likely a wrong app, topic or schema than wrong events.",
			"inspect a few of the newest dead letters, and fix the configuration or the " +
				"producer; calls resume when a probe succeeds. If the events really are wrong: " +
				"markread resume --accept-rejections sends the next 10,000 of them to the " +
				"dead letters"}
	case DeadLetter:
		return advice{"The dead-letter topic does not accept records, so events that must become " +
			"dead letters can't finish.",
			"check that the topic exists, that this user may write to it, and the brokers' " +
				"disks; a write is tried every second, and calls resume when one succeeds"}
	case Membership:
		return advice{"This worker can't prove that it is still a member of its group; " +
			"another worker may own its partitions, and its share of the rate, by now.",
			"check that the brokers are reachable from here, and that this machine is not " +
				"suspended or overloaded; calls resume with the first acknowledged heartbeat"}
	case Quota:
		return advice{"This worker's share of the rate is 0: it owns no partition, " +
			"because there are more workers than partitions, or than calls a second.",
			"run fewer workers, or raise --rate for all of them"}
	case Paused:
		return advice{"An operator paused this worker.", "markread resume ends the pause"}
	default:
		return advice{"This worker makes no calls.", "see the detail and the log"}
	}
}
