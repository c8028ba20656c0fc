package stacksim

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/offsets"
	"markread/imclient"
	"markread/imclient/sandbox"
)

// An oracle that never reports anything is worthless: each detects the violation that it is for,
// and nothing else.
func TestStackOraclesDetectViolations(t *testing.T) {
	p := topicPartition{topics.Live, 0}
	letter := func(class, code, offset string) kmsg.Record {
		return kmsg.Record{Value: []byte("v"), Headers: []kmsg.Header{
			{Key: "__dlq.errors.topic", Value: []byte(topics.Live)},
			{Key: "__dlq.errors.partition", Value: []byte("0")},
			{Key: "__dlq.errors.offset", Value: []byte(offset)},
			{Key: "markread.class", Value: []byte(class)},
			{Key: "markread.code", Value: []byte(code)},
			{Key: "markread.collapsed", Value: []byte("1")},
		}}
	}
	commit := func(g *ledger, offset int64) {
		g.commitReceived("m", 1, p.topic, p.partition, offset, time.Now())
		g.commitAccepted(p.topic, p.partition, offset, "", time.Now())
	}
	commitMetadata := func(g *ledger, finished ...uint64) {
		tracker := offsets.New(0, 0)
		for n := range int64(3) {
			tracker.Add(n, time.Now())
		}
		for _, n := range finished {
			tracker.Finish(n)
		}
		c, _ := tracker.Commit(4000)
		g.commitAccepted(p.topic, p.partition, c.Offset, c.Metadata, time.Now())
	}
	tried := func(attempts int) string {
		tracker := offsets.New(0, 0)
		n, _, _ := tracker.Add(0, time.Now())
		tracker.Attempted(n, attempts)
		c, _ := tracker.Commit(4000)
		return c.Metadata
	}
	for name, c := range map[string]struct {
		do   func(g *ledger, apply func(int64))
		want string // the beginning of what is detected; empty: nothing
	}{
		"no violation": {func(g *ledger, apply func(int64)) {
			g.letterWritten(letter("invalid", "", "1"))
			apply(20)
			commit(g, 3)
		}, ""},
		"past an unfinished event": {func(g *ledger, apply func(int64)) { apply(5); commit(g, 1) },
			"commit: mark-read/0: commit of 1, but offset 0"},
		"past an invalid one without a dead letter": {func(g *ledger, apply func(int64)) {
			apply(20)
			commit(g, 2)
		}, "commit: mark-read/0: commit of 2, but offset 1"},
		"beyond the end": {func(g *ledger, _ func(int64)) { commit(g, 4) },
			"commit: mark-read/0: commit of 4, the log has 3"},
		"not the owner": {func(g *ledger, apply func(int64)) {
			apply(20)
			g.commitReceived("other", 1, p.topic, p.partition, 1, time.Now())
		}, "commit: other commits"},
		"backwards": {func(g *ledger, apply func(int64)) {
			g.letterWritten(letter("invalid", "", "1"))
			apply(20)
			commit(g, 3)
			time.Sleep(time.Second)
			commit(g, 1)
		}, "commit: mark-read/0: commit of 1 was accepted after one of 3"},
		"two owners": {func(g *ledger, _ func(int64)) {
			g.assigned("other", 1, []topicPartition{p})
		}, "mark-read/0 belongs to two"},
		"a lost event": {func(g *ledger, apply func(int64)) {
			apply(10)
			g.letterWritten(letter("invalid", "", "1"))
			g.checkAll(200, 1, 0)
		}, "loss: mark-read/0: 0 of 3"},
		"a lost dead letter": {func(g *ledger, apply func(int64)) {
			apply(20)
			g.checkAll(200, 1, 0)
		}, "letters: no dead letter of mark-read/0 offset 1"},
		"a wrong dead letter": {func(g *ledger, _ func(int64)) {
			g.letterWritten(letter("rejected", "90012", "0"))
			g.checkAll(200, 1, 0)
		}, `letters: a dead letter "rejected"`},
		"in an outage": {func(g *ledger, _ func(int64)) {
			g.letterWritten(letter("exhausted", "http_502", "0"))
			g.checkAll(200, 1, 0)
		}, `letters: a dead letter "exhausted"`},
		"a dead letter of an unknown record": {func(g *ledger, _ func(int64)) {
			g.letterWritten(letter("invalid", "", "77"))
		}, "letters: a dead letter of"},
		"too large a T": {func(g *ledger, apply func(int64)) { apply(21); g.checkAll(200, 1, 0) },
			"order: r is read up to 21"},
		"a key in a log": {func(g *ledger, _ func(int64)) { g.checkLeak("a log", "x "+wrongKey) },
			"secret: a key in a log"},
		"a dead letter twice": {func(g *ledger, _ func(int64)) {
			g.letterWritten(letter("invalid", "", "1"))
			g.letterWritten(letter("invalid", "", "1"))
			g.checkAll(200, 1, 0)
		}, "letters: 2 copies"},
		"wrong metadata": {func(g *ledger, _ func(int64)) { commitMetadata(g, 2) },
			"metadata: mark-read/0: offset 2 is finished according to"},
		"correct metadata": {func(g *ledger, apply func(int64)) {
			g.letterWritten(letter("invalid", "", "1"))
			apply(20)
			commitMetadata(g, 1)
			commitMetadata(g, 1, 2)
			commit(g, 3)
		}, ""},
		"forgotten": {func(g *ledger, _ func(int64)) {
			g.letterWritten(letter("invalid", "", "1"))
			commitMetadata(g, 1)
			commitMetadata(g)
		}, "metadata: mark-read/0: offset 1 was finished, the commit of 0 does not contain that"},
		"attempts that were not made": {func(g *ledger, _ func(int64)) {
			g.commitAccepted(p.topic, p.partition, 0, tried(3), time.Now())
		}, "metadata: mark-read/0: offset 0 has had 3 attempts"},
		"attempts forgotten": {func(g *ledger, _ func(int64)) {
			g.tries[conversation{"r", "p"}] = 3
			g.commitAccepted(p.topic, p.partition, 0, tried(3), time.Now())
			g.commitAccepted(p.topic, p.partition, 0, tried(1), time.Now())
		}, "metadata: mark-read/0: offset 0 has had 3 attempts, the commit of 0 contains 1"},
		"a call twice": {func(g *ledger, _ func(int64)) {
			g.succeeded(success{conversation{"r", "p"}, 10})
			g.succeeded(success{conversation{"r", "p"}, 10})
			g.checkAll(200, 1, 0)
		}, "repeats: 2 calls of r at 10"},
		"two quota terms": {func(g *ledger, _ func(int64)) {
			g.terms["other"] = "another rate"
			g.assigned("other", 1, []topicPartition{{topics.Live, 1}})
		}, "cap: in generation 1 other has partitions"},
		"faster than its own rate": {func(g *ledger, apply func(int64)) {
			g.runPeriods = []*runPeriod{{from: time.Now().Add(-time.Hour), to: time.Now().
				Add(-time.Minute), rate: 200},
				{from: time.Now().Add(-time.Second), rate: 1}}
			apply(20)
			apply(20)
			g.checkAll(200, 1, 0)
		}, "cap: 2 calls arrived within a second up to"},
		"without a proof": {func(g *ledger, _ func(int64)) { g.checkAll(200, 1, 1) },
			"cap: 1 calls without a fresh proof"},
		"too fast": {func(g *ledger, apply func(int64)) {
			apply(20)
			apply(20)
			g.checkAll(1, 1, 0)
		}, "cap: 2 calls"},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Bubble(t, func(t *testing.T) {
				server := sandbox.New(sandbox.Options{AppID: appID, Admin: "administrator",
					Key: imclient.NewSecret(rightKey), OpenAccounts: true})
				im, err := imclient.New(imclient.Options{
					BaseURL: "http://" + imAddr, AppID: appID, Admin: "administrator",
					Key: imclient.Key(imclient.NewSecret(rightKey)), Transport: direct{server},
				})
				if err != nil {
					t.Fatal(err)
				}
				g := newLedger(server)
				g.publish(p, published{conversation: conversation{"r", "p"}, readTime: 10,
					value: "v"})
				g.publish(p, published{invalid: true, value: "v"})
				g.publish(p, published{conversation: conversation{"r", "p"}, readTime: 20,
					value: "v"})
				g.assigned("m", 1, []topicPartition{p})
				c.do(g, func(readTime int64) {
					if err := im.MarkRead(t.Context(), imclient.Read{Report: "r", Peer: "p",
						Time: readTime}); err != nil {
						t.Error(err)
					}
				})
				all := strings.Join(g.problems, "\n")
				if c.want == "" && all != "" || !strings.Contains(all, c.want) {
					t.Errorf("detected %q, want %q", all, c.want)
				}
			})
		})
	}
}

// direct calls a handler without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	response := httptest.NewRecorder()
	d.ServeHTTP(response, r)
	return response.Result(), nil
}
