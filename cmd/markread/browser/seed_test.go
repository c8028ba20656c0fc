package browser_test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/console/group"
)

// letter is a dead letter that a test writes to the topic without a worker.
type letter struct {
	report, peer, class, code, message string
	age                                time.Duration // how long ago it failed
	topic                              string        // where its event was read; "": the live topic
	key                                []byte        // nil: the recommended one
	headers                            []event.Header
}

// writeLetters writes dead letters, one after the other, to one partition.
func (s *stack) writeLetters(letters ...letter) {
	s.t.Helper()
	var messages []event.Message
	for i, l := range letters {
		if l.topic == "" {
			l.topic = app.DevTopics.Live
		}
		m := app.NewEvent(l.report, l.peer, new(time.Now().Add(-l.age).Unix()), time.Now())
		if l.key == nil {
			l.key = m.Key
		}
		d := brokertest.DeadLetter(event.Record{Topic: l.topic, Partition: 3, Offset: int64(i),
			Key: l.key, Value: m.Value, Headers: l.headers})
		d.Class, d.Code, d.Message, d.FailedAt = l.class, l.code, l.message,
			time.Now().Add(-l.age)
		d.Event.Replays, d.Event.EventTime = 0, d.FailedAt
		messages = append(messages, d.Encode(event.Omission{}))
	}
	to := s.kafka("").Publisher(app.DevTopics.DeadLetter)
	for len(messages) > 0 {
		n := min(len(messages), app.MaxBatch)
		if err := to.PublishTo(s.t.Context(), 0, messages[:n]...); err != nil {
			s.t.Fatal(err)
		}
		messages = messages[n:]
	}
}

// kafka returns a client with a client ID that the test closes.
func (s *stack) kafka(clientID string) *kafkaclient.Client {
	s.t.Helper()
	client, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{s.addr.Kafka},
		ClientID: clientID})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

// cli runs a command to its end and returns what it prints.
func (s *stack) cli(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var out, problems bytes.Buffer
	if status := cli.Run(ctx, args, nil, strings.NewReader(""), &out, &problems); status != 0 {
		s.t.Fatalf("markread %q: status %d: %s", args, status, &problems)
	}
	return out.String()
}

// begin runs serve until stop is called or the test ends, and returns the address that serve
// reports.
func begin(t *testing.T, serve func(ctx context.Context, started func(addr string)) error) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	addr, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, func(at string) { addr <- at }) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case at := <-addr:
		return at
	case err := <-ended:
		ended <- nil
		t.Fatalf("it does not start: %v", err)
		return ""
	}
}

// beginWorker starts one more worker, in the stack's group unless change says otherwise, that calls
// the IM server at im, and returns the address of its admin server.
func (s *stack) beginWorker(im, clientID string, change func(*app.Options)) string {
	s.t.Helper()
	client, err := imclient.New(imclient.Options{BaseURL: im, AppID: app.LocalAppID,
		Admin: app.LocalAdmin, Key: imclient.Key(imclient.NewSecret(app.LocalKey)),
		Timeout: 5 * time.Second, MaxConns: 200})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	o := app.Options{Worker: workerOptions(zerolog.Nop()), AdminAddr: "127.0.0.1:0"}
	o.Worker.Kafka, o.Worker.IM, o.Worker.Topics = s.kafka(clientID), client, app.DevTopics
	o.Worker.Group = "markread"
	change(&o)
	return begin(s.t, func(ctx context.Context, started func(string)) error {
		o.Started = started
		return app.Run(ctx, o)
	})
}

// beginConsole starts a group's console of its own, and returns its URL.
func (s *stack) beginConsole(kafka *kafkaclient.Client, change func(*app.ConsoleOptions)) string {
	s.t.Helper()
	o := app.ConsoleOptions{Addr: "127.0.0.1:0", MaxReplays: 3, Log: zerolog.Nop(), Version: "test",
		AllowReplay: true, Flags: []string{"--brokers", s.addr.Kafka},
		Group: group.Options{Kafka: kafka, Name: "markread", Topics: app.DevTopics,
			Peers: []string{s.addr.Admin}}}
	if change != nil {
		change(&o)
	}
	return "http://" + begin(s.t, func(ctx context.Context, started func(string)) error {
		o.Started = started
		return app.Console(ctx, o)
	}) + "/"
}

