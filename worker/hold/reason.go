package hold

// Reason is why calls are held. The texts are the contract's.
type Reason string

// The reasons.
const (
	Outage      Reason = "outage"      // the service doesn't answer, or not sensibly
	Credentials Reason = "credentials" // any call would be refused: key, admin, app, host, billing
	Throttled   Reason = "throttled"   // the service asked for a pause
	Rejections  Reason = "rejections"  // almost all of a lane is refused: wrong app or schema
	DeadLetter  Reason = "dead-letter" // the dead-letter topic takes no records
	Membership  Reason = "membership"  // this worker may have been removed from its group
	Quota       Reason = "quota"       // this worker's share of the rate is 0
	Paused      Reason = "paused"      // an operator wants it
)

// Reasons returns all reasons, for metrics that must be 0.
func Reasons() []Reason {
	return []Reason{
		Outage, Credentials, Throttled, Rejections, DeadLetter, Membership, Quota, Paused,
	}
}

// Meaning explains to a person what such a hold is in general.
func (r Reason) Meaning() string { return r.advice().meaning }

// Do is what to do about such a hold in general.
func (r Reason) Do() string { return r.advice().do }

type advice struct{ meaning, do string }

func (r Reason) advice() advice {
	switch r {
	case Outage:
		return advice{"The IM server does not answer, or answers almost every call with a " +
			"passing failure. Nothing is dead-lettered because of it.",
			"check that the server can be reached from here, and Tencent's status page; " +
				"calls go on by themselves when a probe succeeds"}
	case Credentials:
		return advice{"The IM server refuses this app's signature, its admin account or the app " +
			"itself; any other call would fail the same way.",
			"check --im-app-id, --im-admin, --im-url (the app's data centre) and the key; " +
				"a new key in its file is tried within a second or two"}
	case Throttled:
		return advice{"The IM server asked for a pause; all calls keep it.",
			"nothing: calls go on when its time is over. If it comes back, " +
				"find what else calls the API for this app, and lower --rate by its share"}
	case Rejections:
		return advice{"Almost every recent event of this lane was rejected or invalid. " +
			"That is more likely a wrong app, topic or schema than wrong events.",
			"look at a few of the newest dead letters, and mend the configuration or the " +
				"producer; calls go on when a probe succeeds. If the events really are wrong: " +
				"markread " +
				"resume --accept-rejections sends the next 10,000 of them to the dead letters"}
	case DeadLetter:
		return advice{"The dead-letter topic does not take records, so events that must go there " +
			"can't end.",
			"check that the topic exists, that this user may write to it, and the brokers' " +
				"disks; a write is tried every second, and calls go on when one succeeds"}
	case Membership:
		return advice{"This worker can't prove that it is still a member of its group; " +
			"another one may have its partitions, and its share of the rate, by now.",
			"check that the brokers can be reached from here, and that this machine does not " +
				"stand still; calls go on with the first heartbeat that is answered"}
	case Quota:
		return advice{"This worker's share of the rate is 0: it owns no partition, " +
			"because there are more workers than partitions, or than calls a second.",
			"run fewer workers, or raise --rate for all of them"}
	case Paused:
		return advice{"An operator paused this worker.", "markread resume lets it go on"}
	default:
		return advice{"This worker makes no calls.", "see the detail and the log"}
	}
}
