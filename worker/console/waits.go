package console

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