// view opens a view of the group's page, in a language, and waits for its heading.
func (b *tab) view(address, lang, fragment string) {
	b.Helper()
	b.open(fmt.Sprintf("%s?lang=%s#%s", address, lang, fragment))
	b.waitText("main h1", `.`)
}

//go:embed testdata/hostile.txt
var hostileText string

// payloads are texts that do harm where they are not shown as text: one JSON string in each line.
func payloads(t *testing.T) (all []string) {
	t.Helper()
	for line := range strings.Lines(hostileText) {
		var s string
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, s)
	}
	if len(all) < 200 {
		t.Fatalf("only %d", len(all))
	}
	return all
}

// shown returns how the page shows a text: what has no glyph as JSON escapes.
func shown(s string) string { return string(printable.Append(nil, []byte(s))) }

// pageElements are the elements that the console's page consists of.
const pageElements = "html head meta title link script body a header img span b nav div time " +
	"button form p main noscript footer section h1 h2 h3 dl dt dd ol ul li table thead tbody tr th " +
	"td input label select option details summary code pre progress dialog figure figcaption " +
	"canvas i"

// problems is a function for scripts that returns what is not the console's own in the page:
// elements, attributes, links; and whether it is wider than a phone.
const problems = `const problems = () => {
	const known = new Set("` + pageElements + `".split(" "));
	const own = { script: 3, img: 1, link: 3, meta: 3, style: 0 };
	const all = [...document.querySelectorAll("*")];
	const elsewhere = (s) => s && new URL(s, location.href).origin !== location.origin;
	const found = all.filter((e) => !known.has(e.localName) || elsewhere(e.getAttribute("href")) ||
		elsewhere(e.getAttribute("action")) || elsewhere(e.getAttribute("src")) ||
		[...e.attributes].some((a) => /^(on|srcdoc|formaction)/i.test(a.name))).map(describe);
	for (const [name, n] of Object.entries(own)) {
		const m = document.getElementsByTagName(name).length;
		if (m !== n) found.push(m + " of " + name);
	}
	if (window.hacked !== undefined) found.push("executed");
	const wide = document.documentElement.scrollWidth - innerWidth;
	if (wide > 0) found.push("too wide by " + wide);
	return found;
};
const pause = (ms) => new Promise((r) => setTimeout(r, ms));
const go = (fragment) => new Promise((done) => {
	const before = location.hash;
	addEventListener("hashchange", done, { once: true });
	location.hash = fragment;
	if (location.hash === before) done();
});
`

// inert fails the test if the page has problems.
func (b *tab) inert(where string) {
	b.Helper()
	for _, p := range eval[[]string](b, `() => { `+problems+` return problems(); }`) {
		b.Errorf("%s: %s", where, p)
	}
}

// inertWith calls a function of the page with each text, and fails the test if it returns text that
// says what is wrong, or if the page has problems then.
func (b *tab) inertWith(texts []string, function string) {
	b.Helper()
	const atATime = 20 // a call has a time limit
	for some := range slices.Chunk(texts, atATime) {
		for _, p := range eval[[]string](b, `async (texts) => {
			`+problems+`
			const check = `+function+`;
			const all = [];
			for (const text of texts) {
				const wrong = await check(text);
				for (const p of [wrong ?? "", ...problems()].filter(Boolean))
					all.push(JSON.stringify(text).slice(0, 100) + ": " + p);
			}
			return all;
		}`, some) {
			b.Error(p)
		}
	}
}

// cells returns the texts of elements exactly as they are in the document.
func (b *tab) cells(selector string) []string {
	b.Helper()
	return eval[[]string](b, `(s) => [...document.querySelectorAll(s)].map((e) => e.textContent)`,
		selector)
}
