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

// workerRun is one run of one worker, from its start to its shutdown or death.
type workerRun struct {
	*worker.Worker
	name   string
	rate   int
	freeze freeze
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned and its clients are closed
	err    error         // what it returned
}

// startWorker starts the worker of a slot, which must be empty.
func (s *simulation) startWorker(slot int) {
	s.starts[slot]++
	name := fmt.Sprintf("w%d.%d", slot, s.starts[slot])
	log := zerolog.New(s.logs).With().Str("worker", name).Logger().Hook(s.logs)
	rate := int(s.rate.Load())
	transport := imclient.NewTransport(imTimeout, rate)
	transport.Proxy = nil
	transport.DialContext = s.network.dialer(name, serviceIM, imAddr)
	h := &workerRun{name: name, rate: rate, done: make(chan struct{})}
	im, err := imclient.New(imclient.Options{
		BaseURL: "http://" + imAddr, AppID: appID, Admin: "administrator", Key: s.key,
		Timeout: imTimeout,
		Transport: &callWatch{pool: transport, ledger: s.ledger, name: name, freeze: &h.freeze,
			inFlight: map[conversation]int{}},
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
	var stopAt atomic.Int64 // when its shutdown began
	h.Worker, h.cancel = w, func() { stopAt.Store(time.Now().UnixNano()); cancel() }
	ended := s.recordRun(h)
	go func() {
		defer close(h.done)
		h.err = w.Run(ctx)
		if ctx.Err() == nil {
			s.ledger.Problem("%s: Run returned by itself: %v", name, h.err)
		}
		ended()
		s.checkStop(h, time.Since(time.Unix(0, stopAt.Load())))
		im.Close()
		kafka.Close()
		s.checkExposed(h)
	}()
	s.running[slot] = h
	s.runs = append(s.runs, h)
}

// longestStop is the drain timeout, one commit and one attempt to leave the group; the process has
// its own limit.
const longestStop = 10*time.Second + 5*time.Second + 3*time.Second

// recordRun notes that a worker runs, until ended is called.
func (s *simulation) recordRun(h *workerRun) (ended func()) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	t := &runPeriod{from: time.Now(), rate: h.rate}
	s.ledger.runPeriods = append(s.ledger.runPeriods, t)
	return func() {
		s.ledger.mu.Lock()
		defer s.ledger.mu.Unlock()
		t.to = time.Now()
	}
}

func (s *simulation) checkStop(h *workerRun, took time.Duration) {
	if h.freeze.everFrozen() {
		return
	}
	s.stats.mu.Lock()
	s.stats.stop = max(s.stats.stop, took)
	s.stats.mu.Unlock()
	if took > longestStop+500*time.Millisecond {
		s.ledger.Problem("%s: the stop took %v", h.name, took)
	}
}

// checkExposed searches what the worker shows for secrets.
func (s *simulation) checkExposed(h *workerRun) {
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
	s.ledger.checkLeak("the state of "+h.name, string(state))
	s.ledger.checkLeak("the metrics of "+h.name, text.String())
}

// stopWorker stops the worker of a slot as SIGTERM would, and does not wait.
func (s *simulation) stopWorker(slot int) *workerRun {
	h := s.running[slot]
	s.running[slot] = nil
	h.cancel()
	return h
}

// killWorker kills the worker of a slot: from now on nothing that it does reaches anything.
func (s *simulation) killWorker(slot int) {
	h := s.running[slot]
	s.running[slot] = nil
	s.network.kill(h.name)
	h.cancel()
}

// key returns the key that an operator has currently set.
func (s *simulation) key() (imclient.Secret, error) {
	if s.wrong.Load() {
		return imclient.NewSecret(wrongKey), nil
	}
	return imclient.NewSecret(rightKey), nil
}

// callWatch sees each call before it is sent. A worker must have at most one call of a conversation
// in flight.
type callWatch struct {
	pool   *http.Transport
	ledger *ledger
	name   string
	freeze *freeze

	mu       sync.Mutex
	inFlight map[conversation]int
}

func (w *callWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	c := readCall(r)
	w.ledger.noteCall(c.conversation, r.URL.Query().Get("usersig"))
	w.mu.Lock()
	if w.inFlight[c.conversation]++; w.inFlight[c.conversation] > 1 {
		w.ledger.Problem("order: %s has two calls of %s in flight", w.name, c.report)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.inFlight[c.conversation]--; w.inFlight[c.conversation] == 0 {
			delete(w.inFlight, c.conversation)
		}
	}()
	response, err := w.pool.RoundTrip(w.freeze.wait(r))
	if err != nil {
		return nil, err
	}
	w.readResponse(c, response)
	return response, nil
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

// readResponse reads the response before the client does, and notes a success.
func (w *callWatch) readResponse(c success, response *http.Response) {
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	rest := io.Reader(bytes.NewReader(text))
	if err != nil {
		rest = io.MultiReader(rest, errReader{err})
	}
	response.Body = io.NopCloser(rest)
	var verdict struct{ ErrorCode *int }
	if err == nil && response.StatusCode == http.StatusOK &&
		json.Unmarshal(text, &verdict) == nil &&
		verdict.ErrorCode != nil && *verdict.ErrorCode == 0 {
		w.ledger.succeeded(c)
	}
}

// errReader is a body that ends with an error.
type errReader struct{ error }

func (f errReader) Read([]byte) (int, error) { return 0, f.error }

// noteCall notes a call and the signature that it carries.
func (g *ledger) noteCall(c conversation, signature string) {
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

// tail returns the last lines, each cut to a readable length, without those about single dead
// letters.
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
