package cli

import (
	"os"
	"strings"
	"testing"
)

// A state that can't be used is wrong usage: one line that names it and says what to do, before any
// broker is asked, with --resume and without.
func TestBackfillOfAStateThatIsNotValid(t *testing.T) {
	states := file(t, "Report_Account,Peer_Account,MsgReadTime\na,b,1700000000\n")
	state := states + ".markread-resume"
	const version1 = `{"version":1,"began":"2026-03-01T00:00:00Z","topic":"mark-read-backfill","brokers":["127.0.0.1:1"],"read_time":1700000000,` +
		`"rejects":"","inputs":[{"size":58,"modified":"2026-03-01T00:00:00Z","sha256":""}],"topic_end":0,"published":0,"at":{"input":0,"offset":40,"line":2,"rows":1}}`
	for text, want := range map[string]string{
		"":                                 "it is not the state of a run, or is damaged",
		"\x1b[31mred":                      "it is not the state of a run, or is damaged",
		version1:                           "it was written by another version of markread, which can go on with it",
		`{"version":3,"at":{"offset":-1}}`: "it is damaged: a number in it is out of range",
		`{"version":"\n"}`:                 "it is not the state of a run, or is damaged",
	} {
		for _, args := range [][]string{{"--resume"}, nil} {
			if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := try(t, nil, "", append([]string{"backfill", "--brokers", "127.0.0.1:1", states}, args...)...)
			if r.status != exitUsage || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || steers(r.stderr) != "" ||
				!strings.HasPrefix(r.stderr, "markread: "+state+": "+want) || !strings.HasSuffix(r.stderr, "; to begin anew, delete it\n") {
				t.Errorf("%q %v: %+v", text, args, r)
			}
			if kept, err := os.ReadFile(state); err != nil || string(kept) != text {
				t.Errorf("the state is %q now, %v", kept, err)
			}
		}
	}
}
