package console

import "strings"

// advice explains a hold to the person who has to do something about it.
type advice struct{ Meaning, Do string }

// adviceFor knows every reason of the contract.
func adviceFor(reason string) advice {
	switch reason {
	case "outage":
		return advice{"The IM server does not answer, or answers almost every call with a passing failure.",
			"Nothing is lost and nothing is dead-lettered. Check that the server can be reached from here and Tencent's status page. " +
				"Calls go on by themselves when a probe succeeds."}
	case "credentials":
		return advice{"The IM server refuses this app's signature, its admin account or the app itself; any other call would fail the same way.",
			"Check --im-app-id, --im-admin, --im-url (the app's data centre) and the key; a new key in its file is used by the next probe."}
	case "throttled":
		return advice{"The IM server says that there are too many calls.",
			"Nothing at first: they are tried again with growing waits, and not counted. If it goes on, other programs use the same app's quota: " +
				"lower --rate."}
	case "rejections":
		return advice{"Almost every recent event of one lane was rejected or invalid. That is more likely a wrong app, topic or schema than wrong events.",
			"Look at a few of the newest dead letters, and mend the configuration or the producer."}
	case "dead-letter":
		return advice{"The dead-letter topic does not take records, so events that must go there can't end.",
			"Check that the topic exists, that this user may write to it, and the brokers' disks."}
	case "membership":
		return advice{"There is no recent proof that Kafka still counts this worker as a member of its group; another one may own its partitions.",
			"Check the connection to the brokers and whether this process gets its processor time."}
	case "quota":
		return advice{"This worker's share of the quota is 0: it owns too few of the group's partitions for a whole call a second.",
			"Run fewer workers, or raise --rate for all of them."}
	case "paused":
		return advice{"An operator paused this worker.", "The operator lets it go on."}
	default:
		return advice{"This worker makes no calls.", "See the detail and the log."}
	}
}

// remedyMark is where the detail of a hold goes over from what was seen to what to do: the failure's own remedy fits better than the general one.
const remedyMark = " What to do: "

// Seen is what was seen, without what to do about it.
func (h Hold) Seen() string {
	seen, _, _ := strings.Cut(h.Detail, remedyMark)
	return seen
}

// Do is what to do: the one remedy of the detail, else that of the reason.
func (h Hold) Do() string {
	if _, remedy, ok := strings.Cut(h.Detail, remedyMark); ok {
		return remedy
	}
	return adviceFor(h.Reason).Do
}

// waits explains what the oldest unfinished event of a partition waits for.
func waits(what string) string {
	switch what {
	case "quota":
		return "quota: its turn within the rate"
	case "call":
		return "call: the answer of the IM server"
	case "retry":
		return "retry: the end of its backoff"
	case "hold":
		return "hold: see above"
	case "dead-letter":
		return "dead-letter: the acknowledgement of the dead-letter topic"
	default:
		return what
	}
}
