package browser_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/consumer/kafkaclient"
	"markread/imclient"
)

// gate lets a replay through until it has resolved its first part; then it blocks the requests that
// publish events, until it is opened.
type gate struct {
	opened chan struct{}
	mu     sync.Mutex
	closed bool
}

// gatedConn passes its requests through the gate.
type gatedConn struct {
	net.Conn
	gate  *gate
	ended chan struct{}
	end   func()
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	ended := make(chan struct{})
	return &gatedConn{conn, g, ended, sync.OnceFunc(func() { close(ended) })}, err
}

func (c *gatedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// Write looks for requests of the type produce: after their size they have two bytes that are 0.
func (c *gatedConn) Write(b []byte) (int, error) {
	if len(b) > 6 && b[4] == 0 && b[5] == 0 {
		c.gate.mu.Lock()
		c.gate.closed = c.gate.closed || bytes.Contains(b, []byte(app.DevTopics.DeadLetter))
		wait := c.gate.closed && bytes.Contains(b, []byte(app.DevTopics.Backfill))
		c.gate.mu.Unlock()
		if wait {
			select {
			case <-c.gate.opened:
			case <-c.ended:
			}
		}
	}
	return c.Conn.Write(b)
}

// A replay is planned, confirmed by its number, stopped in the middle, and planned again and
// carried out to its end.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	const n = 12_000 // a replay resolves 5,000 at a time
	var all []letter
	for i := range n {
		all = append(all, letter{report: fmt.Sprint("r", i), peer: "bob", class: "rejected",
			code: "90048", age: time.Minute})
	}
	s.writeLetters(all...)
	passes := &gate{opened: make(chan struct{})}
	open := sync.OnceFunc(func() { close(passes.opened) })
	t.Cleanup(open)
	kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{s.addr.Kafka},
		Dial: passes.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	const token = "a token of a console"
	console := s.beginConsole(kafka, func(o *app.ConsoleOptions) {
		o.Token = imclient.NewSecret(token)
	})
	target := strings.TrimSuffix(strings.TrimPrefix(console, "http://"), "/")
	as := func(user string) *tab {
		b := newTab(t)
		b.view(proxied(t, target, "/", http.Header{"Authorization": {"Bearer " + token},
			"X-Forwarded-User": {user}, "X-Forwarded-Proto": {"https"}}), "en", "dead-letters")
		b.waitLetters("12,000")
		return b
	}
	plan := func(b *tab, letters int) {
		b.click("button >> Plan a replay")
		b.waitText("form >> Type", fmt.Sprintf(`(?s)Conversations\s+\S+.*Minutes.*\d.*To the topic\s+`+
			`mark-read-backfill.*Type %d to replay`, letters))
	}
	alice, carol := as("alice"), as("carol")
	plan(alice, n)
	alice.filtered(0, "state", "parked")
	alice.waitGone("form >> Type") // another filter needs another plan
	alice.choose("select[name=state]", "open")
	alice.waitLetters("12,000")
	plan(alice, n)
	plan(carol, n)
	start := `() => find("button >> Start the replay").disabled`
	for _, wrong := range []string{"", "7", "12,000", "012000", "120000"} {
		alice.write("#retype", wrong)
		if !eval[bool](alice, start) {
			t.Errorf("%q can start a replay of %d", wrong, n)
		}
	}
	refused := eval[string](alice, `() => fetch("api/dead-letters", { method: "POST", body: "{}",
		headers: { "Content-Type": "application/json" } }).then(() =>
		fetch("api/replay/plan", { method: "POST", body: JSON.stringify({ state: "open" }),
			headers: { "Content-Type": "application/json" } })).then((r) => r.json()).then((plan) =>
		fetch("api/replay/start", { method: "POST", body: JSON.stringify({ plan: plan.plan, count: 7 }),
			headers: { "Content-Type": "application/json" } })).then((r) => r.text())`)
	alice.allow("status of 400")
	if !strings.Contains(refused, "the plan has 12000 dead letters, not 7") {
		t.Errorf("a wrong count: %s", refused)
	}
	alice.write("#retype", "12000")
	alice.click("button >> Start the replay")
	alice.waitText(".progress", `Replay is running · 5,000 of 12,000 · by alice`)
	alice.screenshot("running")

	carol.write("#retype", "12000")
	carol.click("button >> Start the replay")
	carol.allow("status of 409")
	carol.waitText(".problem", `another replay is running`)
	carol.waitText(".progress", `by alice`)
	carol.click("button >> Stop") // anybody may
	carol.waitTrue(`() => fetch("api/overview").then((r) => r.json()).then((o) =>
		o.replay.stopped_by === "carol")`)
	open()
	// The part in progress is finished or, where the machine is slow, abandoned. The third
	// one is not begun.
	left := 2_000
	stopped := alice.waitText(".progress", `Replay was stopped · (5|10),000 of 12,000`)
	if strings.Contains(stopped, " 5,000 of") {
		left = 7_000
	}
	alice.waitLetters(fmt.Sprintf("%d,000", left/1000))
	plan(alice, left)
	alice.write("#retype", fmt.Sprint(left))
	alice.press("\r") // submits
	alice.waitText(".progress", `Replay is done · (2,000 of 2,000|7,000 of 7,000) · by alice`)
	alice.waitLetters("0")
	alice.filtered(0, "state", "parked")
	alice.choose("select[name=state]", "replayed")
	alice.waitLetters("12,000")

	alice.click("nav a >> Overview")
	alice.waitText(".happened", `(?s)dead letters: [27]000.*dead letters: 12000.*dead letters: 12000`)
	events := alice.text(".happened")
	for _, who := range []string{"alice", "carol"} {
		if !strings.Contains(events, who) {
			t.Errorf("%s is not in what happened: %s", who, events)
		}
	}
	alice.screenshot("happened")
}
