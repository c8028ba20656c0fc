package letters

import (
	"slices"
	"strings"
	"time"

	"markread/worker/format"
)

// commands returns the commands that count and replay the dead letters of a filter. A command is ""
// if it can't exist, or if an account has control characters or the like, which nobody should paste
// into a terminal.
func (l *Letters) commands(f *Filter, since time.Time, until string) (ls, replay string) {
	var flags []string
	add := func(name, value string) {
		switch {
		case value == "":
		case strings.HasPrefix(value, "-"):
			flags = append(flags, name+"="+value)
		default:
			flags = append(flags, name, value)
		}
	}
	add("--class", f.Class)
	add("--code", f.Code)
	add("--report", f.Report)
	add("--peer", f.Peer)
	if !since.IsZero() { // an age would select other ones later
		add("--since", since.UTC().Format(time.RFC3339Nano))
	}
	add("--until", until)
	state := []string{}
	if f.State != "" && f.State != "open" {
		state = append(state, "--state", f.State)
	}
	ls = commandLine("ls", l.Flags, state, flags)
	switch f.State {
	case "replayed", "discarded":
		return ls, ""
	case "parked", "all":
		state = append(state, "--parked")
	}
	return ls, commandLine("replay", l.Flags, l.ReplayFlags, state, flags)
}

// Command returns the command that lists the dead letters of a conversation; "" if it can't exist.
func (l *Letters) Command(report, peer string) string {
	ls, _ := l.commands(&Filter{Report: report, Peer: peer, State: "all"}, time.Time{}, "")
	return ls
}

func commandLine(subcommand string, words ...[]string) string {
	return format.Command(slices.Concat(append([][]string{{"markread", "dead-letters", subcommand}},
		words...)...)...)
}
