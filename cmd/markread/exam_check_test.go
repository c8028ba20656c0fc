//go:build exam && unix

package main

import (
	"encoding/json"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/worker/preflight"
)

// examCheckLimit is how long a check may take, whatever does not answer: half a minute, as the help says.
const examCheckLimit = 30 * time.Second

// examChecked is a check that has ended.
type examChecked struct {
	preflight.Report
	took time.Duration
}

// examRunCheck runs `check --json` with the flags of a worker.
func examRunCheck(t *testing.T, k *examKafka, imURL string, env []string, extra ...string) examChecked {
	t.Helper()
	began := time.Now()
	args := append(k.run(imURL, extra...), "--json")
	args[0] = "check"
	p := examStart(t, "check", "product", append([]string{"MARKREAD_IM_KEY=" + examKey}, env...), args...)
	code := p.exit(t, examCheckLimit)
	r := examChecked{took: time.Since(began)}
	if err := json.Unmarshal([]byte(p.stdout.String()), &r.Report); err != nil {
		t.Fatalf("%v: %s%s", err, p.stdout.String(), p.stderr.String())
	}
	examCheck(t, r.OK == (code == 0) && (r.OK || code == 1), "exit %d, and ok is %v", code, r.OK)
	examCheck(t, !strings.Contains(p.stdout.String()+p.stderr.String(), examKey), "the key is in the output")
	if !r.OK {
		examOneFailure(t, p, "check: wrong: ")
	}
	return r
}

// is requires a finding whose parts have these in them, and that nothing else is wrong.
func (r examChecked) is(t *testing.T, want preflight.Finding) {
	t.Helper()
	found := false
	for _, f := range r.Checks {
		if f.Result == want.Result && f.Check == want.Check && strings.Contains(f.Subject, want.Subject) && strings.Contains(f.Found, want.Found) && strings.Contains(f.Do, want.Do) {
			found = true
		} else {
			examCheck(t, f.Result != preflight.IsWrong, "wrong, too: %+v", f)
		}
	}
	examCheck(t, found, "want %+v in %+v", want, r.Checks)
}

// TestExamCheck: beside a worker that works a check finds nothing wrong and disturbs nothing; when nothing is there any more, or hangs, it says so in time.
func TestExamCheck(t *testing.T) {
	k := examStartBroker(t)
	im := examStartSandbox(t)
	w := examStartWorker(t, k, im.url)
	w.ready(t)
	events := examOneEach(examConversations("check", 40))
	examProduceEvents(t, k, k.live, events)
	k.settled(t, 30*time.Second, k.live)
	ends, committed := k.ends(t, k.topics()...), k.committed(t)
	generations := examScrape(t, w.admin).sum("markread_generations_total")
	right := examRunCheck(t, k, im.url, nil)
	right.is(t, preflight.Good("group", k.group, "1 worker runs, 200 calls a second for all"))
	right.is(t, preflight.Good("lag", k.live, "0 events to do"))
	right.is(t, preflight.Good("IM account", "", "the key and --im-admin administrator are right"))
	taken := examRunCheck(t, k, im.url, nil, "--admin-addr", strings.TrimPrefix(w.admin, "http://"))
	taken.is(t, preflight.Warning("admin server", "", "a worker runs here already", "--admin-addr"))
	key := examRunCheck(t, k, im.url, []string{"MARKREAD_IM_KEY=another"})
	key.is(t, preflight.Wrong("IM account", "", "70009", "MARKREAD_IM_KEY"))
	after := examScrape(t, w.admin).sum("markread_generations_total")
	examCheck(t, after == generations, "%v generations, %v before: a check joined", after, generations)
	examCheck(t, maps.Equal(ends, k.ends(t, k.topics()...)) && maps.Equal(committed, k.committed(t)), "a record was written, or an offset committed")
	w.stop(t, syscall.SIGTERM, examStopLimit)
	nothing := *k
	nothing.addr = "127.0.0.1:1," + examSilentListener(t)
	im.signal(t, syscall.SIGSTOP)
	none := examRunCheck(t, &nothing, im.url, nil)
	im.signal(t, syscall.SIGCONT)
	examCheck(t, none.Wrong == 3 && none.NotChecked == 8, "%+v", none.Checks)
	examFigure(t, "check", "right %.2f s, with brokers and an IM server that don't answer %.2f s", right.took.Seconds(), none.took.Seconds())
}
