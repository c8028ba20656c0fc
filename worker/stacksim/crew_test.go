package stacksim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/rs/zerolog"

	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker"
)

// hand is one run of one worker, from its start to its stop or death.
type hand struct {
	*worker.Worker
	name   string
	rate   int
	stall  stall
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned, and all is closed
	err    error         // what it returned
}

// hire starts the worker of a place; the place must be empty.
func (s *simulation) hire(place int) {
	s.hires[place]++
	name := fmt.Sprintf("w%d.%d", place, s.hires[place])
	log := zerolog.New(s.logs).With().Str("worker", name).Logger().Hook(s.logs)
	rate := int(s.rate.Load())
	pool := imclient.NewTransport(imTimeout, rate)
	pool.Proxy = nil
	pool.DialContext = s.network.dialer(name, serviceIM, imAddr)
	h := &hand{name: name, rate: rate, done: make(chan struct{})}
	im, err := imclient.New(imclient.Options{
		BaseURL: "http://" + imAddr, AppID: appID, Admin: "administrator", Key: s.key,
		Timeout: imTimeout,
		Transport: &callWatch{pool: pool, ledger: s.ledger, name: name, stall: &h.stall,
			out: map[conversation]int{}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	kafka, err := kafkaclient.New(kafkaclient.Options{
		Brokers: []string{s.broker.Addr()}, ClientID: name,
		Dial: s.network.dialer(name, serviceKafka, kafkaAddr),
		Log:  log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	w, err := worker.New(worker.Options{
		Kafka: kafka, IM: im, Topics: topics, Group: "markread",
		Rate: rate, MaxPending: s.plan.pending, MaxRejected: 95, Attempts: attempts,
		Backoff:     imclient.NewBackoff(200*time.Millisecond, 30*time.Second),
		CallTimeout: 5 * time.Second, CommitEvery: time.Second, DrainTimeout: 10 * time.Second,
		Log:     log,
		Version: "simulated",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var asked atomic.Int64 // when it was told to stop
	h.Worker, h.cancel = w, func() { asked.Store(time.Now().UnixNano()); cancel() }
	over := s.employ(h)
	go func() {
		defer close(h.done)
		h.err = w.Run(ctx)
		if ctx.Err() == nil {
			s.ledger.Problem("%s: Run returned by itself: %v", name, h.err)
		}
		over()
		s.stopped(h, time.Since(time.Unix(0, asked.Load())))
		im.Close()
		kafka.Close()
		s.look(h)
	}()
	s.crew[place] = h
	s.everyone = append(s.everyone, h)
}

// longestStop is the drain timeout, one commit and one try to leave the group; the process has a
// limit of its own.
const longestStop = 10*time.Second + 5*time.Second + 3*time.Second

// employ notes that a worker runs, until over is called.
func (s *simulation) employ(h *hand) (over func()) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	t := &tenure{from: time.Now(), rate: h.rate}
	s.ledger.tenures = append(s.ledger.tenures, t)
	return func() {
		s.ledger.mu.Lock()
		defer s.ledger.mu.Unlock()
		t.to = time.Now()
	}
}

func (s *simulation) stopped(h *hand, took time.Duration) {
	if h.stall.ever() {
		return
	}
	s.tally.mu.Lock()
	s.tally.stop = max(s.tally.stop, took)
	s.tally.mu.Unlock()
	if took > longestStop+500*time.Millisecond {
		s.ledger.Problem("%s: the stop took %v", h.name, took)
	}
}

// look searches what the worker shows for secrets.
func (s *simulation) look(h *hand) {
	state, err := json.Marshal(h.State())
	if err != nil {
		s.t.Error(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(h)
	families, err := registry.Gather()
	if err != nil {
		s.ledger.Problem("%s: metrics: %v", h.name, err)
	}
	var text strings.Builder
	for _, f := range families {
		_, _ = expfmt.MetricFamilyToText(&text, f)
	}
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	s.ledger.leaks("the state of "+h.name, string(state))
	s.ledger.leaks("the metrics of "+h.name, text.String())
}

// dismiss stops the worker of a place as SIGTERM would, and does not wait.
func (s *simulation) dismiss(place int) *hand {
	h := s.crew[place]
	s.crew[place] = nil
	h.cancel()
	return h
}

// strike kills the worker of a place: from here on nothing that it does reaches anybody.
func (s *simulation) strike(place int) {
	h := s.crew[place]
	s.crew[place] = nil
	s.network.kill(h.name)
	h.cancel()
}

// key is the key that an operator has set at the moment.
func (s *simulation) key() (imclient.Secret, error) {
	if s.wrong.Load() {
		return imclient.NewSecret(wrongKey), nil
	}
	return imclient.NewSecret(rightKey), nil
}

// callWatch sees each call before it is sent. Within one worker there must be one at a time for a
// conversation.
type callWatch struct {
	pool   *http.Transport
	ledger *ledger
	name   string
	stall  *stall

	mu  sync.Mutex
	out map[conversation]int
}

func (w *callWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	c := readCall(r)
	w.ledger.called(c.conversation, r.URL.Query().Get("usersig"))
	w.mu.Lock()
	if w.out[c.conversation]++; w.out[c.conversation] > 1 {
		w.ledger.Problem("order: %s has two calls of %s out", w.name, c.report)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.out[c.conversation]--; w.out[c.conversation] == 0 {
			delete(w.out, c.conversation)
		}
	}()
	answer, err := w.pool.RoundTrip(w.stall.wait(r))
	if err != nil {
		return nil, err
	}
	w.hear(c, answer)
	return answer, nil
}

func (w *callWatch) CloseIdleConnections() { w.pool.CloseIdleConnections() }

func readCall(r *http.Request) success {
	body, err := r.GetBody()
	if err != nil {
		return success{}
	}
	var text struct {
		Report_Account, Peer_Account string
		MsgReadTime                  json.RawMessage // a number, or a text
	}
	_ = json.NewDecoder(body).Decode(&text)
	readTime, _ := strconv.ParseInt(strings.Trim(string(text.MsgReadTime), `"`), 10, 64)
	return success{conversation{text.Report_Account, text.Peer_Account}, readTime}
}

// hear reads the answer before the client does, and notes a success.
func (w *callWatch) hear(c success, answer *http.Response) {
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	rest := io.Reader(bytes.NewReader(text))
	if err != nil {
		rest = io.MultiReader(rest, failing{err})
	}
	answer.Body = io.NopCloser(rest)
	var verdict struct{ ErrorCode *int }
	if err == nil && answer.StatusCode == http.StatusOK && json.Unmarshal(text, &verdict) == nil &&
		verdict.ErrorCode != nil && *verdict.ErrorCode == 0 {
		w.ledger.succeeded(c)
	}
}

// failing is a body that breaks off.
type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// called notes a call and the signature that it carries.
func (g *ledger) called(c conversation, signature string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tries[c]++
	g.signatures[signature] = true
}

// logbook keeps what the workers log, with the virtual time in front.
type logbook struct {
	began time.Time
	mu    sync.Mutex
	text  bytes.Buffer
}

func (b *logbook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(line)
}

func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Run is zerolog's hook.
func (b *logbook) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str("at", time.Since(b.began).Round(time.Millisecond).String())
}

// tail is the last lines, each cut to a readable length, without those about single letters.
func (b *logbook) tail(lines int) string {
	var last []string
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, `"dead-lettered"`) {
			continue
		}
		if line = strings.TrimSpace(line); len(line) > 300 {
			line = line[:200] + " … " + line[len(line)-100:]
		}
		last = append(last, line)
	}
	return strings.Join(last[max(0, len(last)-lines):], "\n")
}

var _ io.Writer = (*logbook)(nil)
